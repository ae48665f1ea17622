//! What a decision asks its executor to do.
//!
//! Invariants: an action is complete, the executor has no choice to make; it carries the epoch that
//! it was decided under, which the guard checks again right before the effect; it can be repeated
//! after a crash at any point. Order in a decision is order of execution.

use crate::command::Command;
use crate::ids::{BootInstant, Epoch, Incarnation, MemberName, Position, Timeline};
use crate::reason::Reason;
use crate::sync::Demand;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Renew the lease: draw a nonce, read the clock, propose.
    Renew {
        /// Of this epoch.
        epoch: Epoch,
        /// Into maintenance mode, or staying in it. Otherwise, coming out of it, the guard has its
        /// deadline before the renewal is proposed.
        paused: bool,
    },
    /// Put a command into the log.
    Propose(Box<Command>),
    /// Vote, with the disk end read now.
    Vote {
        /// In the election of this epoch.
        epoch: Epoch,
        /// Why this member may not lead, by its own knowledge.
        barred: Option<String>,
        /// It cannot win.
        bar_only: bool,
    },
    /// Kill every process of the local PostgreSQL.
    Kill,
    /// Stop the local PostgreSQL in good order (fast shutdown).
    Stop,
    /// Checkpoint, then stop in good order, to be started again.
    StopToRestart,
    /// Start as a standby without any upstream.
    StartIsolated,
    /// Start read-write, the lease being held.
    StartInPlace {
        /// Under this epoch.
        epoch: Epoch,
    },
    /// Make the first data.
    Initdb {
        /// Of this attempt.
        attempt: u64,
        /// For this life of the guard.
        incarnation: Incarnation,
    },
    /// Make sure that no WAL of an older epoch is accepted any more.
    Promise {
        /// The epoch promised to.
        epoch: Epoch,
    },
    /// Leave recovery.
    Promote {
        /// Under this epoch.
        epoch: Epoch,
        /// Onto this timeline.
        timeline: Timeline,
    },
    /// Stream from the leader.
    Follow {
        /// The leader.
        leader: MemberName,
        /// Its epoch.
        epoch: Epoch,
    },
    /// Undo what the leader does not have.
    Rewind {
        /// From this member.
        source: MemberName,
        /// Under this epoch.
        epoch: Epoch,
        /// Last position in common.
        fork: Position,
    },
    /// Copy a member's data. A server that still runs is stopped by the same job: between two
    /// decisions it would be forgotten why.
    Clone {
        /// From this member.
        source: MemberName,
        /// Under this epoch.
        epoch: Epoch,
    },
    /// Put into the log what PostgreSQL wrote into its history file.
    RecordTimeline {
        /// Under this epoch.
        epoch: Epoch,
        /// The timeline.
        timeline: Timeline,
    },
    /// Roles, slots and a checkpoint on a new primary.
    PreparePrimary {
        /// Under this epoch.
        epoch: Epoch,
    },
    /// Have commits wait for this, prove that every walsender goes by it, and wait a moment for
    /// what was acknowledged before to be flushed by it.
    SetDemand {
        /// Under this epoch.
        epoch: Epoch,
        /// What commits wait for.
        demand: Demand,
    },
    /// Admit clients.
    Open {
        /// Under this epoch.
        epoch: Epoch,
    },
    /// Hand over: hold clients out, checkpoint, stop, prove, transfer.
    HandOver {
        /// Under this epoch.
        epoch: Epoch,
        /// To this member.
        to: MemberName,
    },
    /// Everything is stopped: the agent may end.
    End,
}

/// What to do now, why, and when to look again if nothing happens before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// In this order.
    pub actions: Vec<Action>,
    /// Why, also when nothing is to be done.
    pub reason: Reason,
    /// When the answer may change by the mere passing of time.
    pub wake_at: Option<BootInstant>,
}

impl Decision {
    /// Nothing to do.
    pub fn wait(reason: Reason) -> Self {
        Self { actions: Vec::new(), reason, wake_at: None }
    }

    /// One thing to do.
    pub fn act(action: Action, reason: Reason) -> Self {
        Self { actions: vec![action], reason, wake_at: None }
    }

