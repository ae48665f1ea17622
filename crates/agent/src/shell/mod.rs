//! The loop: observe, decide, act.
//!
//! Place: one task, the only owner of what this member knows. News (an applied entry, a child that
//! exited, a peer's words, a job's end, an order, a timer) wakes it; it builds a `View`, asks
//! `decide`, and hands the actions out. It never waits for an action itself.
//! State: memory only. What must survive a restart is the log's, PostgreSQL's, or in the identity
//! file; after a restart the loop adopts what runs.
//! Invariants: one job at a time, but for `Kill`, which ends any other; the lease's deadline counts
//! from the clock reading before the renewal that was applied was *sent* (rule S2).
//! Failure: if this task ends or panics, the process ends; the guard kills PostgreSQL at the
//! deadline, and starts another agent.

mod act;
mod lease;
mod local;
mod publish;
mod reload;
pub(crate) mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use howdah_consensus::{Applied, Fatal, Node};
use howdah_core::view::{DataView, Job, Stopping};
use howdah_core::{BootInstant, Decision, MemberName, Reason, Timings, decide};
use howdah_rpc::access::Access;
use tokio::sync::{mpsc, watch};

use crate::board::Board;
use crate::clock::Clock;
use crate::config::Config;
use crate::counters::Counters;
use crate::elephant::{Elephant, JobError, JobOutput, Observed};
use crate::order::{Order, Ordered};
pub(crate) use act::put;
pub use lease::Arming;
use lease::{ForGuard, Lease};
use local::Local;

/// How often the guard hears that the loop turns; it waits six times as long.
const SIGN_OF_LIFE: std::time::Duration = std::time::Duration::from_secs(5);

/// What the loop and its jobs share.
pub struct Context {
    /// This member's configuration.
    pub config: Config,
    /// This member.
    pub me: MemberName,
    /// Limits.
    pub timings: Timings,
    /// The log.
    pub node: Arc<Node>,
    /// Everybody's last words.
    pub board: Arc<Board>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The local PostgreSQL, through the guard.
    pub elephant: Arc<Elephant>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// How members and people reach each other.
    pub access: Access,
}

/// What wakes the loop, beside the log, peers, orders and timers.
#[derive(Debug)]
pub enum News {
    /// The guard says something.
    Guard(howdah_guard::wire::Event),
    /// PostgreSQL was looked at.
    Observed(Observed),
    /// The data directory was looked at, while PostgreSQL was down; or could not be.
    Inspected(Result<DataView, JobError>),
    /// A job ended.
    JobEnded {
        /// Which one; an older one's end means nothing.
        number: u64,
        /// What it was.
        job: Job,
        /// How it ended.
        result: Result<JobOutput, JobError>,
    },
    /// A proposal came back.
    Proposed {
        /// Its kind.
        kind: &'static str,
        /// Whether it was applied; why not.
        result: Result<(), String>,
    },
    /// A change of whom commits wait for was applied, with this generation.
    SyncSettled(u64),
    /// A renewal came back, applied or not.
    RenewalEnded(Result<(), String>),
    /// A hand-over is about to be proposed: nothing is renewed until it is over.
    Withhold,
    /// The guard answered to a new deadline.
    Armed {
        /// For this epoch.
        epoch: howdah_core::Epoch,
        /// Until then.
        deadline: BootInstant,
        /// When the renewal was sent.
        sent: BootInstant,
        /// Whether it took it.
        result: Result<(), String>,
    },
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything is stopped, as asked.
    Orderly,
    /// The store or Raft failed: PostgreSQL was killed.
    Internal,
    /// The data directory is not this cluster's to touch.
    Foreign,
    /// The group removed this node: PostgreSQL was killed.
    Removed,
    /// The guard is gone: PostgreSQL was killed.
    GuardGone,
}

/// The loop's state.
pub struct Shell {
    context: Arc<Context>,
    applied: watch::Receiver<Applied>,
    local: Local,
    lease: Lease,
    started: BootInstant,
    stopping: Stopping,
    stopping_since: BootInstant,
    quorum: bool,
    inbox: mpsc::UnboundedReceiver<News>,
    outbox: mpsc::UnboundedSender<News>,
    proposals: BTreeMap<&'static str, Proposal>,
    last_reason: Option<Reason>,
    reloads: std::collections::VecDeque<reload::Asked>,
    /// When the guard was told last that the loop turns.
    told_guard: BootInstant,
    end: Option<End>,
}

