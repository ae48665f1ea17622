//! Bearer tokens: drawn, written, and known again by their hash. Pure but for the drawing.
//!
//! A token says of which cluster it is, as `howdah_SCOPE_HEX`: whoever has it shows it to members of that cluster alone.
//! Invariant: the hash of 256 random bits can be looked up by nobody who does not have the token; a slow hash, which a
//! password needs, would only cost the member that checks it.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

/// What every token begins with: scanners for secrets look for such a word.
pub const PREFIX: &str = "howdah_";
/// Random bytes in one.
const BYTES: usize = 32;

/// There is no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

/// A new token of this cluster.
///
/// # Errors
/// If the system gives no random bytes.
pub fn draw(scope: &str) -> Result<String, NoRandomness> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(format!("{PREFIX}{scope}_{}", hex(&bytes)))
}

/// The cluster that a token is of; none: it is no token.
pub fn scope(token: &str) -> Option<&str> {
    let (scope, random) = token.strip_prefix(PREFIX)?.rsplit_once('_')?;
    let whole = random.len() == 2 * BYTES && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    (whole && !scope.is_empty()).then_some(scope)
}

/// What is kept of a token.
pub fn hash(token: &str) -> String {
    hex(digest(&SHA256, token.as_bytes()).as_ref())
}

/// Whether two texts are the same, in a time that does not depend on where they differ.
pub fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let (one, other) = (draw("my_cluster").unwrap(), draw("my_cluster").unwrap());
        assert_ne!(one, other);
        assert_eq!(scope(&one), Some("my_cluster"));
        for wrong in ["", "howdah_", "howdah_main", "main_00", &one[..one.len() - 1], &one[1..]] {
            assert_eq!(scope(wrong), None, "{wrong}");
        }
        assert_eq!(hash(&one), hash(&one));
        assert!(same(&hash(&one), &hash(&one)) && !same(&hash(&one), &hash(&other)));
        assert!(!same("", "a"));
        // Of NIST: SHA-256 of "abc".
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
