//! Which standbys a commit should wait for. Pure.
//!
//! In Patroni's words: `synchronous_mode: on` picks `synchronous_node_count` standbys and waits for all
//! of them; `quorum` waits for as many of all that qualify. A change costs a walk (see [`super::next`]), so
//! that whoever is chosen stays chosen while nobody is better by priority.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Demand, Standby};
use crate::ids::Lsn;

/// Whether, and how, commits wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They do not.
    #[default]
    Off,
    /// For all of the standbys that are picked.
    On,
    /// For so many of all that qualify.
    Quorum,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Mode::Off => "off",
            Mode::On => "on",
            Mode::Quorum => "quorum",
        })
    }
}

/// A standby as the primary sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which, with its contents.
    pub standby: Standby,
    /// It streams the recorded timeline.
    pub streaming: bool,
    /// It may become the primary: a vote that can never win would only hold commits up.
    pub may_lead: bool,
    /// Tag `nosync`.
    pub nosync: bool,
    /// Tag `sync_priority`; more is better, 0 is as good as `nosync`.
    pub priority: u32,
    /// What it has flushed.
    pub flushed: Lsn,
}

/// The cluster's settings for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// `synchronous_mode`.
    pub mode: Mode,
    /// `synchronous_node_count`, at least 1.
    pub count: usize,
    /// `maximum_lag_on_syncnode` in bytes; none: however far behind.
    pub lag_most: Option<u64>,
}

/// What commits should wait for; none: for nobody, since that is wanted or nobody qualifies.
/// `written` is the primary's own position.
pub fn choose(
    wish: &Wish,
    candidates: &[Candidate],
    written: Lsn,
    present: &Demand,
) -> Option<Demand> {
    let near = |candidate: &Candidate| {
        wish.lag_most.is_none_or(|most| written.0.saturating_sub(candidate.flushed.0) <= most)
    };
    let mut fit: Vec<&Candidate> = candidates
        .iter()
        .filter(|one| one.streaming && one.may_lead && near(one))
        .filter(|one| !one.nosync && one.priority > 0)
        .collect();
    let stays = |candidate: &Candidate| present.standbys.contains(&candidate.standby);
    fit.sort_by_key(|one| {
        (Reverse(one.priority), !stays(one), Reverse(one.flushed), one.standby.clone())
    });
    match wish.mode {
        Mode::Off => return None,
        Mode::On => fit.truncate(wish.count.max(1)),
        Mode::Quorum => {}
    }
    let standbys: BTreeSet<Standby> = fit.iter().map(|one| one.standby.clone()).collect();
    let acks = match wish.mode {
        Mode::Quorum => wish.count.clamp(1, standbys.len().max(1)),
        _ => standbys.len(),
    };
    (!standbys.is_empty()).then_some(Demand { acks, standbys })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::DataId;

    fn candidate(name: &str, flushed: u64) -> Candidate {
        Candidate {
            standby: Standby { member: name.into(), data_id: DataId(1) },
            streaming: true,
            may_lead: true,
            nosync: false,
            priority: 1,
            flushed: Lsn(flushed),
        }
    }

    fn named(wish: &Wish, candidates: &[Candidate], present: &Demand) -> Option<(usize, String)> {
        let chosen = choose(wish, candidates, Lsn(1000), present)?;
        let names: Vec<&str> =
            chosen.standbys.iter().map(|standby| standby.member.as_str()).collect();
        Some((chosen.acks, names.join(" ")))
    }

    const ON: Wish = Wish { mode: Mode::On, count: 1, lag_most: None };
    const QUORUM: Wish = Wish { mode: Mode::Quorum, count: 1, lag_most: None };

    #[test]
    fn on_waits_for_all_that_are_picked_and_quorum_for_some_of_all() {
        let all = [candidate("n2", 900), candidate("n3", 1000), candidate("n4", 1000)];
        let nobody = Demand::default();
        assert_eq!(named(&ON, &all, &nobody), Some((1, "n3".into())));
        assert_eq!(named(&Wish { count: 2, ..ON }, &all, &nobody), Some((2, "n3 n4".into())));
        assert_eq!(named(&Wish { count: 9, ..ON }, &all, &nobody), Some((3, "n2 n3 n4".into())));
        assert_eq!(named(&QUORUM, &all, &nobody), Some((1, "n2 n3 n4".into())));
        assert_eq!(
            named(&Wish { count: 9, ..QUORUM }, &all, &nobody),
            Some((3, "n2 n3 n4".into()))
        );
        assert_eq!(named(&Wish { mode: Mode::Off, ..ON }, &all, &nobody), None);
        assert_eq!(named(&QUORUM, &[], &nobody), None);
    }

    #[test]
    fn whoever_is_chosen_stays_until_somebody_is_better_by_priority() {
        let mut all = [candidate("n2", 900), candidate("n3", 1000)];
        let present = Demand { acks: 1, standbys: [all[0].standby.clone()].into() };
        assert_eq!(named(&ON, &all, &present), Some((1, "n2".into())));
        all[1].priority = 2;
        assert_eq!(named(&ON, &all, &present), Some((1, "n3".into())));
        // The same member with other contents is somebody else.
        all[1].priority = 1;
        all[0].standby.data_id = DataId(2);
        assert_eq!(named(&ON, &all, &present), Some((1, "n3".into())));
    }

    #[test]
    fn who_cannot_help_is_left_out() {
        type Change = fn(&mut Candidate);
        let changes: [(&str, Change); 5] = [
            ("not streaming", |one| one.streaming = false),
            ("nofailover", |one| one.may_lead = false),
            ("nosync", |one| one.nosync = true),
            ("sync_priority: 0", |one| one.priority = 0),
            ("far behind", |one| one.flushed = Lsn(0)),
        ];
        let wish = Wish { lag_most: Some(500), ..QUORUM };
        for (what, change) in changes {
            let mut all = [candidate("n2", 1000), candidate("n3", 600)];
            change(&mut all[0]);
            assert_eq!(named(&wish, &all, &Demand::default()), Some((1, "n3".into())), "{what}");
        }
    }
}
