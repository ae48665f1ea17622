//! The first packets of a client, before a session begins. Pure.
//!
//! Source: PostgreSQL's documentation, "Message Formats": StartupMessage, SSLRequest,
//! GSSENCRequest, CancelRequest; a client that negotiates TLS directly begins with a TLS record.

/// Longest packet that PostgreSQL takes here, bytes.
pub const LONGEST: usize = 10_000;
/// Longest CancelRequest, bytes: a key has 256 at most.
const LONGEST_CANCEL: usize = 12 + 256;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
/// First byte of a TLS record that holds a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client wants first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Encryption: SSLRequest or GSSENCRequest. One byte answers.
    Encrypt,
    /// A session.
    Startup,
    /// To cancel what another session does. Nothing answers.
    Cancel,
    /// TLS without a request for it.
    Tls,
}

/// Why it is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Garbage {
    /// A browser, or a health check made for HTTP.
    #[error("this is a PostgreSQL port, and an HTTP request came")]
    Http,
    /// No startup packet has this length.
    #[error("invalid length of startup packet: {0} bytes")]
    Length(u32),
}

/// Reads what came so far. `Ok(None)`: more bytes are needed. With the kind comes the length of the
/// packet, which has to be waited for; a TLS record's is left open.
///
/// # Errors
/// If no more bytes can make a packet of it.
pub fn first(bytes: &[u8]) -> Result<Option<(First, usize)>, Garbage> {
    match bytes.first() {
        None => return Ok(None),
        Some(&TLS_HANDSHAKE) => return Ok(Some((First::Tls, bytes.len()))),
        Some(_) => {}
    }
    let Some(length) = word(bytes, 0) else { return Ok(None) };
    if is_http(bytes) {
        return Err(Garbage::Http);
    }
    if (length as usize) < 8 || length as usize > LONGEST {
        return Err(Garbage::Length(length));
    }
    let Some(code) = word(bytes, 4) else { return Ok(None) };
    let kind = match code {
        SSL | GSS => First::Encrypt,
        CANCEL => First::Cancel,
        _ => First::Startup,
    };
    let fits = match kind {
        First::Encrypt => length == 8,
        First::Cancel => (13..=LONGEST_CANCEL).contains(&(length as usize)),
        First::Startup | First::Tls => true,
    };
    if fits { Ok(Some((kind, length as usize))) } else { Err(Garbage::Length(length)) }
}

fn is_http(bytes: &[u8]) -> bool {
    [&b"GET "[..], b"HEAD", b"POST", b"OPTI", b"PUT ", b"PRI "].iter().any(|m| bytes.starts_with(m))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        packet.extend(code.to_be_bytes());
        packet.extend(body);
        packet
    }

    #[test]
    fn each_kind_is_known_by_its_code() {
        let startup = packet(0x0003_0000, b"user\0a\0\0");
        let cases = [
            (packet(SSL, b""), First::Encrypt, 8),
            (packet(GSS, b""), First::Encrypt, 8),
            (packet(CANCEL, &[1; 8]), First::Cancel, 16),
            (packet(CANCEL, &[1; 36]), First::Cancel, 44),
            (startup.clone(), First::Startup, startup.len()),
            (vec![0x16, 3, 1], First::Tls, 3),
        ];
        for (bytes, kind, length) in cases {
            assert_eq!(first(&bytes), Ok(Some((kind, length))), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_packet_is_told_by_name() {
        assert_eq!(first(b"GET / HTTP/1.1\r\n"), Err(Garbage::Http));
        assert_eq!(first(&[0, 0, 0, 7]), Err(Garbage::Length(7)));
        assert_eq!(first(&[0, 1, 0, 0]), Err(Garbage::Length(65536)));
        assert_eq!(first(&packet(SSL, b"x")), Err(Garbage::Length(9)));
        assert_eq!(first(&packet(CANCEL, b"")), Err(Garbage::Length(8)));
        assert_eq!(first(b"SSH-2.0"), Err(Garbage::Length(0x5353_482d)));
    }

    proptest! {
        #[test]
        fn what_a_prefix_says_holds_for_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..40), cut in 0usize..40) {
            let whole = first(&bytes);
            match first(&bytes[..cut.min(bytes.len())]) {
                Err(why) => prop_assert_eq!(whole, Err(why)),
                Ok(Some((First::Tls, _))) => prop_assert!(matches!(whole, Ok(Some((First::Tls, _))))),
                Ok(Some(known)) => prop_assert_eq!(whole, Ok(Some(known))),
                Ok(None) => {}
            }
        }
    }
}
