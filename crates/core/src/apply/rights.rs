//! Tokens, the secrets that members share, and the record of orders.
//!
//! Invariant: none of this touches the lease, an election, or whom commits wait for.

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
        state.audits.pop_front();
    }
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
