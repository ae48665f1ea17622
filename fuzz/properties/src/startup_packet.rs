//! The first packet of a client, and what a door answers it.

use howdah_proxy::answer::{Refusal, field};
use howdah_proxy::packet::{First, Garbage, LONGEST, first};

/// What is read of a beginning holds for the whole, and asks for no more than the longest packet; a refusal is a
/// message that reads as it was written, whatever is in it.
pub fn startup_packet(bytes: &[u8]) -> bool {
    let whole = first(bytes);
    for cut in [1, 4, 7, 8, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        match first(&bytes[..cut.min(bytes.len())]) {
            Err(why) => assert_eq!(whole, Err(why)),
            Ok(Some((First::Tls, _))) => assert!(matches!(whole, Ok(Some((First::Tls, _))))),
            Ok(Some(known)) => assert_eq!(whole, Ok(Some(known))),
            Ok(None) => {}
        }
    }
    refused(bytes);
    match whole {
        Ok(Some((First::Tls, length))) => assert_eq!(length, bytes.len()),
        Ok(Some((_, length))) => assert!((8..=LONGEST).contains(&length)),
        Ok(None) => assert!(bytes.len() < 8),
        Err(why @ (Garbage::Http | Garbage::Length(_))) => assert!(!why.to_string().is_empty()),
    }
    matches!(whole, Ok(Some(_)))
}

fn refused(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let refusal = Refusal { detail: "why".into(), ..Refusal::new("57P03", text.clone()) };
    for message in [refusal.fatal(), refusal.error()] {
        let length = u32::from_be_bytes(message[1..5].try_into().expect("four bytes")) as usize;
        assert_eq!((message[0], message.len()), (b'E', length + 1));
        let body = &message[5..];
        assert_eq!(field(body, b'C'), Some(&b"57P03"[..]));
        assert_eq!(field(body, b'D'), Some(&b"why"[..]));
        let told = text.replace('\0', "");
        let told = (!told.is_empty()).then_some(told.as_bytes());
        assert_eq!(field(body, b'M').filter(|told| !told.is_empty()), told);
    }
}
