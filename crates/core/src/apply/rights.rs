//! Tokens, the secrets that members share, and the record of orders.
//!
//! Invariant: none of this touches the lease, an election, or whom commits wait for.

use std::collections::{BTreeMap, VecDeque};

use super::Entry;
use crate::command::{Command, Rejection};
use crate::ids::{MemberName, WallTime};
use crate::record::EventKind;
use crate::rights::{AUDITS_KEPT, Audit, AuditEnd, TOKENS_MAX, Token, clip};
use crate::state::ClusterState;

pub(super) fn apply(
    state: &mut ClusterState,
    entry: Entry,
    command: Command,
) -> Result<(), Rejection> {
    match command {
        Command::SetSecrets { secrets } => {
            if state.secrets.is_some() {
                return Err(Rejection::SecretsSet);
            }
            state.secrets = Some(secrets);
            Ok(())
        }
        Command::RotateSecrets { mut secrets, seen, at } => {
            let known = state.secrets.as_ref().map_or(0, |known| known.version);
            if known != seen || state.secrets.is_none() {
                return Err(Rejection::OtherSecrets(known));
            }
            secrets.version = seen + 1;
            state.secrets = Some(secrets);
            let text = "the passwords for replication and rewinding were replaced".to_owned();
            state.note(entry.index, at, EventKind::Rights, &MemberName::default(), text);
            Ok(())
        }
        Command::GrantToken { name, token } => grant(state, entry, name, token),
        Command::RevokeToken { name, at } => {
            if state.tokens.remove(&name).is_none() {
                return Err(Rejection::UnknownToken(name));
            }
            let text = format!("token {name} was revoked");
            state.note(entry.index, at, EventKind::Rights, &MemberName::default(), text);
            Ok(())
        }
        Command::BeginAudit { audit } => {
            begin(state, audit.clipped());
            Ok(())
        }
        Command::EndAudit { id, end } => finish(state, entry, id, end),
        _ => Ok(()),
    }
}

fn grant(
    state: &mut ClusterState,
    entry: Entry,
    name: String,
    token: Token,
) -> Result<(), Rejection> {
    match state.tokens.get(&name) {
        Some(known) if *known == token => return Ok(()),
        Some(_) => return Err(Rejection::TokenThere(name)),
        None if state.tokens.len() >= TOKENS_MAX => return Err(Rejection::TooManyTokens),
        None => {}
    }
    let text = format!("token {name} was made: {}, by {}", token.right.word(), token.by);
    let at: WallTime = token.made;
    state.tokens.insert(name, token);
    state.note(entry.index, at, EventKind::Rights, &MemberName::default(), text);
    Ok(())
}

fn begin(state: &mut ClusterState, audit: Audit) {
    if state.audits.iter().any(|known| known.id == audit.id) {
        return;
    }
    state.audits.push_back(audit);
    while state.audits.len() > AUDITS_KEPT {
        let at = least_missed(&state.audits);
        state.audits.remove(at);
    }
}

/// The order that is forgotten first: whoever gives the most makes room by his own, and by what came to nothing, so that
/// nobody pushes out what others did. What has not ended stays as long as there is anything else.
fn least_missed(audits: &VecDeque<Audit>) -> usize {
    let mut given: BTreeMap<&str, usize> = BTreeMap::new();
    for audit in audits {
        *given.entry(&audit.who).or_default() += 1;
    }
    let most = given.iter().max_by_key(|(_, count)| **count).map(|(who, _)| *who);
    let first = |fits: &dyn Fn(&Audit, &AuditEnd) -> bool| {
        audits.iter().position(|audit| audit.end.as_ref().is_some_and(|end| fits(audit, end)))
    };
    first(&|audit, end| Some(audit.who.as_str()) == most && !end.done)
        .or_else(|| first(&|audit, _| Some(audit.who.as_str()) == most))
        .or_else(|| first(&|_, _| true))
        .unwrap_or(0)
}

/// Its events say what the order did; this says who gave it.
fn finish(
    state: &mut ClusterState,
    entry: Entry,
    id: u64,
    mut end: AuditEnd,
) -> Result<(), Rejection> {
    let known = state.audits.iter_mut().rev().find(|audit| audit.id == id);
    let audit = known.ok_or(Rejection::NoSuchAudit)?;
    if audit.end.is_some() {
        return Ok(());
    }
    clip(&mut end.text);
    let outcome = if end.done { "done" } else { "not done" };
    let text =
        format!("{} from {}: {}: {outcome}: {}", audit.who, audit.from, audit.what, end.text);
    let (at, through) = (end.at, audit.through.clone());
    audit.end = Some(end);
    state.note(entry.index, at, EventKind::Order, &through, text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(id: u64, who: &str, done: Option<bool>) -> Audit {
        Audit {
            id,
            at: WallTime(id),
            who: who.to_owned(),
            from: "here".to_owned(),
            through: MemberName::from("n1"),
            what: "fence n1".to_owned(),
            end: done.map(|done| AuditEnd { at: WallTime(id), done, text: String::new() }),
        }
    }

    #[test]
    fn whoever_gives_the_most_orders_makes_room_by_his_own() {
        let table = [
            // Who gave them, and whether they were done; the one that goes.
            (vec![("a", Some(true)), ("b", Some(true)), ("b", Some(true))], 1),
            (vec![("b", Some(true)), ("a", Some(false)), ("b", Some(false))], 2),
            (vec![("b", None), ("b", None), ("a", Some(true))], 2),
            (vec![("b", None), ("b", Some(true)), ("a", Some(true))], 1),
            (vec![("b", None), ("a", None)], 0),
        ];
        for (given, goes) in table {
            let audits = given.iter().zip(1..).map(|((who, done), id)| audit(id, who, *done));
            assert_eq!(least_missed(&audits.collect()), goes, "{given:?}");
        }
    }

    #[test]
    fn a_flood_of_refused_orders_pushes_out_nobody_elses() {
        let mut state = ClusterState::default();
        begin(&mut state, audit(1, "alice", Some(true)));
        begin(&mut state, audit(2, "mallory", None));
        for id in 3..3000 {
            begin(&mut state, audit(id, "mallory", None));
            let last = state.audits.back_mut().unwrap();
            last.end = Some(AuditEnd { at: WallTime(id), done: false, text: String::new() });
        }
        assert_eq!(state.audits.len(), AUDITS_KEPT);
        assert_eq!(state.audits[0].who, "alice");
        assert_eq!((state.audits[1].id, state.audits[1].end.is_none()), (2, true));
    }
}
