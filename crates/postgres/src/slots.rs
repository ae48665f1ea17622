//! Physical replication slots, one per other member, so that a member that is away for a while
//! finds the WAL it needs, up to `max_slot_wal_keep_size`.
//!
//! The agent calls it after each probe. What to do is a pure function of the probe; doing it again
//! is harmless. Slots without our prefix are never touched.

use std::collections::BTreeSet;

use howdah_core::MemberName;

use crate::session::{Session, SessionError, Slot};

const PREFIX: &str = "howdah_";
/// PostgreSQL's limit for the name of a slot.
const MAX_NAME: usize = 63;
const HASH_SUFFIX: usize = 9;

/// One change of a slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotChange {
    /// Create it; WAL is kept from now on.
    Create(String),
    /// Drop it.
    Drop(String),
}

/// Name of a member's slot. Where the name must be altered to fit, a hash keeps it apart from
/// others that are altered to the same.
pub fn slot_name(member: &MemberName) -> String {
    let name = member.as_str();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(fits) && PREFIX.len() + name.len() <= MAX_NAME {
        return format!("{PREFIX}{name}");
    }
    let fitted =
        name.chars().map(|c| c.to_ascii_lowercase()).map(|c| if fits(c) { c } else { '_' });
    let room = MAX_NAME - PREFIX.len() - HASH_SUFFIX;
    let fitted: String = fitted.take(room).collect();
    format!("{PREFIX}{fitted}_{:08x}", crc32fast::hash(name.as_bytes()))
}

/// What to change so that exactly the other members have a slot on this primary.
pub fn on_primary(others: &BTreeSet<MemberName>, present: &[Slot]) -> Vec<SlotChange> {
    let wanted: BTreeSet<String> = others.iter().map(slot_name).collect();
    let mut changes = Vec::new();
    let mut standing = BTreeSet::new();
    for slot in present.iter().filter(|s| s.physical && s.name.starts_with(PREFIX)) {
        // A lost slot has no WAL to offer and never recovers.
        let lost = slot.wal_status.as_deref() == Some("lost");
        if slot.active || (wanted.contains(&slot.name) && !lost) {
            standing.insert(slot.name.clone());
        } else {
            changes.push(SlotChange::Drop(slot.name.clone()));
        }
    }
    changes.extend(wanted.difference(&standing).cloned().map(SlotChange::Create));
    changes
}

/// What to change on a standby: slots left from being primary hold back WAL for nobody.
pub fn on_standby(present: &[Slot]) -> Vec<SlotChange> {
    let left = present.iter().filter(|s| s.physical && !s.active && s.name.starts_with(PREFIX));
    left.map(|s| SlotChange::Drop(s.name.clone())).collect()
}

/// Makes the changes, in order. One that meanwhile became unnecessary is skipped.
pub async fn change(session: &Session, changes: &[SlotChange]) -> Result<(), SessionError> {
    for change in changes {
        match change {
            SlotChange::Create(name) => {
                let sql = "SELECT pg_create_physical_replication_slot($1::text::name, true)
                    WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)";
                session.query(sql, &[name]).await?;
            }
            SlotChange::Drop(name) => {
                let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                    WHERE slot_name = $1 AND NOT active";
                session.query(sql, &[name]).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_never_meet() {
        assert_eq!(slot_name(&MemberName::from("n1")), "howdah_n1");
        let names = ["a-b", "a_b", "A-B", "a.b", "ä", &"x".repeat(80), &"x".repeat(81)];
        let slots: BTreeSet<String> =
            names.iter().map(|n| slot_name(&MemberName::from(*n))).collect();
        assert_eq!(slots.len(), names.len(), "{slots:?}");
        for slot in slots {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(slot.len() <= MAX_NAME && slot.chars().all(fits), "{slot}");
        }
    }

    #[test]
    fn plans() {
        let slot = |name: &str, active, status: &str| Slot {
            name: name.to_owned(),
            physical: true,
            active,
            restart: None,
            wal_status: Some(status.to_owned()),
        };
        let mut present = vec![
            slot("howdah_n2", true, "reserved"),
            slot("howdah_n3", false, "lost"),
            slot("howdah_gone", false, "reserved"),
            slot("howdah_leaving", true, "reserved"),
            slot("backup", false, "lost"),
        ];
        present.push(Slot { physical: false, ..slot("howdah_logical", false, "reserved") });
        let others = ["n2", "n3", "n4"].map(MemberName::from).into();
        let drop = |name: &str| SlotChange::Drop(name.to_owned());
        let create = |name: &str| SlotChange::Create(name.to_owned());
        assert_eq!(
            on_primary(&others, &present),
            [drop("howdah_n3"), drop("howdah_gone"), create("howdah_n3"), create("howdah_n4")]
        );
        assert_eq!(on_standby(&present), [drop("howdah_n3"), drop("howdah_gone")]);
    }
}
