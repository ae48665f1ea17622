//! What guard and agent say to each other.
//!
//! Place: both ends of the guard's socket. JSON, one message per frame ([`encode`], [`Frames`]).
//! Compatibility: a guard works with agents one version older or newer, since sidecars are upgraded
//! while the guard goes on: fields are only added, unknown fields are ignored, a request that is
//! not known is refused by its id, an event that is not known is skipped.

use std::path::PathBuf;
use std::time::Duration;

use howdah_core::{BootInstant, Epoch, Incarnation};
use serde::{Deserialize, Serialize};

pub use crate::frame::{FRAME_MAX, FrameError, Frames, encode};

/// Version of these messages.
pub const VERSION: u32 = 1;
/// Oldest version that is understood.
pub const VERSION_MIN: u32 = 1;
/// Environment variable with the number of the agent's descriptor.
pub const FD_VARIABLE: &str = "HOWDAH_GUARD_FD";

/// A request and its number, which the reply repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromAgent {
    /// Chosen by the agent, different for each request of one connection.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// Whatever the guard says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGuard {
    /// The answer to one request.
    Reply {
        /// The request's number.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// Something happened.
    Event(Event),
}

/// What the agent asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Opens the talk; answered by `Status`.
    Hello {
        /// The agent's version of these messages.
        version: u32,
    },
    /// How things are.
    Status,
    /// PostgreSQL may be writable until the deadline, under this epoch.
    Arm {
        /// Epoch of the leader record.
        epoch: Epoch,
        /// Its renewals.
        renewals: u64,
        /// Until when.
        deadline: BootInstant,
        /// Whether the deadline is meant to come earlier than the present one.
        cut: bool,
    },
    /// No deadline until armed by something newer: paused, released, demoted.
    Disarm {
        /// Epoch of the leader record.
        epoch: Epoch,
        /// Its renewals.
        renewals: u64,
    },
    /// Starts PostgreSQL; answered by `Started`.
    StartPostgres(StartPostgres),
    /// Signals the postmaster or a process below it.
    Signal {
        /// To whom.
        pid: i32,
        /// Which signal.
        signal: i32,
        /// Epoch that must be armed, if the signal needs one.
        authority: Option<Epoch>,
    },
    /// Has PostgreSQL leave recovery.
    Promote {
        /// Epoch that must be armed.
        epoch: Epoch,
        /// The directory that the running server must have.
        data_dir: PathBuf,
    },
    /// Writes standby.signal and makes it durable.
    PutStandbySignal {
        /// Where.
        data_dir: PathBuf,
    },
    /// Kills every process of PostgreSQL; answered by `Killed` once that is proven.
    KillPostgres,
    /// The postmaster and everything below it; answered by `Processes`.
    Processes,
    /// Holds the virtual address as long as this epoch is armed and a server runs.
    HoldVip {
        /// Epoch that must be armed.
        epoch: Epoch,
    },
    /// Lets the virtual address go.
    DropVip,
    /// The agent stopped everything in good order and is about to end.
    Shutdown,
}

