//! Members in this process, each with a runtime of its own, so that one can be killed as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use howdah_consensus::{Node, OpenError, Options, Proposed, RaftStatus, Timings};
use howdah_core::{Command, Epoch, Incarnation, Lsn, MemberName, Nonce, Settings};
use howdah_rpc::access::{Access, NoTokens};
use howdah_rpc::doorkeeper::Doorkeeper;
use howdah_rpc::incoming::{Door, incoming};
use tokio::runtime::Runtime;
use tonic::transport::Server;

/// Longest wait for anything. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` answers something.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {}s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A running member.
pub struct Running {
    pub node: Node,
    pub runtime: Runtime,
}

/// A member, running or not.
pub struct Member {
    pub name: String,
    pub address: String,
    pub partners: Vec<String>,
    pub scope: String,
    pub dir: PathBuf,
    pub running: Option<Running>,
}

impl Member {
    fn options(&self) -> Options {
        Options {
            dir: self.dir.clone(),
            scope: self.scope.clone(),
            member: MemberName::from(self.name.as_str()),
            self_addr: self.address.clone(),
            partner_addrs: self.partners.clone(),
            access: howdah_rpc::access::Access::Open,
            timings: Timings {
                heartbeat: Duration::from_millis(100),
                election_min: Duration::from_millis(300),
                election_max: Duration::from_millis(600),
                rpc_timeout: Duration::from_millis(250),
                connect_timeout: Duration::from_millis(150),
            },
            settings: Settings { ttl_ms: 7777, ..Settings::default() },
            max_voters: 5,
        }
    }

    pub fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        // The thread of a killed member may hold the lock a moment longer.
        let node = until("open", || match runtime.block_on(Node::open(self.options())) {
            Ok(node) => Some(node),
            Err(OpenError::Locked { .. }) => None,
            Err(error) => panic!("{}: {error}", self.name),
        });
        let listener =
            until("bind", || runtime.block_on(tokio::net::TcpListener::bind(&self.address)).ok());
        let mut server = Server::builder().layer(Doorkeeper::new(Arc::new(NoTokens)));
        let server = server.add_service(node.service());
        let entered = runtime.enter();
        let incoming = incoming(listener, Access::Open, Door::Grpc(Arc::new(NoTokens)));
        runtime.spawn(server.serve_with_incoming(incoming));
        drop(entered);
        let guard = runtime.enter();
        node.start();
        drop(guard);
        self.running = Some(Running { node, runtime });
    }

    /// All its tasks and connections end at once, nothing is said or flushed.
    pub fn kill(&mut self) {
        if let Some(Running { node, runtime }) = self.running.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
            drop(node);
        }
    }

    pub fn wipe(&self) {
        until("wipe", || std::fs::remove_dir_all(&self.dir).ok());
    }

    pub fn node(&self) -> &Node {
        &self.running.as_ref().expect("it runs").node
    }

    pub fn status(&self) -> RaftStatus {
        self.node().status()
    }

    pub fn propose(&self, command: Command) -> Proposed {
        let running = self.running.as_ref().expect("it runs");
        until("propose", || {
            let proposed = running.node.propose(command.clone(), Duration::from_secs(5));
            let proposed = running.runtime.block_on(proposed);
            if let Err(error) = &proposed {
                eprintln!("{}: {error}; {:?}", self.name, self.status());
            }
            proposed.ok()
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Members n1.. at ports from `port`, none of them started.
pub fn members(root: &Path, port: u16, count: u16) -> Vec<Member> {
    let address = |at: u16| format!("127.0.0.1:{}", port + at);
    (0..count)
        .map(|at| Member {
            name: format!("n{}", at + 1),
            address: address(at),
            partners: (0..count).filter(|other| *other != at).map(address).collect(),
            scope: "demo".to_owned(),
            dir: root.join(format!("n{}", at + 1)),
            running: None,
        })
        .collect()
}

/// Waits until all running members form one group of `voters` voters that agree on a leader.
pub fn settled(members: &[Member], voters: usize) -> Vec<RaftStatus> {
    until("one settled group", || {
        let all: Vec<RaftStatus> =
            members.iter().filter(|m| m.running.is_some()).map(Member::status).collect();
        let first = all.first()?;
        let agreed = all.iter().all(|status| {
            status.quorum
                && status.leader.is_some()
                && status.leader == first.leader
                && status.cluster_id.is_some()
                && status.voters.len() == voters
                && status.voters == first.voters
        });
        let founded = members.iter().filter(|m| m.running.is_some()).all(|member| {
            let applied = member.node().applied();
            let state = &applied.borrow().state;
            Some(state.cluster_id) == first.cluster_id && state.settings.ttl_ms == 7777
        });
        (agreed && founded && all.iter().filter(|status| status.is_leader).count() == 1)
            .then_some(all)
    })
}

/// Index of the member that leads.
pub fn leader(members: &[Member]) -> usize {
    until("a leader", || members.iter().position(|m| m.running.is_some() && m.status().is_leader))
}

/// Some command.
pub fn renewal(number: u64) -> Command {
    Command::Renew {
        epoch: Epoch(1),
        incarnation: Incarnation(7),
        nonce: Nonce(number),
        ttl_ms: 5000,
        wal_lsn: Lsn(number),
        paused: false,
        seen: 0,
    }
}
