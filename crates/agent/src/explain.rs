//! Changes of leader, told to people: who stood, with which position, and why the winner won.

use howdah_core::sync::choose::Mode;
use howdah_core::sync::names;
use howdah_core::{Change, ChangeKind, ClusterState, Epoch, Event, EventKind, Verdict};
use howdah_rpc::control;

/// A change as it goes over the wire.
pub fn change(change: &Change) -> control::Change {
    let (timeline, fork) = change.timeline.unwrap_or_default();
    control::Change {
        epoch: change.epoch.0,
        kind: change.kind.to_string(),
        from: change.from.as_ref().map(|name| name.0.clone()).unwrap_or_default(),
        to: change.to.0.clone(),
        at_ms: change.at.0,
        timeline: timeline.0,
        fork_lsn: fork.0,
        reason: change.reason.clone(),
        ballots: change.verdicts.iter().map(ballot).collect(),
        waited_ms: change.waited_ms,
        not_heard: change.not_heard.iter().map(|name| name.0.clone()).collect(),
        bar: change.bar.map(|bar| bar.to_string()).unwrap_or_default(),
        loss: loss(change).unwrap_or_default(),
    }
}

fn ballot(verdict: &Verdict) -> control::Ballot {
    let fallback = if verdict.chosen { "chosen" } else { "eligible" };
    control::Ballot {
        member: verdict.member.0.clone(),
        timeline: verdict.position.timeline.0,
        lsn: verdict.position.lsn.0,
        eligible: verdict.ineligible.is_none(),
        verdict: verdict.ineligible.clone().unwrap_or_else(|| fallback.into()),
        priority: verdict.priority,
        chosen: verdict.chosen,
    }
}

/// What may have been lost: where commits waited for nobody, what the old leader wrote past the fork.
fn loss(change: &Change) -> Option<String> {
    let (_, fork) = change.timeline?;
    if change.from.as_ref() == Some(&change.to) || change.from.is_none() {
        return None;
    }
    if change.synchronous {
        let text = "nothing that was acknowledged: commits waited for standbys, and enough of these \
                    were heard";
        return Some(text.to_owned());
    }
    let bytes = change.former_wal_lsn.bytes_since(fork);
    let from = change.from.as_ref()?;
    if bytes > 0 {
        return Some(format!(
            "{bytes} bytes that {from} had written by its last renewal lie past the fork"
        ));
    }
    let planned = change.kind == ChangeKind::Switchover;
    (!planned).then(|| {
        format!("nothing that {from} had written by its last renewal; what it wrote after may be")
    })
}

/// An event as it goes over the wire.
pub fn event(event: &Event) -> control::Event {
    control::Event {
        index: event.index,
        at_ms: event.at.0,
        kind: event.kind.to_string(),
        text: event.text.clone(),
        epoch: event.epoch.0,
        member: event.member.0.clone(),
    }
}

/// Why somebody leads under `epoch` (the present one when it is zero). `None`: that epoch is not
/// kept, or never was.
pub fn explain(state: &ClusterState, epoch: Epoch) -> Option<control::ExplainResponse> {
    let wanted = if epoch == Epoch(0) { state.epoch() } else { epoch };
    let mut lines = Vec::new();
    let found = state.changes.iter().find(|change| change.epoch == wanted);
    if found.is_none() && epoch != Epoch(0) {
        return None;
    }
    if let Some(found) = found {
        lines.extend(story(found, before(state, found)));
    }
    if epoch == Epoch(0) {
        lines.extend(present(state));
    }
    Some(control::ExplainResponse { change: found.map(change), lines })
}

/// Why the one before gave its lease back, where that led to the change.
fn before<'a>(state: &'a ClusterState, change: &Change) -> Option<&'a str> {
    let released = state
        .events
        .iter()
        .rev()
        .find(|event| event.kind == EventKind::Released && event.epoch.next() == change.epoch);
    let text = released.map(|event| event.text.as_str());
    text.filter(|_| change.kind == ChangeKind::Election)
}

