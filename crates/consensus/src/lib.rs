//! The replicated log: openraft on sled over gRPC, bootstrap and membership.
//!
//! Place: the agent opens one `Node`, adds its service to the gRPC server, starts it, proposes
//! commands and follows the applied state. It knows nothing of PostgreSQL.
//! State: one directory, see `store`. Everything acknowledged survives a restart and a power cut.
//! Invariants: exactly one group is founded; every message is bound to group, sender and target; a
//! node id is never used again; a leader of Raft has no authority by that, only committed records
//! give any.
//! Failure: a failed sync or a dead Raft core is told by `Node::is_fatal`; the agent then kills
//! PostgreSQL and ends, nothing here ends the process.

mod bootstrap;
mod core;
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod membership;
mod memory;
mod network;
mod propose;
mod service;
mod store;
mod tending;
mod types;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use howdah_core::{Command, MemberName, Settings};
use howdah_rpc::access::Access;
use howdah_rpc::channel::BadAddress;
use howdah_rpc::raft::raft_server::RaftServer;
use openraft::{Config, Raft, SnapshotPolicy};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

pub use crate::core::{GroupNode, RaftStatus};
pub use crate::group::Fatal;
pub use crate::propose::{ProposeError, Proposed};
pub use crate::service::RaftService;
pub use crate::store::{Applied, OpenError, SOCKET, directory_size};
pub use crate::types::{MAX_COMMAND_BYTES, MAX_MESSAGE_BYTES};

use crate::core::Core;
use crate::group::Group;
use crate::network::{Network, SNAPSHOT_TIMEOUT};

/// A snapshot is built after so many entries.
const SNAPSHOT_EVERY: u64 = 5000;
/// So many entries before the snapshot are kept for members that lag a little.
const ENTRIES_KEPT: u64 = 1000;
/// Entries that one message carries at most; with `MAX_COMMAND_BYTES` each it fits the message.
const ENTRIES_PER_MESSAGE: u64 = 64;

/// Raft's time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Interval of heartbeats.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout.
    pub election_max: Duration,
    /// Limit of one message; below `election_min`.
    pub rpc_timeout: Duration,
    /// Limit of making a connection; below `rpc_timeout`.
    pub connect_timeout: Duration,
}

/// What a node needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the store; made if it is not there.
    pub dir: PathBuf,
    /// Name of the cluster.
    pub scope: String,
    /// Name of this member.
    pub member: MemberName,
    /// HOST:PORT under which others reach this node's services.
    pub self_addr: String,
    /// HOST:PORT of the other expected members; empty: this node is a group of its own.
    pub partner_addrs: Vec<String>,
    /// How nodes reach each other.
    pub access: Access,
    /// Raft's time limits.
    pub timings: Timings,
    /// Cluster-wide settings that a new group begins with.
    pub settings: Settings,
    /// So many nodes vote at most, the others only follow.
    pub max_voters: usize,
}

/// One node of the group. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    core: Arc<Core>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn config(options: &Options) -> Result<Config, openraft::ConfigError> {
    let timings = &options.timings;
    Config {
        cluster_name: options.scope.clone(),
        heartbeat_interval: millis(timings.heartbeat),
        election_timeout_min: millis(timings.election_min),
        election_timeout_max: millis(timings.election_max),
        install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
        max_payload_entries: ENTRIES_PER_MESSAGE,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        // Openraft's own pre-vote; without it a member that was cut off unseats the leader.
        enable_pre_vote: Some(true),
        // A restarted leader must win an election first: its applied state may lag.
        enable_leader_restore: Some(false),
        // A leader without a quorum falls silent, so that a connected quorum can elect another.
        quorum_loss_probe_interval: Some(millis(timings.election_max) * 2),
        ..Config::default()
    }
    .validate()
}

