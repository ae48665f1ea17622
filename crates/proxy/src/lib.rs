//! The doors: TCP ports that lead to the primary or to standbys, whoever that is now.
//!
//! Place: in each agent, on threads of their own, so that clients do not slow down its loop, nor the
//! loop them. The agent tells what it knows ([`Picture`]) whenever that changes; [`route`] says, purely,
//! where each door leads; sessions are moved by [`relay`].
//! State: memory only. With the agent's process its doors end, and so do their sessions.
//! Invariants: at most one primary is led to, that of the applied leader record, and none of its words
//! reach a client after the deadline of its lease ([`gate`]); a session of an earlier epoch is reset
//! before one of a later epoch begins here.
//! Failure: a member whose agent dies loses the sessions through its doors; clients come back through
//! another member's.

pub mod answer;
mod cancel;
mod connect;
pub mod counters;
mod door;
pub mod frames;
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
mod header;
mod opening;
pub mod packet;
mod relay;
pub mod route;
mod session;
mod threads;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use counters::Counts;
use door::{Door, Live};
pub use door::{Kind, Limits};
use gate::Gate;
use howdah_core::{Epoch, MemberName};
use route::{Picture, Routes, Unfit, Write, routes};
use threads::Threads;
use tokio::sync::watch;

/// What doors are opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which doors, and where they are.
    pub listen: BTreeMap<Kind, SocketAddr>,
    /// What they allow.
    pub limits: Limits,
    /// Threads that move bytes.
    pub threads: usize,
}

/// Why doors could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A port is taken, or not this machine's.
    #[error("listen on {address} (proxy.{}): {why}; is it taken?", .kind.word())]
    Listen {
        /// Whose.
        kind: Kind,
        /// Where.
        address: SocketAddr,
        /// Why.
        why: std::io::Error,
    },
    /// No thread could be made.
    #[error("start the doors' threads: {0}")]
    Threads(std::io::Error),
}

/// How a door is, for metrics and people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorStatus {
    /// Which.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections now.
    pub connections: usize,
    /// Sessions now.
    pub sessions: usize,
    /// Connections that wait now.
    pub waiting: usize,
    /// What was counted.
    pub counts: Counts,
}

/// The doors of one member, until dropped.
#[derive(Debug)]
pub struct Doors {
    doors: Vec<(SocketAddr, Arc<Door>)>,
    threads: Threads,
    live: watch::Sender<Arc<Live>>,
    /// Gates that were shut, while sessions of theirs are still being ended.
    ending: Mutex<Vec<Arc<Gate>>>,
    emptied: Arc<watch::Sender<u64>>,
}

