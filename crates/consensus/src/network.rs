//! Openraft's messages to other nodes, over gRPC.
//!
//! Place: made by openraft, one `Link` per peer and purpose; all links to an address share a
//! channel.
//! Invariants: each call has a deadline; a peer that cannot be reached is `Unreachable` (openraft
//! backs off), anything else `Network`; Raft's own refusals are answers, not errors.
//! Failure: a refusal that says this node was removed ends it. What a node whose log went back answers is no
//! answer: openraft would count it as a vote or an acknowledgement, or end over it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use howdah_core::NodeId;
use howdah_rpc::raft::raft_client::RaftClient;
use howdah_rpc::raft::{Answer, Envelope};
use openraft::OptionalSend;
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Serialize, de::DeserializeOwned};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::group::Group;
use crate::types::{LogId, Peer, Snapshot, Types, Vote};

/// How long one snapshot may take.
pub(crate) const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);

type Error = RPCError<Types>;

/// Makes links.
pub(crate) struct Network(pub Arc<Group>);

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Link {
        self.0.note_address(target, &node.address);
        Link { group: Arc::clone(&self.0), target }
    }
}

/// Leads to one node.
pub(crate) struct Link {
    group: Arc<Group>,
    target: u64,
}

fn unreachable(why: impl ToString) -> Error {
    RPCError::Unreachable(Unreachable::from_string(why))
}

fn network(why: impl ToString) -> Error {
    RPCError::Network(NetworkError::from_string(why))
}

impl Link {
    fn limit(&self, option: &RPCOption) -> Duration {
        // Openraft's own limit is one heartbeat, too short for an append that waits for a disk.
        option.hard_ttl().max(self.group.options.timings.rpc_timeout)
    }

    async fn call<Q, A, F, R>(&self, request: &Q, limit: Duration, send: F) -> Result<A, Error>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
        F: FnOnce(RaftClient<Channel>, tonic::Request<Envelope>) -> R + Send,
        R: Future<Output = Result<Response<Answer>, Status>> + Send,
    {
        let client = self.group.client_of(self.target).map_err(unreachable)?;
        let payload = postcard::to_stdvec(request).map_err(network)?;
        let mut request = tonic::Request::new(self.group.envelope(self.target, payload));
        request.set_timeout(limit);
        let answer = match tokio::time::timeout(limit, send(client, request)).await {
            Err(_) => return Err(network("no answer in time")),
            Ok(Err(status)) => return Err(self.refused(&status)),
            Ok(Ok(answer)) => answer.into_inner(),
        };
        postcard::from_bytes(&answer.payload).map_err(network)
    }

    /// Takes note of what the node acknowledged, and of what it lacks although it had acknowledged it.
    fn appended(
        &self,
        rpc: &AppendEntriesRequest<Types>,
        had: Option<LogId>,
        answer: AppendEntriesResponse<Types>,
    ) -> Result<AppendEntriesResponse<Types>, Error> {
        self.counts()?;
        let mut memory = self.group.memory();
        match answer {
            AppendEntriesResponse::Success => {
                let last = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
                memory.took(self.target, rpc.vote, last);
            }
            AppendEntriesResponse::PartialSuccess(upto) => {
                memory.took(self.target, rpc.vote, upto);
            }
            AppendEntriesResponse::Conflict => {
                let goes_back = memory.lacks(self.target, had, rpc.prev_log_id);
                drop(memory);
                if goes_back {
                    tracing::error!(
                        node = %NodeId(self.target),
                        acknowledged = had.map(|had| had.index),
                        "a node lacks entries that it had acknowledged, as when an older copy of its raft \
                         directory was put back; it counts for nothing any more and is removed"
                    );
                }
                self.counts()?;
            }
            AppendEntriesResponse::HigherVote(_) => {}
        }
        Ok(answer)
    }

    /// Whether the node's word is one.
    fn counts(&self) -> Result<(), Error> {
        if self.group.memory().went_back(self.target) {
            return Err(network("its log went back behind what it had acknowledged"));
        }
        Ok(())
    }

    fn refused(&self, status: &Status) -> Error {
        self.group.note_refusal(status);
        let why = format!("{}: {}", status.code(), status.message());
        match status.code() {
            Code::Unavailable => unreachable(why),
            _ => network(why),
        }
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, Error> {
        let limit = self.limit(&option);
        let had = self.group.memory().acknowledged(self.target, rpc.vote);
        let sent =
            self.call(&rpc, limit, |mut to, request| async move { to.append(request).await });
        self.appended(&rpc, had, sent.await?)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Error> {
        let limit = option.hard_ttl();
        let sent = self.call(&rpc, limit, |mut to, request| async move { to.vote(request).await });
        let answer = sent.await?;
        self.counts().map(|()| answer)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Error> {
        let limit = option.hard_ttl();
        self.call(&rpc, limit, |mut to, request| async move { to.pre_vote(request).await }).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let upto = snapshot.meta.last_log_id;
        let rpc = (vote, snapshot.meta, snapshot.snapshot);
        let call = self.call(&rpc, SNAPSHOT_TIMEOUT, |mut to, request| async move {
            to.snapshot(request).await
        });
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = call => {
                let answer: SnapshotResponse<Types> = answer?;
                self.counts()?;
                if answer.vote == vote {
                    self.group.memory().took(self.target, vote, upto);
                }
                Ok(answer)
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, Error> {
        let limit = self.limit(&option);
        self.call(&rpc, limit, |mut to, request| async move { to.transfer_leader(request).await })
            .await
    }

    fn backoff(&self) -> Option<Backoff> {
        // A peer that comes back must hear from the leader before it starts an election.
        Some(Backoff::new(std::iter::repeat(self.group.options.timings.heartbeat)))
    }
}
