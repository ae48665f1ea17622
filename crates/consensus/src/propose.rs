//! Commands on their way into the log, through whichever node leads.
//!
//! Place: the agent calls `Node::propose`; a follower forwards to the leader's service.
//! Invariants: repeated is only what certainly was not put into the log; whatever else goes wrong
//! is `Unknown`, and the proposer finds out from the applied state.

use std::time::Duration;

use howdah_core::{Command, Outcome};
use openraft::error::{ClientWriteError, RaftError};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Code;

use crate::core::Core;
use crate::types::{Logged, MAX_COMMAND_BYTES, Reply};

/// Pause before a command is offered again to whoever leads then.
const PAUSE: Duration = Duration::from_millis(20);

/// A command that stands in the log and was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Its index.
    pub index: u64,
    /// What applying it answered.
    pub outcome: Outcome,
}

/// Why a command was not, or may not have been, applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It may be applied, now or later, or never.
    #[error("whether the command was applied is not known: {0}")]
    Unknown(String),
    /// No leader took it; it is not in the log.
    #[error("no raft leader took the command within {}ms", .0.as_millis())]
    NotReady(Duration),
    /// It was refused; it is not in the log.
    #[error("the command was refused: {0}")]
    Refused(String),
}

/// What a node answers to a forwarded command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ProposeAnswer {
    /// Applied.
    Done {
        /// Its index.
        index: u64,
        /// What applying it answered.
        outcome: Outcome,
    },
    /// Not taken: somebody else leads.
    NotLeader,
    /// Perhaps.
    Unknown(String),
}

/// Puts a command into the log if this node leads.
pub(crate) async fn propose_here(core: &Core, logged: Logged, limit: Duration) -> ProposeAnswer {
    let written = tokio::time::timeout(limit, core.raft.client_write(logged)).await;
    match written {
        Err(_) => ProposeAnswer::Unknown("it was not applied in time".to_owned()),
        Ok(Ok(response)) => match response.data {
            Reply(Some(outcome)) => ProposeAnswer::Done { index: response.log_id.index, outcome },
            Reply(None) => ProposeAnswer::Unknown("its entry held no command".to_owned()),
        },
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
            ProposeAnswer::NotLeader
        }
        Ok(Err(error)) => ProposeAnswer::Unknown(error.to_string()),
    }
}

async fn forward(
    core: &Core,
    (leader, address): (u64, String),
    logged: &Logged,
    limit: Duration,
) -> Result<ProposeAnswer, ProposeError> {
    let mut client = match core.group.client(&address) {
        Ok(client) => client,
        Err(error) => return Err(ProposeError::Refused(error.to_string())),
    };
    let mut request = tonic::Request::new(core.group.envelope(leader, logged.json().to_vec()));
    request.set_timeout(limit);
    match client.propose(request).await {
        Ok(answer) => {
            let payload = answer.into_inner().payload;
            serde_json::from_slice(&payload)
                .map_err(|error| ProposeError::Unknown(format!("the answer is no answer: {error}")))
        }
        Err(status) => {
            core.group.note_refusal(&status);
            let why = format!("{address}: {}", status.message());
            match status.code() {
                // Given before the command is looked at (see `service`).
                Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument => {
                    Err(ProposeError::Refused(why))
                }
                _ => Err(ProposeError::Unknown(why)),
            }
        }
    }
}

pub(crate) async fn propose(
    core: &Core,
    command: &Command,
    timeout: Duration,
) -> Result<Proposed, ProposeError> {
    let refused = |why: String| ProposeError::Refused(why);
    let logged = Logged::new(command).map_err(|error| refused(error.to_string()))?;
    if logged.len() > MAX_COMMAND_BYTES {
        return Err(refused(format!(
            "it has {} bytes, the limit is {MAX_COMMAND_BYTES}",
            logged.len()
        )));
    }
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline {
        let left = deadline - Instant::now();
        let answer = match core.leader() {
            None => ProposeAnswer::NotLeader,
            Some((leader, _)) if leader == core.group.me => {
                propose_here(core, logged.clone(), left).await
            }
            Some(leader) => {
                match timeout_at(deadline, forward(core, leader, &logged, left)).await {
                    Ok(answer) => answer?,
                    Err(_) => return Err(ProposeError::Unknown("no answer in time".to_owned())),
                }
            }
        };
        match answer {
            ProposeAnswer::Done { index, outcome } => return Ok(Proposed { index, outcome }),
            ProposeAnswer::Unknown(why) => return Err(ProposeError::Unknown(why)),
            ProposeAnswer::NotLeader => sleep(PAUSE).await,
        }
    }
    Err(ProposeError::NotReady(timeout))
}