/// A proposal under way, or one that was refused a moment ago.
#[derive(Clone, Copy, Debug)]
enum Proposal {
    UnderWay,
    NotBefore(BootInstant),
}

impl Shell {
    /// A loop that has looked at nothing yet.
    pub fn new(context: Arc<Context>) -> (Self, mpsc::UnboundedSender<News>) {
        let (outbox, inbox) = mpsc::unbounded_channel();
        let (applied, now) = (context.node.applied(), context.clock.boot());
        let local = Local::new(now);
        let shell = Self {
            applied,
            local,
            lease: Lease::new(now),
            started: now,
            stopping: Stopping::No,
            stopping_since: now,
            quorum: false,
            inbox,
            outbox: outbox.clone(),
            proposals: BTreeMap::new(),
            last_reason: None,
            reloads: std::collections::VecDeque::new(),
            told_guard: now,
            end: None,
            context,
        };
        (shell, outbox)
    }

    /// Runs until everything is stopped, or something fails that ends the process.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Ordered>) -> End {
        self.adopt().await;
        let mut heard = self.context.board.changes();
        let mut raft = self.context.node.status_changes();
        let mut fatal = self.context.node.is_fatal();
        loop {
            let decision = self.turn();
            if let Some(end) = self.end {
                return self.finish(end).await;
            }
            let wake = self.wake_in(&decision);
            tokio::select! {
                biased;
                _ = fatal.changed() => {
                    // Whoever was removed would be told so again at each start.
                    let removed = matches!(&*fatal.borrow(), Some(Fatal::Removed(_)));
                    let (what, end) = if removed {
                        ("this node was removed from the group", End::Removed)
                    } else {
                        ("the replicated log failed", End::Internal)
                    };
                    tracing::error!("{what}; PostgreSQL is killed");
                    return self.finish(end).await;
                }
                news = self.inbox.recv() => {
                    if let Some(news) = news {
                        self.take(news);
                    }
                    while let Ok(news) = self.inbox.try_recv() {
                        self.take(news);
                    }
                }
                _ = self.applied.changed() => {}
                _ = raft.changed() => {}
                _ = heard.changed() => {}
                Some((order, answer)) = orders.recv() => {
                    let result = self.order(order);
                    // Whoever asked may have gone away; the order stands.
                    let _ = answer.send(result);
                }
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    /// One turn: take in the log, decide, act.
    fn turn(&mut self) -> Decision {
        self.tell_guard();
        self.quorum = self.context.node.status().quorum;
        let state = self.applied.borrow_and_update().state.clone();
        self.take_in(&state);
        self.lease.withhold_while(self.gives_up());
        self.inspect_if_due();
        self.reload_if_asked();
        let decision = decide(&self.view(&state));
        self.tell(&decision);
        self.tell_what_fails();
        self.tell_of_sync(&decision);
        self.publish(&state, &decision);
        self.count(&state);
        for action in &decision.actions {
            self.act(&state, action);
        }
        let foreign = matches!(decision.reason, Reason::Unusable(_) | Reason::ForeignSystem { .. });
        if foreign && self.local.is_stopped() && self.local.inspect_again.is_none() {
            tracing::error!(reason = %decision.reason, "cannot use the data directory");
            self.end = Some(End::Foreign);
        }
        decision
    }

    /// Lets the guard hear that the loop turns; it kills an agent that hangs.
    fn tell_guard(&mut self) {
        let now = self.context.clock.boot();
        if now.since(self.told_guard) < SIGN_OF_LIFE {
            return;
        }
        self.told_guard = now;
        let elephant = self.context.elephant.clone();
        tokio::spawn(async move {
            // A guard that is gone says so itself.
            let _ = elephant.sign_of_life().await;
        });
    }

    /// Whether a hand-over, a release or a take-back is under way.
    fn gives_up(&self) -> bool {
        let proposes = |kind| matches!(self.proposals.get(kind), Some(Proposal::UnderWay));
        self.local.job() == Some(Job::HandOver) || proposes("release") || proposes("take-back")
    }

    fn count(&self, state: &howdah_core::ClusterState) {
        let (now, counters) = (self.context.clock.boot(), &self.context.counters);
        counters.applied(state, now);
        let (own, heard) = (self.context.board.own().borrow().clone(), self.context.board.heard());
        let raft = self.context.node.status();
        let sources = crate::status::Sources {
            state,
            me: &self.context.me,
            own: &own,
            heard: &heard,
            raft: &raft,
            counters,
            turned: std::time::Duration::ZERO,
            now,
        };
        let writable = sources.why_not_writable().is_none();
        counters.turn(now, self.lease.view().deadline, writable);
    }

    fn wake_in(&self, decision: &Decision) -> std::time::Duration {
        let now = self.context.clock.boot();
        let longest = std::time::Duration::from_secs(1);
        let paused = self.proposals.values().filter_map(|proposal| match proposal {
            Proposal::NotBefore(instant) => Some(*instant),
            Proposal::UnderWay => None,
        });
        let next = decision.wake_at.into_iter().chain(paused).filter(|at| *at > now).min();
        let due = decision.wake_at.is_some_and(|at| at <= now);
        if due {
            // It was decided on a moment ago; the answer changes only with news.
            return std::time::Duration::from_millis(20);
        }
        next.map_or(longest, |at| at.since(now).min(longest))
    }

    /// Says what changed: quiet in the steady state.
    fn tell(&mut self, decision: &Decision) {
        let news = self.last_reason.as_ref() != Some(&decision.reason);
        if news {
            tracing::info!(member = %self.context.me, "{}", decision.reason);
            self.last_reason = Some(decision.reason.clone());
        }
        for action in &decision.actions {
            tracing::debug!(%action, "to do");
        }
    }

    fn order(&mut self, order: Order) -> Result<(), String> {
        match order {
            Order::Restart => self.order_restart(),
            Order::Reload(answer) => {
                self.reload(Some(answer));
                Ok(())
            }
            Order::Reinit => {
                self.not_in_the_middle()?;
                let state = self.applied.borrow().state.clone();
                match state.held() {
                    None => Err("the cluster has no leader to copy from".into()),
                    Some(record) if record.holder == self.context.me => {
                        Err("this member is the leader".into())
                    }
                    Some(_) => {
                        self.local.reinit = true;
                        Ok(())
                    }
                }
            }
        }
    }

    /// What takes moments is waited for; what takes longer is refused by name.
    fn not_in_the_middle(&self) -> Result<(), String> {
        let job = self.local.job().filter(|job| !job.takes_moments());
        job.map_or(Ok(()), |job| Err(format!("{job} already in progress")))
    }

    fn order_restart(&mut self) -> Result<(), String> {
        let state = self.applied.borrow().state.clone();
        if state.fenced.contains(&self.context.me) {
            return Err("this member is fenced; `howdah unfence` starts its PostgreSQL".into());
        }
        if !matches!(self.local.data, DataView::Cluster(_)) {
            return Err("there is no data to start PostgreSQL with".into());
        }
        self.not_in_the_middle()?;
        if state.election.is_some() || state.switchover.is_some() {
            return Err("a change of leader is under way; try again when it is over".into());
        }
        self.local.restart = true;
        Ok(())
    }

    /// What runs already is adopted: guard, incarnation, PostgreSQL.
    async fn adopt(&mut self) {
        match self.context.elephant.adopt().await {
            Ok(adopted) => {
                self.lease.incarnation = adopted.incarnation;
                self.local.adopt(&adopted, self.context.clock.boot());
            }
            Err(why) => {
                tracing::error!("the guard does not answer: {why}");
                self.end = Some(End::GuardGone);
            }
        }
    }

    async fn finish(mut self, end: End) -> End {
        self.local.abort_job();
        match end {
            End::Orderly | End::Foreign => {}
            End::Internal | End::Removed => {
                if let Err(why) = self.context.elephant.kill().await {
                    tracing::error!(
                        "cannot kill PostgreSQL: {why}; the guard does at the deadline"
                    );
                }
            }
            End::GuardGone => self.context.elephant.kill_without_guard(),
        }
        end
    }
}