impl Node {
    /// Opens the store, or makes it, and prepares Raft. Nothing is sent before `start`.
    ///
    /// # Errors
    /// `OpenError` says what is wrong with the store and the way out.
    pub async fn open(options: Options) -> Result<Node, OpenError> {
        let dir = options.dir.clone();
        let bad = |error: String| OpenError::Io {
            dir: dir.clone(),
            source: io::Error::new(io::ErrorKind::InvalidInput, error),
        };
        let config = config(&options).map_err(|error| bad(format!("raft's timers: {error}")))?;
        let (at, scope, member) =
            (options.dir.clone(), options.scope.clone(), options.member.0.clone());
        let opened = tokio::task::spawn_blocking(move || store::open(&at, &scope, &member))
            .await
            .map_err(|error| bad(error.to_string()))??;
        let applied = opened.machine.applied();
        let group = Arc::new(Group::new(options, opened.identity, opened.keeper));
        let network = Network(Arc::clone(&group));
        let raft =
            Raft::build(group.me, Arc::new(config), network, opened.log, opened.machine).await;
        let raft = raft.map_err(|error| OpenError::Corrupt {
            dir: dir.clone(),
            what: format!("raft cannot begin with it: {error}"),
        })?;
        let core = Arc::new(Core::new(group, raft, applied));
        Ok(Node { core, tasks: Arc::default() })
    }

    /// The gRPC service that other nodes call; to be served before `start`.
    pub fn service(&self) -> RaftServer<RaftService> {
        RaftServer::new(RaftService(Arc::clone(&self.core)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Begins: Raft, getting into a group, looking after the membership. A second call does
    /// nothing.
    pub fn start(&self) {
        let mut tasks = group::lock(&self.tasks);
        if !tasks.is_empty() {
            return;
        }
        self.core.raft.run();
        tasks.push(tokio::spawn(tending::watch_status(Arc::clone(&self.core))));
        tasks.push(tokio::spawn(tending::watch_store(Arc::clone(&self.core))));
        tasks.push(tokio::spawn(tending::tend(Arc::clone(&self.core))));
        tasks.push(tokio::spawn(tending::quieten(Arc::clone(&self.core))));
    }

    /// The channel to a peer, shared with Raft's messages: one connection that is kept alive by
    /// whatever is said on it.
    ///
    /// # Errors
    /// `BadAddress` if `address` is not HOST:PORT.
    pub fn channel(&self, address: &str) -> Result<Channel, BadAddress> {
        self.core.group.channel(address)
    }

    /// The applied state after each batch and each snapshot; a slow reader skips some.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.core.applied.clone()
    }

    /// Puts `command` into the log, through whichever node leads, and waits until it was applied.
    ///
    /// # Errors
    /// `Unknown` if it may have been applied; with the others it is not in the log.
    pub async fn propose(
        &self,
        command: Command,
        timeout: Duration,
    ) -> Result<Proposed, ProposeError> {
        propose::propose(&self.core, &command, timeout).await
    }

    /// What this node knows of the group right now.
    pub fn status(&self) -> RaftStatus {
        self.core.look()
    }

    /// Changes of leader, membership, term or quorum.
    pub fn status_changes(&self) -> watch::Receiver<RaftStatus> {
        self.core.status.subscribe()
    }

    /// Hands Raft's leadership to another voter, if this node has it. Best effort, at most a
    /// second.
    pub async fn hand_on_leadership(&self) {
        tending::hand_on(&self.core).await;
    }

    /// Becomes something once this node cannot go on: the log failed, or the node was removed.
    pub fn is_fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.core.group.fatal()
    }

    /// Stops in order and makes everything durable; afterwards the store can be opened again.
    ///
    /// # Errors
    /// What the store says; what was acknowledged is durable all the same.
    pub async fn shutdown(&self) -> io::Result<()> {
        for task in group::lock(&self.tasks).drain(..) {
            task.abort();
        }
        if let Err(error) = self.core.raft.shutdown().await {
            tracing::warn!(%error, "raft's core did not end in order");
        }
        self.core.group.keeper().close().await
    }
}