/// How to start PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartPostgres {
    /// The `postgres` executable.
    pub program: PathBuf,
    /// Its arguments, without the program's name.
    pub args: Vec<String>,
    /// Added to the guard's own environment.
    pub env: Vec<(String, String)>,
    /// Directory to start in.
    pub cwd: PathBuf,
    /// The data directory.
    pub data_dir: PathBuf,
    /// None: as a standby. An epoch: read-write in place, if exactly this one is armed.
    pub authority: Option<Epoch>,
    /// File that its output is appended to; none: the guard's stderr.
    pub log: Option<PathBuf>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is so.
    Done,
    /// It was not done.
    Refused(Refusal),
    /// How things are.
    Status(Status),
    /// PostgreSQL's process was started; whether it comes up is another matter.
    Started {
        /// The postmaster.
        pid: i32,
    },
    /// No process of PostgreSQL is left.
    Killed {
        /// How that is known.
        proof: KillProof,
    },
    /// Processes, the postmaster first.
    Processes(Vec<ProcessInfo>),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No epoch is armed.
    #[error("no deadline is armed, so there is no authority to write")]
    NotArmed,
    /// Another epoch is armed.
    #[error("epoch {armed} is armed, not the one that was named")]
    WrongEpoch {
        /// The one that is.
        armed: Epoch,
    },
    /// The deadline passed; nothing extends it under this incarnation.
    #[error("the deadline has passed")]
    Expired,
    /// Something newer was given before.
    #[error("renewal {renewals} of epoch {epoch} was given before; only a newer one counts")]
    NotNewer {
        /// Epoch of the newest.
        epoch: Epoch,
        /// Its renewals.
        renewals: u64,
    },
    /// The deadline would come earlier, and the request did not say that this is meant.
    #[error("that deadline lies before the present one; cutting it must be asked for")]
    WouldShorten,
    /// None is configured, or it was when howdah was started.
    #[error("this guard keeps no virtual address; restart howdah to have it read vip anew")]
    NoVip,
    /// PostgreSQL does not run below this guard.
    #[error("no postmaster runs below this guard")]
    NoPostmaster,
    /// PostgreSQL runs already.
    #[error("a postmaster runs already: process {pid}")]
    Running {
        /// The postmaster.
        pid: i32,
    },
    /// PostgreSQL is being killed.
    #[error("PostgreSQL is being killed; wait for the proof")]
    Killing,
    /// The guard is ending.
    #[error("the guard is ending")]
    Ending,
    /// The directory would start read-write.
    #[error("{data_dir} has no standby.signal and would start read-write; write it first")]
    NoStandbySignal {
        /// The directory.
        data_dir: PathBuf,
    },
    /// The server that runs has another directory.
    #[error("the server that runs has the directory {running}")]
    WrongDirectory {
        /// The server's directory.
        running: PathBuf,
    },
    /// The process is not PostgreSQL's.
    #[error("process {pid} is neither the postmaster nor below it")]
    NotOurs {
        /// The process.
        pid: i32,
    },
    /// The signal does not exist or has a request of its own.
    #[error("signal {signal} is not sent by this request")]
    BadSignal {
        /// The signal.
        signal: i32,
    },
    /// The operating system refused.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What it said.
        error: String,
    },
    /// The other side is too old.
    #[error("version {version} of the guard's protocol is not understood; use {least} or newer")]
    Version {
        /// Theirs.
        version: u32,
        /// The oldest that is understood.
        least: u32,
    },
    /// The request is not known to this version.
    #[error("this guard does not know the request: {why}; restart howdah to upgrade the guard")]
    Unknown {
        /// What was wrong.
        why: String,
    },
}

/// How things are with the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The guard's version of these messages.
    pub version: u32,
    /// Its present life.
    pub incarnation: Incarnation,
    /// The deadline, if there is one.
    pub armed: Option<Armed>,
    /// The server, if it runs.
    pub postmaster: Option<Postmaster>,
    /// How the last server ended.
    pub last_exit: Option<LastExit>,
    /// How it kills.
    pub kill_path: KillPath,
    /// How often an agent was started again.
    pub agent_restarts: u32,
}

/// A deadline and what it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Armed {
    /// Epoch of the leader record.
    pub epoch: Epoch,
    /// Its renewals.
    pub renewals: u64,
    /// Until when PostgreSQL may be writable.
    pub deadline: BootInstant,
}

/// A server that runs below the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postmaster {
    /// Its process.
    pub pid: i32,
    /// When it was started.
    pub start_instant: BootInstant,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// The epoch under which it was started read-write or promoted; none: a standby.
    pub authority: Option<Epoch>,
}

/// How a server ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// Its process.
    pub pid: i32,
    /// When the guard saw it.
    pub at: BootInstant,
    /// For people.
    pub status: String,
    /// Its exit code, if it exited by itself.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
}

/// How processes are found and killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KillPath {
    /// `cgroup.kill` in a group of its own.
    Cgroup,
    /// By parents; orphans come to the guard, who is a subreaper.
    Subreaper,
}

/// How it is known that no process is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillProof {
    /// How they were killed.
    pub path: KillPath,
    /// From the decision, or the deadline, to the proof.
    pub took: Duration,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its id.
    pub pid: i32,
    /// Its parent.
    pub ppid: i32,
    /// Its command line: for PostgreSQL's children the title they set.
    pub title: String,
}

/// What the guard says unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The postmaster ended, and whatever it left behind was killed.
    PostmasterExited {
        /// Its process.
        pid: i32,
        /// For people.
        status: String,
        /// Its exit code, if it exited by itself.
        code: Option<i32>,
        /// The signal that ended it, if one did.
        signal: Option<i32>,
        /// Whether it is proven that no process is left.
        all_gone: bool,
    },
    /// The deadline passed, or the machine was suspended; PostgreSQL is proven dead.
    DeadlineFired {
        /// The epoch that was armed.
        epoch: Epoch,
        /// The guard's life from now on; grants for the old one mean nothing any more.
        new_incarnation: Incarnation,
        /// From the deadline to the proof.
        took: Duration,
    },
    /// The virtual address was taken or let go, or cannot be.
    Vip {
        /// Whether this machine has it.
        held: bool,
        /// What is wrong.
        trouble: Option<String>,
    },
    /// Hand over and stop.
    Terminate {
        /// Without waiting for a handover.
        fast: bool,
    },
    /// Read the configuration again.
    Reload,
    /// End in good order to be started anew, with PostgreSQL left running.
    Reexec,
    /// The guard is dead. Never on the wire: the client says so when the socket ends.
    #[serde(skip)]
    GuardGone,
}
