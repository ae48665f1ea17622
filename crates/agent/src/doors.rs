//! What the doors and the poolers must know, kept up to date.
//!
//! Place: one task beside the loop. News of the log, of a member's words, of the own lease or of the
//! doors wake it; it draws a [`Picture`] and hands it to the doors, and tells the other members how
//! far its doors are. [`picture`] is pure.
//! State: memory only; drawn anew after a restart.
//! Failure: the doors' threads go on with the last picture. A primary's deadline stands in it, so
//! that nothing is passed on for longer.

use std::sync::Arc;
use std::time::Duration;

use howdah_consensus::RaftStatus;
use howdah_core::{BootInstant, ChangeKind, ClusterState, Epoch, LeaderRecord, Lsn, MemberName};
use howdah_proxy::Doors;
use howdah_proxy::route::{Leader, Picture, Place, Unfit};
use howdah_rpc::peer::Status;
use tokio::sync::watch;

use crate::board::OwnLease;
use crate::bouncers::{Bouncers, Wish};
use crate::config::ProxyConfig;
use crate::shell::Context;
use crate::status::Sources;

/// Tag that names a member's zone.
const ZONE: &str = "zone";
/// A picture is drawn anew at least so often.
const AT_LEAST: Duration = Duration::from_secs(1);
/// How long a hand-over waits for clients that a primary is letting in; one that asks its user for a
/// password meanwhile has to come again.
const LET_IN: Duration = Duration::from_millis(500);
/// When they are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What this task saw, on this member's clock.
#[derive(Clone, Debug)]
pub struct Seen {
    epoch: Epoch,
    renewals: u64,
    /// When the record changed last.
    renewed: BootInstant,
    /// When the epoch did.
    begun: BootInstant,
}

impl Seen {
    /// Nothing yet.
    pub fn new(now: BootInstant) -> Self {
        Self { epoch: Epoch(0), renewals: 0, renewed: now, begun: now }
    }

    /// Takes the record in.
    pub fn take_in(&mut self, record: Option<&LeaderRecord>, now: BootInstant) {
        let (epoch, renewals) = record.map_or((Epoch(0), 0), |r| (r.epoch, r.renewals));
        if epoch != self.epoch {
            self.begun = now;
        }
        if (epoch, renewals) != (self.epoch, self.renewals) {
            self.renewed = now;
        }
        (self.epoch, self.renewals) = (epoch, renewals);
    }
}

/// Keeps the doors right, as long as the log goes on.
pub async fn keep(
    context: Arc<Context>,
    doors: Option<Arc<Doors>>,
    mut bouncers: Option<Bouncers>,
    pictures: watch::Sender<Picture>,
) {
    let board = &context.board;
    let mut applied = context.node.applied();
    let (mut heard, mut own, mut lease) = (board.changes(), board.own(), board.lease());
    let mut emptied = doors.as_ref().map(|doors| doors.emptied());
    let mut seen = Seen::new(context.clock.boot());
    let mut closing_since = None;
    loop {
        let state = applied.borrow_and_update().state.clone();
        let (status, may) = (own.borrow_and_update().clone(), *lease.borrow_and_update());
        let (now, words) = (context.clock.boot(), board.heard());
        seen.take_in(state.leader.as_ref(), now);
        let raft = RaftStatus::default();
        let sources = Sources {
            state: &state,
            me: &context.me,
            own: &status,
            heard: &words,
            raft: &raft,
            counters: &context.counters,
            turned: Duration::ZERO,
            now,
        };
        let config = &context.config.proxy;
        let picture = picture(&sources, config, may, &seen);
        pictures.send_replace(picture.clone());
        if let Some(doors) = &doors {
            doors.update(&picture);
            if status.stopping {
                doors.deafen();
            }
        }
        if let Some(bouncers) = &bouncers {
            bouncers.wish(wish(&picture));
        }
        let closing = picture.leader.as_ref().is_some_and(|leader| leader.closing);
        closing_since = closing.then(|| closing_since.unwrap_or(now));
        let waited = closing_since.map(|since| now.since(since));
        let lets_in = waited.is_some_and(|waited| waited < LET_IN)
            && doors.as_ref().is_some_and(|doors| doors.is_letting_in());
        let paused = bouncers.as_ref().is_none_or(|bouncers| bouncers.are_done(seen.epoch));
        let old = doors.as_ref().is_some_and(|doors| doors.has_old_sessions());
        say(&context, &picture, old, closing && !lets_in && paused);
        let patience = seen.begun + behind_limit(&state);
        let wake = match patience {
            _ if lets_in => LOOK_AGAIN,
            patience if patience > now => patience.since(now).min(AT_LEAST),
            _ => AT_LEAST,
        };
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            _ = heard.changed() => {}
            _ = own.changed() => {}
            _ = lease.changed() => {}
            () = tick(&mut emptied) => {}
            () = done(&mut bouncers) => {}
            () = tokio::time::sleep(wake) => {}
        }
    }
}

async fn tick(emptied: &mut Option<watch::Receiver<u64>>) {
    match emptied {
        // Its sender lives as long as the doors.
        Some(emptied) => drop(emptied.changed().await),
        None => std::future::pending().await,
    }
}

async fn done(bouncers: &mut Option<Bouncers>) {
    match bouncers {
        Some(bouncers) => bouncers.changed().await,
        None => std::future::pending().await,
    }
}

/// What poolers are to do.
fn wish(picture: &Picture) -> Wish {
    match &picture.leader {
        Some(leader) if leader.closing => Wish::Pause(leader.epoch),
        Some(leader) if leader.open && leader.behind.is_empty() => Wish::Serve(leader.epoch),
        _ => Wish::Stay,
    }
}