impl Doors {
    /// Opens the doors. Until the first [`Doors::update`] they lead nowhere, and clients wait.
    ///
    /// # Errors
    /// If a port cannot be listened on.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let nowhere = Routes {
            write: Write::Wait("this member has only just started".into()),
            read: Vec::new(),
            why_no_read: "this member has only just started".into(),
            any: Vec::new(),
        };
        let live = Live { routes: nowhere, primary: None, standbys: BTreeMap::new() };
        let live = watch::Sender::new(Arc::new(live));
        let threads = Threads::start(options.threads).map_err(OpenError::Threads)?;
        let mut doors = Vec::new();
        for (kind, address) in &options.listen {
            let door = Arc::new(Door::new(*kind, options.limits, live.subscribe()));
            let bound = threads
                .listen(*address, door.clone())
                .map_err(|why| OpenError::Listen { kind: *kind, address: *address, why })?;
            doors.push((bound, door));
        }
        let emptied = Arc::new(watch::Sender::new(0));
        Ok(Self { doors, threads, live, ending: Mutex::default(), emptied })
    }

    /// Takes in what is known now: sessions that may not go on are reset, and who waits is let on.
    pub fn update(&self, picture: &Picture) {
        let known = self.live.borrow().clone();
        let primary = self.primary_gate(known.primary.as_ref(), picture);
        let standbys = self.standby_gates(&known.standbys, picture);
        let routes = routes(picture);
        self.live.send_if_modified(|live| {
            let same = live.routes == routes
                && live.standbys.len() == standbys.len()
                && live.primary.as_ref().map(|gate| gate.epoch())
                    == primary.as_ref().map(|gate| gate.epoch())
                && live.standbys.iter().zip(&standbys).all(|((_, a), (_, b))| Arc::ptr_eq(a, b));
            if !same {
                *live = Arc::new(Live { routes, primary, standbys });
            }
            !same
        });
    }

    /// The gate of the present primary, with its deadline; another epoch's is shut.
    fn primary_gate(&self, known: Option<&Arc<Gate>>, picture: &Picture) -> Option<Arc<Gate>> {
        let leader = picture.leader.as_ref();
        if let (Some(gate), Some(leader)) = (known, leader)
            && gate.epoch() == leader.epoch
        {
            gate.extend(leader.until);
            return Some(gate.clone());
        }
        if let Some(gate) = known {
            self.shut(gate);
        }
        leader.map(|leader| Arc::new(Gate::new(leader.epoch, leader.until, self.emptied.clone())))
    }

    /// Gates of those that are read from. Who falls behind keeps its sessions; who leads, or is no
    /// member any more, does not.
    fn standby_gates(
        &self,
        known: &BTreeMap<MemberName, Arc<Gate>>,
        picture: &Picture,
    ) -> BTreeMap<MemberName, Arc<Gate>> {
        let mut gates = BTreeMap::new();
        for place in picture.members.iter().filter(|place| place.unfit != Some(Unfit::Leads)) {
            let gate = known
                .get(&place.name)
                .cloned()
                .unwrap_or_else(|| Arc::new(Gate::new(Epoch(0), None, self.emptied.clone())));
            gates.insert(place.name.clone(), gate);
        }
        for (_, gate) in known.iter().filter(|(name, _)| !gates.contains_key(*name)) {
            self.shut(gate);
        }
        gates
    }

    fn shut(&self, gate: &Arc<Gate>) {
        let ended = gate.shut();
        if ended > 0 {
            self.threads.cut(ended);
        }
        let mut ending = self.ending();
        ending.push(gate.clone());
        ending.retain(|gate| gate.sessions() > 0);
    }

    /// Whether a session of an earlier primary still exists here.
    pub fn has_old_sessions(&self) -> bool {
        self.ending().iter().any(|gate| gate.sessions() > 0)
    }

    /// Whether the primary lets a client in just now, who would notice if it stopped.
    pub fn is_letting_in(&self) -> bool {
        let others = |kind: Kind| kind != Kind::Read;
        self.doors.iter().any(|(_, door)| others(door.kind) && door.is_letting_in())
    }

    /// Ticks when the last session behind a shut gate has gone.
    pub fn emptied(&self) -> watch::Receiver<u64> {
        self.emptied.subscribe()
    }

    /// How the doors are.
    pub fn status(&self) -> Vec<DoorStatus> {
        let status = |(address, door): &(SocketAddr, Arc<Door>)| DoorStatus {
            kind: door.kind,
            address: *address,
            connections: door.connections(),
            sessions: door.sessions(),
            waiting: door.waiting(),
            counts: self.threads.counts(door.kind),
        };
        self.doors.iter().map(status).collect()
    }

    /// Takes no connections any more.
    pub fn deafen(&self) {
        self.threads.deafen();
    }

    /// Takes no connections any more, and waits for the sessions to end; what is left after `limit` is
    /// reset.
    pub async fn drain(&self, limit: Duration) {
        self.deafen();
        let deadline = tokio::time::Instant::now() + limit;
        let left = || self.doors.iter().map(|(_, door)| door.sessions()).sum::<usize>();
        while left() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for (_, door) in &self.doors {
            door.cut();
        }
    }

    fn ending(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Gate>>> {
        self.ending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
