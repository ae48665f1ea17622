//! What the doors and the poolers must know, kept up to date.
//!
//! Place: one task beside the loop. News of the log, of a member's words, of the own lease or of the
//! doors wake it; it draws a [`Picture`] and hands it to the doors, and tells the other members how
//! far its doors are. `picture` is pure.
//! State: memory only; drawn anew after a restart.
//! Failure: the doors' threads go on with the last picture. A primary's deadline stands in it, so
//! that nothing is passed on for longer.

pub(crate) mod picture;

use std::sync::Arc;
use std::time::Duration;

use howdah_consensus::RaftStatus;
use howdah_core::Epoch;
use howdah_proxy::Doors;
use howdah_proxy::route::Picture;
use tokio::sync::watch;

use crate::bouncers::{Bouncers, Wish};
use crate::shell::Context;
use crate::status::Sources;
use picture::{Seen, behind_limit};

/// A picture is drawn anew at least so often.
const AT_LEAST: Duration = Duration::from_secs(1);
/// How long a hand-over waits for clients that a primary is letting in; one that asks its user for a
/// password meanwhile has to come again.
const LET_IN: Duration = Duration::from_millis(500);
/// When they are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

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
        let picture = picture::picture(&sources, config, may, &seen);
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
        let until = picture.leader.as_ref().and_then(|leader| leader.until);
        let next = [Some(seen.begun + behind_limit(&state)), until].into_iter().flatten();
        let next = next.filter(|at| *at > now).map(|at| at.since(now)).min();
        let wake = match next {
            _ if lets_in => LOOK_AGAIN,
            next => next.unwrap_or(AT_LEAST).min(AT_LEAST),
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