/// Tells the other members how far the doors are.
fn say(context: &Context, picture: &Picture, old: bool, holds: bool) {
    let epoch = picture.leader.as_ref().map_or(Epoch(0), |leader| leader.epoch);
    context.board.tell_of_doors(|words| {
        if !old && epoch != Epoch(0) {
            words.epoch = epoch;
        }
        words.hold_epoch = if holds { epoch } else { Epoch(0) };
    });
}

/// How long a new primary waits for members whose doors have not told that old sessions are gone.
fn behind_limit(state: &ClusterState) -> Duration {
    state.settings.ttl() / 10
}

/// What the doors must know.
pub fn picture(
    sources: &Sources<'_>,
    config: &ProxyConfig,
    lease: OwnLease,
    seen: &Seen,
) -> Picture {
    let state = sources.state;
    let leader = state.held().map(|record| leader(sources, record, lease, seen));
    let why_none = sources.why_not_writable().unwrap_or_else(|| "there is no leader".into());
    let members = state.members.keys().map(|name| place(sources, config, name)).collect();
    let zone = zone(state, sources.me);
    Picture { leader, why_none, members, primary_reads: config.primary_reads, zone }
}

fn leader(sources: &Sources<'_>, record: &LeaderRecord, lease: OwnLease, seen: &Seen) -> Leader {
    let (state, name) = (sources.state, &record.holder);
    let own = name == sources.me;
    let armed = !own || record.paused || lease.armed == Some(record.epoch);
    let until = match (record.paused, own) {
        (true, _) => None,
        (false, true) => Some(lease.deadline.unwrap_or(BootInstant(0))),
        // The holder's own deadline is earlier: it counts from before its renewal was sent.
        (false, false) => Some(seen.renewed + Duration::from_millis(record.ttl_ms)),
    };
    let words = fresh(sources, name);
    let opened = words.is_some_and(|words| words.open_epoch == record.epoch.0);
    let why_not = match sources.why_not_writable() {
        Some(why) => why,
        None if !armed => format!("{name}, the leader, has not renewed its lease yet"),
        None => format!("{name}, the leader, does not admit clients yet"),
    };
    let address = state.members.get(name).map(|member| member.postgres_address.clone());
    let open = opened && armed && address.is_some();
    Leader {
        name: name.clone(),
        address: address.unwrap_or_default(),
        epoch: record.epoch,
        until,
        open,
        why_not: if open { String::new() } else { why_not },
        closing: words.is_some_and(|words| words.closing),
        behind: behind(sources, record.epoch, seen),
    }
}

/// Members with doors that have not told yet that sessions of an earlier primary are gone. Only after a
/// hand-over: after an election, that primary's time is over (rule S2), and nobody is waited for.
fn behind(sources: &Sources<'_>, epoch: Epoch, seen: &Seen) -> Vec<MemberName> {
    let last = sources.state.changes.back();
    let handed = last.is_some_and(|change| {
        change.epoch == epoch && matches!(change.kind, ChangeKind::Switchover)
    });
    if !handed || sources.now >= seen.begun + behind_limit(sources.state) {
        return Vec::new();
    }
    let names = sources.state.members.keys().filter(|name| *name != sources.me);
    let late = |words: &Status| words.doors_epoch != 0 && words.doors_epoch < epoch.0;
    names.filter(|name| fresh(sources, name).is_some_and(late)).cloned().collect()
}

/// The words of a member that are of now.
fn fresh<'a>(sources: &'a Sources<'_>, name: &MemberName) -> Option<&'a Status> {
    sources.words(name).filter(|(_, age)| sources.fresh(*age)).map(|(words, _)| words)
}

fn zone(state: &ClusterState, name: &MemberName) -> String {
    let tags = state.members.get(name).map(|member| &member.tags.other);
    tags.and_then(|tags| tags.get(ZONE)).cloned().unwrap_or_default()
}

fn place(sources: &Sources<'_>, config: &ProxyConfig, name: &MemberName) -> Place {
    let state = sources.state;
    let member = state.members.get(name);
    let words = fresh(sources, name);
    let serves = words.is_some_and(|words| words.running && words.open_for_clients);
    let standby = words.filter(|words| words.in_recovery);
    let lag = standby.and_then(|words| {
        let end = sources.leader_lsn()?;
        (words.replay_lsn > 0).then(|| end.bytes_since(Lsn(words.replay_lsn)))
    });
    // While there is nobody to stream from, what a standby has is the newest there is to read.
    let open = state.held().filter(|record| {
        fresh(sources, &record.holder).is_some_and(|words| words.open_epoch == record.epoch.0)
    });
    let streams = standby.is_some_and(|words| words.streaming_epoch != 0);
    let unfit = if sources.leader() == Some(name) {
        Some(Unfit::Leads)
    } else if member.is_some_and(|member| member.tags.noloadbalance) {
        Some(Unfit::Tagged)
    } else if !serves || standby.is_none() {
        Some(Unfit::Down)
    } else if open.is_some() && !streams {
        Some(Unfit::NotStreaming)
    } else if open.is_some() && lag.is_none_or(|bytes| bytes > config.max_lag_bytes) {
        Some(Unfit::Behind)
    } else {
        None
    };
    Place {
        name: name.clone(),
        address: member.map(|member| member.postgres_address.clone()).unwrap_or_default(),
        zone: zone(state, name),
        serves,
        unfit,
    }
}