    /// Look again at `instant` at the latest.
    #[must_use]
    pub fn until(mut self, instant: BootInstant) -> Self {
        self.wake_at = Some(self.wake_at.map_or(instant, |earlier| earlier.min(instant)));
        self
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Action::Renew { epoch, paused: false } => write!(f, "renew epoch={epoch}"),
            Action::Renew { epoch, paused: true } => write!(f, "renew epoch={epoch} paused"),
            Action::Propose(command) => write!(f, "propose {}", brief(command)),
            Action::Vote { epoch, barred, bar_only } => {
                write!(f, "vote epoch={epoch}")?;
                if let Some(why) = barred {
                    write!(f, " barred=\"{why}\"")?;
                }
                if *bar_only { f.write_str(" bar-only") } else { Ok(()) }
            }
            Action::Kill => f.write_str("kill"),
            Action::Stop => f.write_str("stop"),
            Action::StopToRestart => f.write_str("stop to restart"),
            Action::StartIsolated => f.write_str("start isolated"),
            Action::StartInPlace { epoch } => write!(f, "start in place epoch={epoch}"),
            Action::Initdb { attempt, .. } => write!(f, "initdb attempt={attempt}"),
            Action::Promise { epoch } => write!(f, "promise epoch={epoch}"),
            Action::Promote { epoch, timeline } => {
                write!(f, "promote epoch={epoch} timeline={timeline}")
            }
            Action::Follow { leader, epoch } => write!(f, "follow {leader} epoch={epoch}"),
            Action::Rewind { source, epoch, fork } => {
                write!(f, "rewind from={source} epoch={epoch} to {fork}")
            }
            Action::Clone { source, epoch } => write!(f, "clone from={source} epoch={epoch}"),
            Action::RecordTimeline { epoch, timeline } => {
                write!(f, "record epoch={epoch} timeline={timeline}")
            }
            Action::PreparePrimary { epoch } => write!(f, "prepare primary epoch={epoch}"),
            Action::SetDemand { epoch, demand } => {
                write!(f, "have commits wait for {demand} epoch={epoch}")
            }
            Action::Open { epoch } => write!(f, "open epoch={epoch}"),
            Action::HandOver { epoch, to } => write!(f, "hand over to={to} epoch={epoch}"),
            Action::End => f.write_str("end"),
        }
    }
}

/// A command in a few words, for logs and golden scripts.
fn brief(command: &Command) -> String {
    match command {
        Command::Release { epoch, renewals, .. } => {
            format!("release epoch={epoch} renewals={renewals}")
        }
        Command::OpenElection { observed_epoch, observed_renewals, reason, .. } => {
            format!("open-election over={observed_epoch}/{observed_renewals} ({reason})")
        }
        Command::CloseElection { epoch, waited_ms, not_heard, .. } => {
            let names: Vec<&str> = not_heard.iter().map(MemberName::as_str).collect();
            format!("close-election epoch={epoch} waited={waited_ms}ms not-heard={names:?}")
        }
        Command::RecordTimeline { epoch, timeline, .. } => {
            format!("record-timeline epoch={epoch} timeline={timeline}")
        }
        Command::GrantBootstrap { attempt, member, .. } => {
            format!("grant-bootstrap attempt={attempt} member={member}")
        }
        Command::FinishBootstrap { attempt, member, .. } => {
            format!("finish-bootstrap attempt={attempt} member={member}")
        }
        Command::RequestSwitchover { epoch, to, .. } => {
            format!("request-switchover epoch={epoch} to={to}")
        }
        Command::CancelSwitchover { epoch, .. } => format!("cancel-switchover epoch={epoch}"),
        Command::TakeBack { epoch, .. } => format!("take-back epoch={epoch}"),
        Command::TransferLease { epoch, to, .. } => format!("transfer epoch={epoch} to={to}"),
        Command::FoundGroup { .. } => "found-group".into(),
        Command::RetireNode { node_id } => format!("retire-node {node_id}"),
        Command::SetSecrets { .. } => "set-secrets".into(),
        Command::UpsertMember { name, .. } => format!("member {name}"),
        Command::Renew { epoch, .. } => format!("renew epoch={epoch}"),
        Command::CastBallot { epoch, member, .. } => format!("ballot epoch={epoch} of {member}"),
        Command::Failover { epoch, .. } => format!("failover epoch={epoch}"),
        Command::ChangeSync { epoch, pair: Some(pair), .. } => {
            format!("sync epoch={epoch} votes={pair}")
        }
        Command::ChangeSync { epoch, pair: None, .. } => format!("async epoch={epoch}"),
        Command::Barrier { epoch, lsn, demand, .. } => {
            format!("barrier epoch={epoch} at={lsn} acks={demand}")
        }
        Command::SetPause { paused, .. } => format!("set-pause {paused}"),
        Command::RotateSecrets { seen, .. } => format!("rotate-secrets seen={seen}"),
        Command::GrantToken { name, .. } => format!("grant-token {name}"),
        Command::RevokeToken { name, .. } => format!("revoke-token {name}"),
        Command::BeginAudit { audit } => format!("begin-audit {}", audit.what),
        Command::EndAudit { end, .. } => format!("end-audit done={}", end.done),
        Command::SetFence { member, fenced, .. } => format!("set-fence {member} {fenced}"),
    }
}
