//! Listens to every other member's status stream.
//!
//! Place: started by `run`; keeps one stream per member of the replicated state, and writes what it
//! hears to the board. A stream that breaks is opened again; what was heard ages meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use howdah_consensus::{Applied, Node};
use howdah_core::{MemberName, Timings};
use howdah_rpc::peer::WatchRequest;
use howdah_rpc::peer::peer_client::PeerClient;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::clock::Clock;

/// Who listens, and how patiently.
#[derive(Clone)]
pub struct Listener {
    /// Cluster name.
    pub scope: String,
    /// This member.
    pub me: MemberName,
    /// Limits.
    pub timings: Timings,
    /// Its channels to the others.
    pub node: Arc<Node>,
    /// Where it is written down.
    pub board: Arc<Board>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Listener {
    /// Keeps a stream open to each other member, until the sender of `applied` is gone.
    pub async fn run(self, mut applied: watch::Receiver<Applied>) {
        let mut streams: BTreeMap<MemberName, (String, JoinHandle<()>)> = BTreeMap::new();
        loop {
            let state = applied.borrow_and_update().state.clone();
            streams.retain(|name, (address, task)| {
                let member = state.members.get(name);
                let same = member.is_some_and(|member| member.control_address == *address);
                if !same {
                    task.abort();
                }
                same
            });
            for (name, member) in state.members.iter().filter(|(name, _)| **name != self.me) {
                if !streams.contains_key(name) {
                    let address = member.control_address.clone();
                    let task = tokio::spawn(self.clone().listen(name.clone(), address.clone()));
                    streams.insert(name.clone(), (address, task));
                }
            }
            if applied.changed().await.is_err() {
                break;
            }
        }
        for (_, task) in streams.into_values() {
            task.abort();
        }
    }

    async fn listen(self, name: MemberName, address: String) {
        let Ok(channel) = self.node.channel(&address) else {
            tracing::warn!(member = %name, address, "its control address is malformed");
            return;
        };
        let mut client = PeerClient::new(channel);
        // Changes come at once; this is how a member is known to live. Its words count as fresh for twice
        // as long.
        let every = self.timings.ttl / 5;
        loop {
            let request = WatchRequest {
                scope: self.scope.clone(),
                member: self.me.0.clone(),
                every_ms: u32::try_from(every.as_millis()).unwrap_or(u32::MAX),
            };
            let opened = tokio::time::timeout(self.timings.ttl / 5, client.watch(request)).await;
            if let Ok(Ok(answer)) = opened {
                let mut stream = answer.into_inner();
                // Silence for this long means that the stream is dead, whatever TCP says.
                while let Ok(Ok(Some(status))) =
                    tokio::time::timeout(every * 5, stream.message()).await
                {
                    if status.member == name.0 {
                        self.board.hear(name.clone(), status, self.clock.boot());
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50).max(self.timings.heartbeat)).await;
        }
    }
}
