//! Messages on a byte stream: four bytes of length, most significant first, then JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message, in bytes; a listing of ten thousand processes fits.
pub const FRAME_MAX: usize = 4 << 20;

/// A byte stream is not a sequence of messages. The connection is beyond repair.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A message is too long.
    #[error("a message of {length} bytes; at most {FRAME_MAX} are allowed")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
    },
    /// A message does not say what it should.
    #[error("a message is not understood: {0}")]
    Json(#[from] serde_json::Error),
}

/// A message as bytes for the stream.
///
/// # Errors
/// If it is too long or cannot be written as JSON (a path that is not UTF-8).
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= FRAME_MAX);
    let length = length.ok_or(FrameError::TooLong { length: body.len() })?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Puts arriving bytes together to messages.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    taken: usize,
}

impl Frames {
    /// Takes in bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The body of the next message that is complete.
    ///
    /// # Errors
    /// If the length cannot be right.
    pub fn next_body(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.bytes[self.taken..];
        let Some((head, body)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > FRAME_MAX {
            return Err(FrameError::TooLong { length });
        }
        if body.len() < length {
            return Ok(None);
        }
        let start = self.taken + 4;
        self.taken = start + length;
        Ok(Some(&self.bytes[start..self.taken]))
    }

    /// The next message that is complete.
    ///
    /// # Errors
    /// If the length cannot be right, or the body is not such a message.
    pub fn decode<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        match self.next_body()? {
            Some(body) => Ok(Some(serde_json::from_slice(body)?)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use howdah_core::{BootInstant, Epoch};

    use super::*;
    use crate::wire::{FromAgent, FromGuard, Request};

    fn arm() -> FromAgent {
        let deadline = BootInstant(12_345_678_901_234);
        let request = Request::Arm { epoch: Epoch(7), renewals: 3, deadline, cut: true };
        FromAgent { id: 9, request }
    }

    #[test]
    fn messages_survive_any_splitting() {
        let status = FromAgent { id: 10, request: Request::Status };
        let mut bytes = encode(&arm()).unwrap();
        bytes.extend(encode(&status).unwrap());
        for step in 1..bytes.len() {
            let mut frames = Frames::default();
            let mut seen: Vec<FromAgent> = Vec::new();
            for part in bytes.chunks(step) {
                frames.push(part);
                while let Some(message) = frames.decode().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [arm(), status.clone()], "in parts of {step} bytes");
        }
    }

    #[test]
    fn a_truncated_message_is_awaited_not_taken() {
        let bytes = encode(&arm()).unwrap();
        for end in 0..bytes.len() {
            let mut frames = Frames::default();
            frames.push(&bytes[..end]);
            assert!(frames.decode::<FromAgent>().unwrap().is_none(), "after {end} bytes");
        }
    }

    #[test]
    fn an_impossible_length_is_refused_before_anything_is_kept_for_it() {
        let mut frames = Frames::default();
        frames.push(&u32::MAX.to_be_bytes());
        assert!(matches!(frames.decode::<FromAgent>(), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for length in 0..400_usize {
            let mut body = Vec::new();
            for _ in 0..length {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                body.push((state >> 56) as u8);
            }
            let mut frames = Frames::default();
            frames.push(&u32::try_from(length).unwrap().to_be_bytes());
            frames.push(&body);
            assert!(matches!(frames.decode::<FromGuard>(), Err(FrameError::Json(_))));
        }
    }

    #[test]
    fn fields_of_a_newer_version_are_ignored() {
        let body = br#"{"id":1,"colour":"red","request":{"Hello":{"version":2,"mood":"good"}}}"#;
        let mut frames = Frames::default();
        frames.push(&u32::try_from(body.len()).unwrap().to_be_bytes());
        frames.push(body);
        let hello = FromAgent { id: 1, request: Request::Hello { version: 2 } };
        assert_eq!(frames.decode::<FromAgent>().unwrap(), Some(hello));
    }
}
