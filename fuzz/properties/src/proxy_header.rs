//! The PROXY header that a load balancer puts before a client's bytes.

use std::net::SocketAddr;

use howdah_proxy::fuzzing::{header, written};

/// What is read of a beginning holds for the whole; a header ends within what came; a source is read as it is
/// written for a server.
pub fn proxy_header(bytes: &[u8]) -> bool {
    let whole = header(bytes);
    for cut in [bytes.len() / 3, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        match header(&bytes[..cut]) {
            Ok(Some(known)) => {
                assert_eq!(whole.as_ref().ok(), Some(&Some(known)), "after {cut} bytes")
            }
            Err(_) => assert!(whole.is_err(), "refused after {cut} bytes, and taken whole"),
            Ok(None) => {}
        }
    }
    let Ok(Some((source, length))) = whole else { return false };
    assert!((1..=bytes.len()).contains(&length), "{length} of {}", bytes.len());
    assert_eq!(header(&bytes[..length]).ok(), Some(Some((source, length))));
    if let Some(source) = source {
        let to = match source {
            SocketAddr::V4(_) => "10.0.0.1:5432",
            SocketAddr::V6(_) => "[fd00::1]:5432",
        };
        let mut again = written(source, to.parse().expect("an address")).expect("a header");
        let length = again.len();
        again.extend(bytes);
        assert_eq!(header(&again).ok(), Some(Some((Some(source), length))));
    }
    true
}
