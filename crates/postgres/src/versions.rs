//! What differs between the major versions of PostgreSQL that are supported.
//!
//! The only place that compares version numbers; everybody else asks a question by name.

/// Oldest supported major version.
pub const OLDEST: u32 = 14;
/// Newest supported major version.
pub const NEWEST: u32 = 18;

/// Whether servers of this major version can be run.
pub fn supported(major: u32) -> bool {
    (OLDEST..=NEWEST).contains(&major)
}

/// Whether the role `pg_checkpoint` exists, by which pg_rewind's user may ask for a checkpoint.
pub fn has_checkpoint_role(major: u32) -> bool {
    major >= 15
}

/// Whether `promote_trigger_file` exists: a file that ends recovery without asking anybody.
pub fn has_promote_trigger_file(major: u32) -> bool {
    major <= 15
}

/// Whether `reserved_connections` and the role that may use them exist.
pub fn has_reserved_connections(major: u32) -> bool {
    major >= 16
}

/// Whether initdb writes data checksums without being asked.
pub fn checksums_by_default(major: u32) -> bool {
    major >= 18
}

/// Whether `sync_replication_slots` exists, which makes standbys own logical slots of the primary.
pub fn has_slot_sync(major: u32) -> bool {
    major >= 17
}

/// Whether libpq compares an IP address with those in a server's certificate.
pub fn compares_ip_addresses(major: u32) -> bool {
    major >= 15
}

/// Major version of the text that `postgres --version` prints or a `PG_VERSION` file holds.
pub fn major_of(text: &str) -> Option<u32> {
    let word = text.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majors() {
        for (text, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("16\n", Some(16)),
            ("9.6\n", Some(9)),
            ("", None),
            ("no number", None),
        ] {
            assert_eq!(major_of(text), major, "{text:?}");
        }
        assert!(!supported(13) && supported(14) && supported(18) && !supported(19));
    }
}
