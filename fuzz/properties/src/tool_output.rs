//! What PostgreSQL's other programs print: pg_waldump, pg_basebackup, `postgres --version`.

use howdah_core::Lsn;
use howdah_postgres::fuzzing::{has_tls, progress, transaction};
use howdah_postgres::versions::major_of;

use crate::text;

/// What is read of a line stands in that line.
pub fn tool_output(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let mut taken = false;
    for line in text.lines() {
        if let Some(one) = transaction(line) {
            taken = true;
            assert!(line.contains(&one.xid.to_string()), "{one:?}");
            for part in [&one.lsn, &one.kind, &one.detail] {
                assert!(line.contains(part.as_str()) && !part.contains('\n'), "{one:?}");
            }
            assert!(!one.kind.contains(' ') && !one.lsn.contains([' ', ',']), "{one:?}");
            position(&one.lsn);
        }
        if let Some((done, total)) = progress(line) {
            taken = true;
            assert!(done.is_multiple_of(1024) && total.is_multiple_of(1024));
            assert!(line.contains(&(done / 1024).to_string()), "{done} is not in {line:?}");
        }
        if let Some(major) = major_of(line) {
            taken = true;
            assert!(line.contains(&major.to_string()), "{major} is not in {line:?}");
        }
        // A line alone says it, whatever stands around it.
        taken |= has_tls(line);
        assert!(!has_tls(line) || line.starts_with("ssl_ciphers\t"));
    }
    taken
}

/// A position is two hexadecimal numbers of 32 bits, and prints as the same ones.
fn position(text: &str) {
    let Ok(lsn) = text.parse::<Lsn>() else { return };
    assert_eq!(lsn.to_string().parse(), Ok(lsn));
    let (high, low) = text.split_once('/').expect("a position has a slash");
    let bare = |part: &str| {
        assert!(
            part.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "`{text}` is taken for a position"
        );
        let digits = part.trim_start_matches('0').to_ascii_uppercase();
        if digits.is_empty() { "0".to_owned() } else { digits }
    };
    assert_eq!(lsn.to_string(), format!("{}/{}", bare(high), bare(low)));
}
