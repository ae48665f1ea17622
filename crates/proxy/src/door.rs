//! One door: where it leads now, who waits at it, who has gone through.
//!
//! Invariants: who waits is let on in the order of coming, [`ABREAST`] at a time; at most `hold_limit`
//! wait; a wait ends after `hold_timeout` with the reason for it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use howdah_core::MemberName;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::answer::{CANNOT_CONNECT_NOW, Refusal};
use crate::connect;
use crate::counters::Counters;
use crate::gate::Gate;
use crate::relay::Vital;
use crate::route::{Candidate, Routes, Write};

/// How many look for their server at once; the others queue behind.
const ABREAST: usize = 16;
/// Between two attempts where nothing changed.
const AGAIN: Duration = Duration::from_millis(50);

/// What a door is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// To the primary.
    Write,
    /// To a standby.
    Read,
    /// To any member.
    Any,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Write, Kind::Read, Kind::Any];

    /// As the configuration and metrics call it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Write => "read_write",
            Kind::Read => "read_only",
            Kind::Any => "any",
        }
    }
}

/// What a door allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a connection waits for a place to go to.
    pub hold_timeout: Duration,
    /// How many may wait.
    pub hold_limit: usize,
    /// How many connections there may be.
    pub max_connections: usize,
    /// After so long without a byte either way a session is ended; none: never.
    pub idle_timeout: Option<Duration>,
    /// Clients must begin with a PROXY header.
    pub accept_proxy_protocol: bool,
    /// Servers are told a PROXY header first.
    pub send_proxy_protocol: bool,
}

/// Where the doors lead, with the gates of those places.
#[derive(Debug)]
pub struct Live {
    /// Where.
    pub routes: Routes,
    /// The present primary's.
    pub primary: Option<Arc<Gate>>,
    /// Those of members that are read from.
    pub standbys: BTreeMap<MemberName, Arc<Gate>>,
}

/// A place to go to.
#[derive(Clone, Debug)]
pub struct Way {
    /// Whose.
    pub name: MemberName,
    /// HOST:PORT.
    pub address: String,
    /// Its gate.
    pub gate: Arc<Gate>,
}

/// A server that a client is being led to.
pub struct Server<'a> {
    /// Its connection.
    pub stream: TcpStream,
    /// Which it is.
    pub way: Way,
    /// Counts the client until it has entered.
    pub opening: Counted<'a>,
}

impl Server<'_> {
    /// It does not take the client.
    pub fn let_go(self) -> Way {
        self.way
    }
}

/// Why a client did not get a server.
#[derive(Debug)]
pub enum Turned {
    /// It is told this.
    Away(Refusal),
    /// It has gone itself.
    Gone,
}

/// One door.
#[derive(Debug)]
pub struct Door {
    /// What it is for.
    pub kind: Kind,
    /// What it allows.
    pub limits: Limits,
    live: watch::Receiver<Arc<Live>>,
    turnstile: Semaphore,
    waiting: AtomicUsize,
    /// Connections whose server has not taken them yet.
    opening: AtomicUsize,
    connections: AtomicUsize,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    next: u64,
    open: BTreeMap<u64, Session>,
    /// How many by server.
    at: BTreeMap<MemberName, usize>,
}

#[derive(Debug)]
struct Session {
    server: MemberName,
    handle: AbortHandle,
    vital: Arc<Vital>,
    still: u32,
}

