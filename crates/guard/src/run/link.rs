//! The connection to the agent, which is never waited for.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::frame::{FrameError, Frames, encode};
use crate::wire::{FromGuard, Refusal, Reply, Request};

/// Unread output beyond which an agent counts as broken, in bytes.
const OUTPUT_MAX: usize = 16 << 20;
/// Input taken in per turn, in bytes.
const INPUT_MAX: usize = 1 << 20;

/// A request's number, and the request or why it is none.
pub(crate) type Numbered = (u64, Result<Request, String>);

#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    input: Frames,
    output: Vec<u8>,
    ended: bool,
    broken: Option<String>,
}

impl Link {
    /// Speaks over `stream`.
    pub fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (input, output) = (Frames::default(), Vec::new());
        Ok(Self { stream, input, output, ended: false, broken: None })
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub fn raw(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Takes in what has arrived.
    pub fn receive(&mut self) {
        let mut bytes = [0_u8; 16 * 1024];
        let mut total = 0;
        while total < INPUT_MAX {
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    self.ended = true;
                    return;
                }
                Ok(count) => {
                    self.input.push(&bytes[..count]);
                    total += count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.ended = true;
                    return;
                }
            }
        }
    }

    /// The next request; an error if nothing can be understood any more.
    pub fn next_request(&mut self) -> Result<Option<Numbered>, String> {
        if let Some(why) = self.broken.take() {
            return Err(why);
        }
        let value: serde_json::Value = match self.input.decode() {
            Ok(Some(value)) => value,
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        numbered(&value).map(Some)
    }

    /// Sends, or keeps for later.
    pub fn send(&mut self, message: &FromGuard) {
        let frame = match (encode(message), message) {
            (Ok(frame), _) => Ok(frame),
            // The caller gets an answer even if it cannot be the right one.
            (Err(error), FromGuard::Reply { id, .. }) => encode(&refused(*id, &error)),
            (Err(error), FromGuard::Event(_)) => Err(error),
        };
        match frame {
            Ok(frame) => self.output.extend(frame),
            Err(error) => self.broken = Some(error.to_string()),
        }
        self.flush();
        if self.output.len() > OUTPUT_MAX {
            self.broken = Some("it does not read what it is told".into());
        }
    }

    /// Writes what can be written now.
    pub fn flush(&mut self) {
        let mut written = 0;
        while written < self.output.len() {
            match self.stream.write(&self.output[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.ended = true;
                    break;
                }
            }
        }
        self.output.drain(..written);
    }

    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether the agent closed its end.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

/// Its own number, so that a request of a newer version can be refused instead of the agent.
pub(crate) fn numbered(value: &serde_json::Value) -> Result<Numbered, String> {
    let id = value.get("id").and_then(serde_json::Value::as_u64);
    let id = id.ok_or("a request has no number")?;
    let request = value.get("request").cloned().unwrap_or_default();
    Ok((id, serde_json::from_value(request).map_err(|error| error.to_string())))
}

fn refused(id: u64, error: &FrameError) -> FromGuard {
    let refusal = Refusal::System { what: "write the reply".into(), error: error.to_string() };
    FromGuard::Reply { id, reply: Reply::Refused(refusal) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Link, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Link::new(near).unwrap(), far)
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
    }

    #[test]
    fn an_unknown_request_is_refused_by_its_number() {
        let (mut link, mut far) = pair();
        far.write_all(&frame(br#"{"id":7,"request":{"Levitate":{"height":3}}}"#)).unwrap();
        far.write_all(&frame(br#"{"id":8,"request":"Status"}"#)).unwrap();
        link.receive();
        let (id, request) = link.next_request().unwrap().unwrap();
        assert!(id == 7 && request.unwrap_err().contains("Levitate"));
        assert_eq!(link.next_request().unwrap(), Some((8, Ok(Request::Status))));
        assert_eq!(link.next_request().unwrap(), None);
        assert!(!link.ended());
    }

    #[test]
    fn garbage_breaks_the_connection() {
        for bad in [frame(b"{]"), frame(br#"{"request":"Status"}"#), vec![0xff; 9]] {
            let (mut link, mut far) = pair();
            far.write_all(&bad).unwrap();
            link.receive();
            assert!(link.next_request().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_agent_that_does_not_read_is_not_waited_for() {
        let (mut link, far) = pair();
        let reply = Reply::Refused(Refusal::Unknown { why: "x".repeat(1 << 20) });
        for id in 0..20 {
            link.send(&FromGuard::Reply { id, reply: reply.clone() });
        }
        assert!(link.has_output());
        assert!(link.next_request().is_err(), "kept more than it may");
        drop(far);
    }
}
