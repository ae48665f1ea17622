//! What all parts of a node share: who it is, its channels to others, and its end.
//!
//! Place: network, service, bootstrap and tending. State: the identity mirrors the store's;
//! channels are one per address and live as long as the node. Invariants: an identity is durable
//! before anybody hears of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use howdah_rpc::channel::{BadAddress, lazy};
use howdah_rpc::raft::raft_client::RaftClient;
use howdah_rpc::raft::{Envelope, HelloRequest, HelloResponse};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::Options;
use crate::memory::Memory;
use crate::store::{Identity, Keeper};
use crate::types::MAX_MESSAGE_BYTES;

/// Encoding of payloads: postcard.
pub(crate) const ENCODING: u32 = 1;
/// A refusal carries this key when the asker was removed for good.
pub(crate) const REMOVED_KEY: &str = "howdah-removed";

/// Why this node cannot go on. The agent then stops PostgreSQL and ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The log cannot be written or applied any more.
    #[error("{0}")]
    Storage(String),
    /// The group removed this node; its store must be moved away before the member can come back.
    #[error(
        "{0}; to bring the member back, move its raft directory away and start it: it joins as a \
         new node"
    )]
    Removed(String),
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Group {
    pub options: Options,
    pub me: u64,
    identity: Mutex<Identity>,
    keeper: Keeper,
    channels: Mutex<BTreeMap<String, Channel>>,
    addresses: Mutex<BTreeMap<u64, String>>,
    memory: Mutex<Memory>,
    fatal: watch::Sender<Option<Fatal>>,
}

impl Group {
    pub fn new(options: Options, identity: Identity, keeper: Keeper) -> Self {
        let (fatal, _) = watch::channel(None);
        Self {
            options,
            me: identity.node_id,
            identity: Mutex::new(identity),
            keeper,
            channels: Mutex::default(),
            addresses: Mutex::default(),
            memory: Mutex::default(),
            fatal,
        }
    }

    pub fn identity(&self) -> Identity {
        lock(&self.identity).clone()
    }

    /// The group that this node belongs to, if any.
    pub fn cluster_id(&self) -> u64 {
        lock(&self.identity).cluster_id
    }

    pub async fn save_identity(&self, identity: Identity) -> io::Result<()> {
        self.keeper.save_identity(&identity).await?;
        *lock(&self.identity) = identity;
        Ok(())
    }

    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    pub fn fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.fatal.subscribe()
    }

    /// Ends this node; the first reason counts.
    pub fn end(&self, why: Fatal) {
        self.fatal.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                tracing::error!(why = %why, "raft node ends");
                *known = Some(why);
            }
            first
        });
    }

    pub fn client(&self, address: &str) -> Result<RaftClient<Channel>, BadAddress> {
        Ok(RaftClient::new(self.channel(address)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// The channel to `address`, which all that is said to it shares.
    pub fn channel(&self, address: &str) -> Result<Channel, BadAddress> {
        let mut channels = lock(&self.channels);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = lazy(address, self.options.timings.connect_timeout, &self.options.access)?;
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Where a node is reached from now on. Openraft keeps the links of a node that moved.
    pub fn note_address(&self, node: u64, address: &str) {
        let mut addresses = lock(&self.addresses);
        if addresses.get(&node).is_none_or(|known| known != address) {
            addresses.insert(node, address.to_owned());
        }
    }

    /// A client of that node, where it is reached by now.
    pub fn client_of(&self, node: u64) -> Result<RaftClient<Channel>, BadAddress> {
        let address = lock(&self.addresses).get(&node).cloned().unwrap_or_default();
        self.client(&address)
    }

    /// What other nodes acknowledged to this one.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    pub fn envelope(&self, target: u64, payload: Vec<u8>) -> Envelope {
        let cluster_id = self.cluster_id();
        Envelope { cluster_id, sender: self.me, target, payload, encoding: ENCODING }
    }

    /// Takes note of a refusal that says this node was removed.
    pub fn note_refusal(&self, status: &tonic::Status) {
        if status.metadata().contains_key(REMOVED_KEY) {
            self.end(Fatal::Removed(status.message().to_owned()));
        }
    }

    /// How long to wait for answers outside of Raft's own timing.
    pub fn patience(&self) -> Duration {
        self.options.timings.rpc_timeout.max(Duration::from_millis(300))
    }

    /// Asks who is at `address`; none if nobody answers.
    pub async fn hello(&self, address: &str) -> Option<HelloResponse> {
        let mut client = match self.client(address) {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(%error, "partner address");
                return None;
            }
        };
        let identity = self.identity();
        let request = HelloRequest {
            scope: identity.scope,
            member: identity.member,
            node_id: identity.node_id,
            cluster_id: identity.cluster_id,
            address: self.options.self_addr.clone(),
        };
        let answer = tokio::time::timeout(self.patience(), client.hello(request)).await;
        Some(answer.ok()?.ok()?.into_inner())
    }
}