/// Counts one thing until dropped.
#[derive(Debug)]
pub struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn one(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Door {
    /// A door that leads where `live` says.
    pub fn new(kind: Kind, limits: Limits, live: watch::Receiver<Arc<Live>>) -> Self {
        Self {
            kind,
            limits,
            live,
            turnstile: Semaphore::new(ABREAST),
            waiting: AtomicUsize::new(0),
            opening: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            sessions: Mutex::default(),
        }
    }

    /// A connection came; how many there are now counts it in.
    pub fn come_in(&self) -> (Counted<'_>, usize) {
        let counted = Counted::one(&self.connections);
        (counted, self.connections.load(Ordering::SeqCst))
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections that wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Connects `client` to where the door leads; waits while that is nowhere.
    pub async fn server(
        &self,
        client: &TcpStream,
        since: Instant,
        counters: &Counters,
    ) -> Result<Server<'_>, Turned> {
        let deadline = since + self.limits.hold_timeout;
        let mut wait = Wait { door: self, deadline, client, counters, counted: None };
        let _turn = wait.turn().await?;
        let (mut live, mut avoid) = (self.live.clone(), Vec::new());
        loop {
            let now = live.borrow_and_update().clone();
            let why = match self.way(&now, &avoid) {
                Ok(way) => {
                    let connected = tokio::select! {
                        connected = connect::server(&way.address) => connected,
                        // It may lead elsewhere now; the old place may never answer.
                        () = moved_on(&mut live, &way) => continue,
                    };
                    match connected {
                        Ok(stream) => {
                            // Counted first: whoever changes the routes, and then finds nobody
                            // counted, has kept everybody out.
                            let opening = Counted::one(&self.opening);
                            if self.leads_to(&way) {
                                return Ok(Server { stream, way, opening });
                            }
                            continue;
                        }
                        Err(why) => {
                            let why = format!("{} at {}: {why}", way.name, way.address);
                            avoid.push(way.name);
                            why
                        }
                    }
                }
                Err(why) => why,
            };
            let tried = !avoid.is_empty();
            wait.or(&why, async {
                tokio::select! {
                    _ = live.changed() => {}
                    () = tokio::time::sleep(AGAIN), if tried => {}
                }
            })
            .await?;
        }
    }

    /// Until it is worth to try again after a server turned the client away; ends with the hold
    /// time.
    pub async fn pause(
        &self,
        client: &TcpStream,
        since: Instant,
        counters: &Counters,
        why: &str,
    ) -> Result<(), Turned> {
        let deadline = since + self.limits.hold_timeout;
        let mut wait = Wait { door: self, deadline, client, counters, counted: None };
        let mut live = self.live.clone();
        live.mark_unchanged();
        wait.or(why, async {
            tokio::select! {
                _ = live.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        })
        .await
    }

    /// Whether the door still leads there.
    pub fn leads_to(&self, way: &Way) -> bool {
        leads_to(&self.live.borrow(), way)
    }

    /// Where to go: by the routes, among several to the one with the fewest sessions; never to whom
    /// `avoid` names, unless nobody else is left.
    fn way(&self, live: &Live, avoid: &[MemberName]) -> Result<Way, String> {
        let to = |candidate: &Candidate| {
            let gate = live.gate(&candidate.name)?;
            let (name, address) = (candidate.name.clone(), candidate.address.clone());
            Some(Way { name, address, gate })
        };
        match self.kind {
            Kind::Write => match (&live.routes.write, &live.primary) {
                (Write::To(primary), Some(gate)) if gate.epoch() == primary.epoch => Ok(Way {
                    name: primary.name.clone(),
                    address: primary.address.clone(),
                    gate: gate.clone(),
                }),
                (Write::Wait(why), _) => Err(why.clone()),
                (Write::To(_), _) => Err("the leader changes".into()),
            },
            Kind::Read => self
                .fewest(&live.routes.read, avoid)
                .and_then(to)
                .ok_or_else(|| live.routes.why_no_read.clone()),
            Kind::Any => self
                .fewest(&live.routes.any, avoid)
                .and_then(to)
                .ok_or_else(|| "no member answers".into()),
        }
    }

    /// Addresses of all servers that a session of this door may be on.
    pub fn addresses(&self) -> Vec<String> {
        let live = self.live.borrow();
        match (self.kind, &live.routes.write) {
            (Kind::Write, Write::To(primary)) => vec![primary.address.clone()],
            (Kind::Write, Write::Wait(_)) => Vec::new(),
            (Kind::Read | Kind::Any, _) => {
                live.routes.any.iter().map(|candidate| candidate.address.clone()).collect()
            }
        }
    }

    fn fewest<'a>(
        &self,
        candidates: &'a [Candidate],
        avoid: &[MemberName],
    ) -> Option<&'a Candidate> {
        let sessions = self.lock();
        let load = |name: &MemberName| sessions.at.get(name).copied().unwrap_or(0);
        candidates.iter().min_by_key(|candidate| {
            let avoided = avoid.contains(&candidate.name);
            (avoided, !candidate.near, load(&candidate.name))
        })
    }

    /// A session begins.
    pub fn enter(&self, server: MemberName, handle: AbortHandle, vital: Arc<Vital>) -> u64 {
        let mut sessions = self.lock();
        sessions.next += 1;
        let number = sessions.next;
        *sessions.at.entry(server.clone()).or_default() += 1;
        sessions.open.insert(number, Session { server, handle, vital, still: 0 });
        number
    }

    /// A session ended.
    pub fn leave(&self, number: u64) {
        let mut sessions = self.lock();
        let Some(session) = sessions.open.remove(&number) else { return };
        if let Some(at) = sessions.at.get_mut(&session.server) {
            *at -= 1;
        }
    }

    /// Sessions now.
    pub fn sessions(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether a server lets a client in just now.
    pub fn is_letting_in(&self) -> bool {
        self.opening.load(Ordering::SeqCst) > 0
            || self.lock().open.values().any(|session| session.vital.is_young())
    }

    /// Ends all sessions.
    pub fn cut(&self) {
        for session in self.lock().open.values() {
            session.handle.abort();
        }
    }

    /// Ends sessions in which nothing moved for `idle_timeout`; to be called `rounds` times in it.
    pub fn sweep(&self, rounds: u32) {
        for session in self.lock().open.values_mut() {
            let moved = session.vital.moved.swap(false, Ordering::Relaxed);
            session.still = if moved { 0 } else { session.still + 1 };
            if session.still > rounds {
                session.handle.abort();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn no_place(&self, why: &str) -> Refusal {
        let message = match self.kind {
            Kind::Write => "there is no primary that takes writes",
            Kind::Read => "there is no standby to read from",
            Kind::Any => "there is no member to connect to",
        };
        Refusal { detail: why.to_owned(), ..Refusal::new(CANNOT_CONNECT_NOW, message) }
    }
}

impl Live {
    fn gate(&self, name: &MemberName) -> Option<Arc<Gate>> {
        let leads = matches!(&self.routes.write, Write::To(primary) if primary.name == *name);
        if leads { self.primary.clone() } else { self.standbys.get(name).cloned() }
    }
}

fn leads_to(live: &Live, way: &Way) -> bool {
    let places = [&live.primary].into_iter().flatten().chain(live.standbys.values());
    let mut gates = places.filter(|gate| Arc::ptr_eq(gate, &way.gate));
    let waits = matches!(live.routes.write, Write::Wait(_));
    let primary = live.primary.as_ref().is_some_and(|gate| Arc::ptr_eq(gate, &way.gate));
    gates.next().is_some() && !(primary && waits)
}

/// Until the door leads elsewhere than `way`.
async fn moved_on(live: &mut watch::Receiver<Arc<Live>>, way: &Way) {
    // Its sender lives as long as the doors do.
    let _ = live.wait_for(|live| !leads_to(live, way)).await;
}

/// One connection's patience.
struct Wait<'a> {
    door: &'a Door,
    deadline: Instant,
    client: &'a TcpStream,
    counters: &'a Counters,
    counted: Option<Counted<'a>>,
}

impl<'a> Wait<'a> {
    /// Its turn to look for a server.
    async fn turn(&mut self) -> Result<SemaphorePermit<'a>, Turned> {
        let door = self.door;
        if let Ok(turn) = door.turnstile.try_acquire() {
            return Ok(turn);
        }
        let mut turn = None;
        self.or("others are before it in the queue", async {
            turn = door.turnstile.acquire().await.ok();
        })
        .await?;
        // The turnstile is never closed.
        turn.ok_or(Turned::Gone)
    }

    /// Waits for `something`, as long as it may.
    async fn or(&mut self, why: &str, something: impl Future<Output = ()>) -> Result<(), Turned> {
        let door = self.door;
        if self.counted.is_none() {
            let counted = Counted::one(&door.waiting);
            if door.waiting() > door.limits.hold_limit {
                let mut refusal = door.no_place(why);
                refusal.hint = format!(
                    "{} connections wait for one already (proxy.hold_limit).",
                    door.limits.hold_limit
                );
                return Err(Turned::Away(refusal));
            }
            self.counted = Some(counted);
            self.counters.wait();
        }
        tokio::select! {
            biased;
            () = something => Ok(()),
            () = connect::gone(self.client) => Err(Turned::Gone),
            () = tokio::time::sleep_until(self.deadline) => {
                let mut refusal = door.no_place(why);
                let seconds = door.limits.hold_timeout.as_secs_f64();
                refusal.hint = format!("It was waited for, {seconds} s (proxy.hold_timeout).");
                Err(Turned::Away(refusal))
            }
        }
    }
}
