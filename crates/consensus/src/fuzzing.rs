//! A door for `fuzz/properties`: readers that nothing outside of this crate calls. No interface, and no promise.

use howdah_core::Command;
use howdah_rpc::raft::{Envelope, HelloResponse};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bootstrap::{Next, judge};
use crate::service::decode;
use crate::store::Identity;
pub use crate::store::fuzzing as store;
use crate::types::{Logged, SnapshotMeta, Types, Vote};

/// What the payload of an envelope, or of an answer, can be.
pub const MESSAGES: usize = 8;

/// Decodes a payload as the message of this number, and encodes what came of it.
///
/// # Errors
/// Why it is none, as the sender is told.
pub fn message(number: usize, payload: &[u8]) -> Result<Vec<u8>, String> {
    match number % MESSAGES {
        0 => again::<AppendEntriesRequest<Types>>(payload),
        1 => again::<VoteRequest<Types>>(payload),
        2 => again::<(Vote, SnapshotMeta, Vec<u8>)>(payload),
        3 => again::<TransferLeaderRequest<Types>>(payload),
        4 => again::<AppendEntriesResponse<Types>>(payload),
        5 => again::<VoteResponse<Types>>(payload),
        6 => again::<SnapshotResponse<Types>>(payload),
        _ => again::<TransferLeaderResponse<Types>>(payload),
    }
}

fn again<T: Serialize + DeserializeOwned>(payload: &[u8]) -> Result<Vec<u8>, String> {
    let envelope = Envelope { payload: payload.to_vec(), ..Envelope::default() };
    let message: T = decode(&envelope).map_err(|status| status.message().to_owned())?;
    postcard::to_stdvec(&message).map_err(|error| error.to_string())
}

/// A command as it stands in the log, or as it was forwarded.
///
/// # Errors
/// Why it is none, as the sender is told.
pub fn command(json: &[u8]) -> Result<Command, String> {
    Logged::from_json(json.to_vec()).command().map_err(|error| error.to_string())
}

/// What a fresh node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It joins a group.
    Joins,
    /// It says that it means to found one.
    Claims,
    /// It founds one.
    Founds,
    /// It takes its claim back.
    Drops,
    /// It asks again.
    Waits,
}

/// What a node does that its partners answered so; `None`: one did not.
pub fn step(me: &HelloResponse, answers: &[Option<HelloResponse>]) -> Step {
    let me = Identity {
        scope: me.scope.clone(),
        member: me.member.clone(),
        node_id: me.node_id,
        token: me.bootstrap_token,
        cluster_id: me.cluster_id,
        founding: me.founding,
    };
    let named = answers.iter().enumerate().map(|(at, answer)| (at.to_string(), answer.clone()));
    match judge(&me, &named.collect::<Vec<_>>()) {
        Next::Join(_) => Step::Joins,
        Next::Claim => Step::Claims,
        Next::Found => Step::Founds,
        Next::Drop => Step::Drops,
        Next::Wait => Step::Waits,
    }
}