fn story(change: &Change, before: Option<&str>) -> Vec<String> {
    let from = change.from.as_ref().map(|name| format!(" after {name}")).unwrap_or_default();
    let mut lines = vec![format!(
        "{} leads since epoch {}{from}, by {}: {}.",
        change.to, change.epoch, change.kind, change.reason
    )];
    lines.extend(before.map(|text| format!("  Before, {text}.")));
    for verdict in &change.verdicts {
        let what = match (&verdict.ineligible, verdict.chosen) {
            (Some(why), _) => format!("could not lead: {why}"),
            (None, true) => "chosen".to_owned(),
            (None, false) => "could have led".to_owned(),
        };
        lines.push(format!("  {} stood at {}: {what}.", verdict.member, verdict.position));
    }
    if let Some(bar) = change.bar {
        lines.push(format!("  The winner had to reach {bar}; priority, then name, among equals."));
    }
    if !change.verdicts.is_empty() && change.kind == ChangeKind::Election {
        let not_heard: Vec<&str> = change.not_heard.iter().map(|name| name.as_str()).collect();
        let missing = if not_heard.is_empty() {
            "everybody who was heard had voted".to_owned()
        } else {
            format!("no ballot came from {}", not_heard.join(", "))
        };
        lines.push(format!("  Closed after {} ms; {missing}.", change.waited_ms));
    }
    if let Some((timeline, fork)) = change.timeline {
        lines.push(format!("  Its timeline is {timeline}, begun at {fork}."));
    }
    if let Some(loss) = loss(change) {
        lines.push(format!("  Possibly lost: {loss}."));
    }
    lines
}

/// Whom commits wait for, and what that asks of the next election.
fn waiting(state: &ClusterState) -> Option<String> {
    let mode = state.settings.synchronous_mode;
    let Some(sync) = state.sync.record() else {
        let off = mode == Mode::Off;
        return (!off).then(|| format!("synchronous_mode is {mode}, but commits wait for nobody."));
    };
    let (pair, whole) = (&sync.pair, names(&sync.whole));
    Some(if state.barrier_pending() {
        format!(
            "Clients are let in when standbys have what was there before epoch {}; until then an \
             election needs {pair}, or one of {whole} alone.",
            state.epoch()
        )
    } else {
        format!("Commits wait for {}; an election needs {pair}, or {whole} alone.", pair.demand())
    })
}

/// What is going on now.
fn present(state: &ClusterState) -> Vec<String> {
    let Some(open) = &state.election else {
        let mut lines = match &state.leader {
            Some(record) => vec![format!(
                "The lease of epoch {} is {:?}, renewed {} times.",
                record.epoch, record.state, record.renewals
            )],
            None => vec!["Nobody has led yet.".into()],
        };
        lines.extend(waiting(state));
        return lines;
    };
    let mut lines = vec![format!("An election is open for epoch {}: {}.", open.epoch, open.reason)];
    let count = howdah_core::election::count(state, open);
    for verdict in count.verdicts {
        let what = verdict.ineligible.unwrap_or_else(|| "may lead".into());
        lines.push(format!("  {} stands at {}: {what}.", verdict.member, verdict.position));
    }
    for name in state.members.keys().filter(|name| !open.ballots.contains_key(name)) {
        lines.push(format!("  {name} has not voted."));
    }
    lines.push(match count.winner {
        Ok(winner) => format!("  Closed now, {winner} would win."),
        Err(why) => format!("  It cannot be closed: {why}."),
    });
    lines
}

#[cfg(test)]
mod tests {
    use howdah_core::{MemberName, WallTime};

    use super::*;

    fn change(epoch: u64, kind: ChangeKind) -> Change {
        Change {
            epoch: Epoch(epoch),
            kind,
            from: Some(MemberName::from("n1")),
            to: MemberName::from("n2"),
            at: WallTime(0),
            reason: "the leader gave its lease back; it reaches farthest".into(),
            verdicts: Vec::new(),
            bar: None,
            waited_ms: 0,
            not_heard: Vec::new(),
            timeline: None,
            former_wal_lsn: howdah_core::Lsn(0),
            allow_data_loss: false,
            synchronous: true,
        }
    }

    #[test]
    fn why_a_lease_was_given_back_is_told_with_what_came_of_it() {
        let crashed = "n1 gave back the lease of epoch 3: PostgreSQL crashed";
        let mut state = ClusterState::default();
        state.events.push_back(Event {
            index: 1,
            at: WallTime(0),
            epoch: Epoch(3),
            kind: EventKind::Released,
            member: MemberName::from("n1"),
            text: crashed.into(),
        });
        for (epoch, kind, told) in [
            (4, ChangeKind::Election, true),
            (5, ChangeKind::Election, false),
            (4, ChangeKind::Switchover, false),
        ] {
            state.changes = [change(epoch, kind)].into();
            let lines = explain(&state, Epoch(epoch)).unwrap().lines;
            let line = format!("  Before, {crashed}.");
            assert_eq!(lines.contains(&line), told, "{epoch} {kind}: {lines:?}");
        }
    }
}
