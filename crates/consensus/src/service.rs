//! The gRPC service `howdah.raft.v1.Raft`: what other nodes ask of this one.
//!
//! Place: added to the agent's server. Invariants: a message of a group is taken only if group and
//! target are this node's and the sender was not removed. An unknown sender is taken: a node that
//! lags may not have heard yet of the one that now leads it, and Raft itself judges votes and
//! terms. A sender that is known is believed from the member alone whose node it is.
//! Failure: what cannot be decoded is refused by name; nothing here panics on it.

use std::sync::Arc;
use std::time::Duration;

use howdah_core::{MemberName, NodeId};
use howdah_rpc::access::Caller;
use howdah_rpc::raft::raft_server::Raft;
use howdah_rpc::raft::{Answer, Envelope, HelloRequest, HelloResponse, JoinRequest, JoinResponse};
use openraft::Snapshot as RaftSnapshot;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use serde::{Serialize, de::DeserializeOwned};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use crate::core::Core;
use crate::group::{ENCODING, REMOVED_KEY};
use crate::membership;
use crate::propose::{ProposeAnswer, propose_here};
use crate::types::{Logged, MAX_COMMAND_BYTES, SnapshotMeta, Types, Vote};

/// A command that was forwarded here waits this long; its proposer's own limit is shorter as a
/// rule.
const PROPOSE_LIMIT: Duration = Duration::from_secs(10);

/// The service.
#[derive(Clone)]
pub struct RaftService(pub(crate) Arc<Core>);

pub(crate) fn decode<T: DeserializeOwned>(envelope: &Envelope) -> Result<T, Status> {
    postcard::from_bytes(&envelope.payload)
        .map_err(|error| Status::invalid_argument(format!("the payload does not decode: {error}")))
}

fn answer<T: Serialize>(value: &T) -> Result<Response<Answer>, Status> {
    let payload = postcard::to_stdvec(value)
        .map_err(|error| Status::internal(format!("the answer does not encode: {error}")))?;
    Ok(Response::new(Answer { payload }))
}

fn stopped(error: impl ToString) -> Status {
    Status::unavailable(format!("this node stopped: {}", error.to_string()))
}

impl RaftService {
    /// Unpacks a message of the group, or refuses it.
    fn open(&self, request: Request<Envelope>) -> Result<Envelope, Status> {
        let caller = Caller::of(&request);
        let envelope = request.into_inner();
        let (group, core) = (&self.0.group, &self.0);
        let ours = group.cluster_id();
        if ours == 0 {
            return Err(Status::unavailable("this node is in no group yet"));
        }
        if envelope.cluster_id != ours {
            return Err(Status::permission_denied(format!(
                "this node belongs to group {ours:016x}, not {:016x}",
                envelope.cluster_id
            )));
        }
        if envelope.target != group.me {
            return Err(Status::permission_denied(format!(
                "this is node {:016x}, not {:016x}",
                group.me, envelope.target
            )));
        }
        // One that this node has not heard of yet speaks for itself: its name comes with the log.
        if let Some(member) = core.member_of(envelope.sender) {
            caller.speaks_for(&member)?;
        }
        if envelope.sender == group.me {
            return Err(Status::permission_denied("a node's message came back to itself"));
        }
        let went_back = group.memory().went_back(envelope.sender);
        let why = if went_back { ": its log lacks what it had acknowledged" } else { "" };
        if core.is_removed(envelope.sender) {
            let mut status = Status::failed_precondition(format!(
                "node {:016x} was removed from cluster `{}`{why}",
                envelope.sender, group.options.scope
            ));
            status.metadata_mut().insert(REMOVED_KEY, MetadataValue::from_static("1"));
            return Err(status);
        }
        if went_back {
            return Err(Status::failed_precondition(format!(
                "node {:016x} is about to be removed{why}",
                envelope.sender
            )));
        }
        if envelope.encoding != ENCODING {
            return Err(Status::unimplemented(format!(
                "encoding {} is not known to this howdah; it reads {ENCODING}",
                envelope.encoding
            )));
        }
        Ok(envelope)
    }
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn append(&self, request: Request<Envelope>) -> Result<Response<Answer>, Status> {
        let envelope = self.open(request)?;
        let rpc: AppendEntriesRequest<Types> = decode(&envelope)?;
        let response = self.0.raft.append_entries(rpc).await.map_err(stopped)?;
        self.0.note_heard(envelope.sender);
        answer(&response)
    }

