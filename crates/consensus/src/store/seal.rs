//! Sealed records: version byte, payload, CRC32 over tree, key and both.
//!
//! Place: every value in sled. Pure.
//! Invariants: the key takes part in the checksum, so that a value which turns up under another key
//! is refused. Failure: `Unsealable` names what is wrong; nothing is ever skipped.

use serde::{Serialize, de::DeserializeOwned};

/// Version of the records that this howdah writes.
pub const RECORD_VERSION: u8 = 1;

/// A record cannot be read back whole.
#[derive(Debug, thiserror::Error)]
pub enum Unsealable {
    /// Shorter than any record.
    #[error("it is cut short ({0} bytes)")]
    Short(usize),
    /// Written by a newer howdah.
    #[error("it has record version {0}, this howdah reads {RECORD_VERSION}")]
    Version(u8),
    /// The checksum differs.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum is right, the content is no record.
    #[error("it does not decode: {0}")]
    Decode(#[from] postcard::Error),
    /// More stands there than this howdah knows of.
    #[error("{0} bytes stand behind its content")]
    Longer(usize),
}

fn checksum(key: &[u8], sealed: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(sealed);
    hasher.finalize()
}

/// Seals `value` for `key`.
///
/// # Errors
/// `postcard::Error` if it has no encoded form.
pub fn seal<T: Serialize>(key: &[u8], value: &T) -> Result<Vec<u8>, postcard::Error> {
    let mut sealed = postcard::to_extend(value, vec![RECORD_VERSION])?;
    let sum = checksum(key, &sealed);
    sealed.extend_from_slice(&sum.to_le_bytes());
    Ok(sealed)
}

/// Checks and opens what `seal` made for `key`.
///
/// # Errors
/// `Unsealable` unless it is exactly that.
pub fn unseal<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, Unsealable> {
    let Some((sealed, sum)) = bytes.split_last_chunk::<4>() else {
        return Err(Unsealable::Short(bytes.len()));
    };
    let Some((version, payload)) = sealed.split_first() else {
        return Err(Unsealable::Short(bytes.len()));
    };
    if checksum(key, sealed) != u32::from_le_bytes(*sum) {
        return Err(Unsealable::Checksum);
    }
    if *version != RECORD_VERSION {
        return Err(Unsealable::Version(*version));
    }
    let (value, rest) = postcard::take_from_bytes(payload)?;
    if rest.is_empty() { Ok(value) } else { Err(Unsealable::Longer(rest.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let sealed = seal(b"log7", &("payload", 7u64)).unwrap();
        assert_eq!(unseal::<(String, u64)>(b"log7", &sealed).unwrap(), ("payload".to_owned(), 7));
        assert!(unseal::<(String, u64)>(b"log8", &sealed).is_err(), "taken under another key");
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal::<(String, u64)>(b"log7", &damaged).is_err(), "bit {bit} unnoticed");
        }
        for len in 0..sealed.len() {
            assert!(unseal::<(String, u64)>(b"log7", &sealed[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn more_than_a_record_is_none() {
        let sealed = seal(b"k", &(7u64, 0u8)).unwrap();
        assert!(matches!(unseal::<u64>(b"k", &sealed), Err(Unsealable::Longer(1))));
    }

    #[test]
    fn a_newer_record_is_named_as_such() {
        let mut sealed = vec![RECORD_VERSION + 1, 0];
        let sum = checksum(b"k", &sealed);
        sealed.extend_from_slice(&sum.to_le_bytes());
        assert!(matches!(unseal::<u8>(b"k", &sealed), Err(Unsealable::Version(2))));
    }
}
