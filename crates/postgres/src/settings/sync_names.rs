//! `synchronous_standby_names`: written for what commits are to wait for, and read back. Pure.

use howdah_core::sync::{Demand, Standby};

use super::{SettingsError, application_name, parse_application_name};

/// A name that no standby has: standbys of ours end in a data id.
const NOBODY: &str = "howdah: nobody";

/// The setting's value. A demand that cannot be met names somebody who is never there.
///
/// # Errors
/// [`SettingsError`] if a member's name would be cut or altered.
pub fn sync_names(demand: &Demand) -> Result<String, SettingsError> {
    if demand.acks == 0 {
        return Ok(String::new());
    }
    if demand.is_blocked() {
        return Ok(format!("ANY 1 (\"{NOBODY}\")"));
    }
    let quoted = |standby: &Standby| {
        let name = application_name(&standby.member, standby.data_id)?;
        Ok(format!("\"{}\"", name.replace('"', "\"\"")))
    };
    let names: Result<Vec<String>, SettingsError> = demand.standbys.iter().map(quoted).collect();
    Ok(format!("ANY {} ({})", demand.acks, names?.join(", ")))
}

/// What a value asks for; none if it is none of ours.
pub fn parse_sync_names(text: &str) -> Option<Demand> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Demand::nobody());
    }
    let (acks, list) = text.strip_prefix("ANY ")?.strip_suffix(')')?.split_once(" (")?;
    let acks = acks.parse().ok()?;
    // Names hold no spaces, so that this cannot stand inside of one.
    let names: Vec<&str> = list.strip_prefix('"')?.strip_suffix('"')?.split("\", \"").collect();
    if names == [NOBODY] {
        return Some(Demand::blocked());
    }
    let standby = |name: &&str| {
        let (member, data_id) = parse_application_name(&name.replace("\"\"", "\""))?;
        Some(Standby { member, data_id })
    };
    let standbys = names.iter().map(standby).collect::<Option<_>>()?;
    Some(Demand { acks, standbys })
}

#[cfg(test)]
mod tests {
    use howdah_core::DataId;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let standby = |name: &str, id| Standby { member: name.into(), data_id: DataId(id) };
        let all = [standby("n2", 7), standby("a\"b", 8), standby("x-1", u64::MAX)];
        for (demand, text) in [
            (Demand::nobody(), ""),
            (Demand::blocked(), "ANY 1 (\"howdah: nobody\")"),
            (
                Demand { acks: 1, standbys: all[..1].iter().cloned().collect() },
                "ANY 1 (\"n2-0000000000000007\")",
            ),
            (
                Demand { acks: 2, standbys: all.iter().cloned().collect() },
                "ANY 2 (\"a\"\"b-0000000000000008\", \"n2-0000000000000007\", \
                 \"x-1-ffffffffffffffff\")",
            ),
        ] {
            assert_eq!(sync_names(&demand).expect("fits"), text);
            assert_eq!(parse_sync_names(text), Some(demand), "{text}");
        }
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        for text in ["*", "n2", "FIRST 1 (n2)", "ANY 1 (n2)", "ANY 1 (*)", "ANY 1 (\"n2\")"] {
            assert_eq!(parse_sync_names(text), None, "{text}");
        }
    }
}