    async fn vote(&self, request: Request<Envelope>) -> Result<Response<Answer>, Status> {
        let rpc: VoteRequest<Types> = decode(&self.open(request)?)?;
        answer(&self.0.raft.vote(rpc).await.map_err(stopped)?)
    }

    async fn pre_vote(&self, request: Request<Envelope>) -> Result<Response<Answer>, Status> {
        let rpc: VoteRequest<Types> = decode(&self.open(request)?)?;
        answer(&self.0.raft.pre_vote(rpc).await.map_err(stopped)?)
    }

    async fn snapshot(&self, request: Request<Envelope>) -> Result<Response<Answer>, Status> {
        let envelope = self.open(request)?;
        let (vote, meta, snapshot): (Vote, SnapshotMeta, Vec<u8>) = decode(&envelope)?;
        let snapshot = RaftSnapshot { meta, snapshot };
        let response = self.0.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        self.0.note_heard(envelope.sender);
        answer(&response)
    }

    async fn transfer_leader(
        &self,
        request: Request<Envelope>,
    ) -> Result<Response<Answer>, Status> {
        let rpc: TransferLeaderRequest<Types> = decode(&self.open(request)?)?;
        answer(&self.0.raft.handle_transfer_leader(rpc).await.map_err(stopped)?)
    }

    async fn propose(&self, request: Request<Envelope>) -> Result<Response<Answer>, Status> {
        let envelope = self.open(request)?;
        if envelope.payload.len() > MAX_COMMAND_BYTES {
            return Err(Status::invalid_argument(format!(
                "a command of {} bytes is above the limit of {MAX_COMMAND_BYTES}",
                envelope.payload.len()
            )));
        }
        let logged = Logged::from_json(envelope.payload);
        // What this node does not know must not reach its log: applying it would stop every node
        // of this version.
        logged.command().map_err(|error| {
            Status::invalid_argument(format!("this node does not know the command: {error}"))
        })?;
        let result: ProposeAnswer = propose_here(&self.0, logged, PROPOSE_LIMIT).await;
        let payload = serde_json::to_vec(&result)
            .map_err(|error| Status::internal(format!("the answer does not encode: {error}")))?;
        Ok(Response::new(Answer { payload }))
    }

    async fn hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloResponse>, Status> {
        let caller = Caller::of(&request);
        let asker = request.into_inner();
        caller.speaks_for(&MemberName(asker.member))?;
        let identity = self.0.group.identity();
        let same_group = identity.cluster_id != 0 && asker.cluster_id == identity.cluster_id;
        Ok(Response::new(HelloResponse {
            leader_address: self.0.leader_address().unwrap_or_default(),
            removed: same_group && self.0.is_removed(asker.node_id),
            founding: identity.founding,
            scope: identity.scope,
            member: identity.member,
            node_id: identity.node_id,
            cluster_id: identity.cluster_id,
            bootstrap_token: identity.token,
        }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let caller = Caller::of(&request);
        let asker = request.into_inner();
        caller.speaks_for(&MemberName(asker.member.clone()))?;
        let identity = self.0.group.identity();
        if asker.scope != identity.scope {
            return Ok(Response::new(JoinResponse {
                reason: format!(
                    "this is cluster `{}`, not `{}`; correct `scope` or the partner addresses",
                    identity.scope, asker.scope
                ),
                ..JoinResponse::default()
            }));
        }
        if identity.cluster_id == 0 || identity.founding {
            return Ok(Response::new(JoinResponse {
                reason: "this node is in no group yet".to_owned(),
                ..JoinResponse::default()
            }));
        }
        if self.0.is_removed(asker.node_id) {
            return Ok(Response::new(JoinResponse {
                reason: format!("node {} was removed for good", NodeId(asker.node_id)),
                ..JoinResponse::default()
            }));
        }
        Ok(Response::new(membership::join(&self.0, asker).await))
    }
}
