//! The protocol between guard and agent: JSON frames behind a length, over one socket.
//!
//! Version N-1 is understood: unknown fields are ignored, fields that came later have defaults.

use std::path::PathBuf;
use std::time::Duration;

use howdah_core::{BootInstant, Epoch, Incarnation};
use serde::{Deserialize, Serialize};

/// Version of this protocol.
pub const VERSION: u32 = 1;
/// Longest frame, bytes; a longer one ends the connection.
pub const FRAME_MAX: usize = 1 << 20;

/// What the agent asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// How are you?
    Status,
    /// PostgreSQL may be writable until `deadline`.
    Arm {
        /// Epoch of the lease.
        epoch: Epoch,
        /// Its renewals.
        renewals: u64,
        /// Until when.
        deadline: BootInstant,
        /// The deadline is shortened on purpose.
        cut: bool,
    },
    /// No deadline any more; PostgreSQL is stopped, in recovery, or the cluster is paused.
    Disarm {
        /// Epoch of the lease.
        epoch: Epoch,
        /// Its renewals.
        renewals: u64,
    },
    /// Start PostgreSQL.
    StartPostgres(StartPostgres),
    /// Send a signal to the postmaster or to a process below it.
    Signal {
        /// To whom.
        pid: i32,
        /// Its number.
        signal: i32,
        /// Only under a deadline of this epoch.
        authority: Option<Epoch>,
    },
    /// Have PostgreSQL leave recovery.
    Promote {
        /// Only under a deadline of this epoch.
        epoch: Epoch,
        /// Its data directory.
        data_dir: PathBuf,
    },
    /// Write standby.signal, durably.
    PutStandbySignal {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// Kill every process of PostgreSQL and prove it.
    KillPostgres,
    /// List the postmaster and what is below it.
    Processes,
    /// The agent is about to end in good order.
    Shutdown,
}

/// How PostgreSQL is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartPostgres {
    /// `postgres`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Read-write in place, under a deadline of this epoch; none: as a standby.
    pub authority: Option<Epoch>,
    /// Where what it says before its own log goes.
    pub log: Option<PathBuf>,
}

/// What the guard answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It was done.
    Done,
    /// It was not.
    Refused(Refusal),
    /// PostgreSQL was started.
    Started {
        /// The postmaster.
        pid: i32,
    },
    /// No process of PostgreSQL is left.
    Killed {
        /// How long that took.
        took: Duration,
    },
    /// The listing.
    Processes(Vec<Process>),
    /// How the guard is.
    Status(Status),
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// There is no deadline.
    #[error("no deadline is set")]
    NotArmed,
    /// The deadline is of another epoch.
    #[error("the deadline is of epoch {0}")]
    WrongEpoch(Epoch),
    /// The deadline has passed.
    #[error("the deadline has passed")]
    Expired,
    /// A newer deadline was given before.
    #[error("a newer deadline was given before")]
    Stale,
    /// PostgreSQL runs.
    #[error("PostgreSQL runs as process {0}")]
    Running(i32),
    /// PostgreSQL does not run.
    #[error("PostgreSQL does not run")]
    NoPostmaster,
    /// The process is not PostgreSQL's.
    #[error("process {0} is not PostgreSQL's")]
    ForeignProcess(i32),
    /// A start as standby without standby.signal.
    #[error("{0} has no standby.signal; it would start read-write")]
    NoStandbySignal(PathBuf),
    /// The operating system refused.
    #[error("{0}")]
    System(String),
}

/// A process, as /proc shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's.
    pub ppid: i32,
    /// Its title.
    pub title: String,
}

/// How the guard is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of its protocol.
    pub version: u32,
    /// Its life.
    pub incarnation: Incarnation,
    /// The deadline.
    pub armed: Option<Armed>,
    /// The postmaster.
    pub postmaster: Option<Postmaster>,
    /// `cgroup` or `subreaper`.
    pub kill_path: String,
    /// How often an agent was started again.
    pub agent_restarts: u32,
}

/// A deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// Epoch of the lease.
    pub epoch: Epoch,
    /// Its renewals.
    pub renewals: u64,
    /// Until when.
    pub deadline: BootInstant,
}

/// A postmaster that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postmaster {
    /// Its process id.
    pub pid: i32,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Epoch under which it was started in place or promoted.
    pub authority: Option<Epoch>,
}

/// What the guard says unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The postmaster ended; nothing of its PostgreSQL is left.
    PostmasterExited {
        /// Which.
        pid: i32,
        /// How, for people.
        status: String,
        /// Whether all of it is proven gone.
        all_gone: bool,
    },
    /// The deadline passed; PostgreSQL was killed.
    DeadlineFired {
        /// Of this epoch.
        epoch: Epoch,
        /// The guard's life from now on.
        new_incarnation: Incarnation,
        /// From the deadline to the proof.
        took: Duration,
    },
    /// Hand over and stop; `fast`: stop without handing over.
    Terminate {
        /// Without handing over.
        fast: bool,
    },
    /// Read the configuration again.
    Reload,
    /// Make room for a new agent.
    Reexec,
    /// The guard is gone (said by the client, not by the guard).
    GuardGone,
}

/// A frame from the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Number that the answer carries.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// A frame from the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Say {
    /// An answer.
    Reply {
        /// Number of the question.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// Something unasked.
    Event(Event),
}

/// A frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is longer than any frame.
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    /// It holds something else.
    #[error("a frame that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// A message as a frame.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let body = serde_json::to_vec(message).expect("these types always become JSON");
    let mut frame = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    frame.extend(body);
    frame
}

/// Takes the first whole frame out of `buffer`; `None`: there is none yet.
///
/// # Errors
/// `FrameError` if the bytes are no frame; the connection is then to be closed.
pub fn decode<T: for<'de> Deserialize<'de>>(buffer: &mut Vec<u8>) -> Result<Option<T>, FrameError> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length > FRAME_MAX {
        return Err(FrameError::TooLong(length));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[4..4 + length])?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut_and_garbage_is_refused() {
        let ask = Ask { id: 7, request: Request::Processes };
        let frame = encode(&ask);
        let mut buffer = Vec::new();
        for (index, byte) in frame.iter().enumerate() {
            buffer.push(*byte);
            let decoded: Option<Ask> = decode(&mut buffer).unwrap();
            assert_eq!(decoded.is_some(), index + 1 == frame.len());
        }
        assert!(buffer.is_empty());
        let mut long = (u32::MAX).to_le_bytes().to_vec();
        assert!(matches!(decode::<Ask>(&mut long), Err(FrameError::TooLong(_))));
        let mut garbage = vec![3, 0, 0, 0, b'x', 0xff, b'{'];
        assert!(matches!(decode::<Ask>(&mut garbage), Err(FrameError::Json(_))));
    }

    #[test]
    fn fields_that_a_later_version_adds_are_ignored() {
        let body = br#"{"id":1,"request":{"Signal":{"pid":5,"signal":15,"authority":null,"new":1}},"x":2}"#;
        let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        frame.extend_from_slice(body);
        assert!(decode::<Ask>(&mut frame).unwrap().is_some());
    }
}
