//! Puts the agent together, runs it, and takes it apart again.

use std::sync::Arc;
use std::time::Duration;

use howdah_consensus::{Node, OpenError, Options};
use howdah_core::{Command, Member, Timings};
use howdah_guard::client::GuardClient;
use howdah_guard::wire::Event;
use howdah_postgres::install::Install;
use howdah_rpc::access::{Access, Tokens};
use howdah_rpc::control::control_server::ControlServer;
use howdah_rpc::doorkeeper::Doorkeeper;
use howdah_rpc::incoming::{Door, incoming, local};
use howdah_rpc::peer::peer_server::PeerServer;
use nix::sys::resource::{Resource, setrlimit};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::elephant::Elephant;
use crate::front::Front;
use crate::locks;
use crate::order::Orders;
use crate::passwords;
use crate::peers::Listener;
use crate::rest::Rest;
use crate::services::control::Desk;
use crate::services::peer::PeerService;
use crate::services::rights::{self, Book};
use crate::shell::{Context, End, News, Shell, put};

/// What this version of howdah understands of the log.
const FEATURE_LEVEL: u32 = 1;
/// Calls at once on one connection; a member needs a handful.
const STREAMS: u32 = 256;
/// Voters at most; further members follow without a vote.
const VOTERS_MAX: usize = 5;
/// A disk that hangs must not keep an agent from ending, nor another one from beginning.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// A store of the size that it is kept at opens in some tenths of a second. With the wait for a lock it
/// must stay below the silence for which the guard kills an agent.
const OPENING: Duration = Duration::from_secs(15);

/// How the agent's process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Stopped as asked.
    Done = 0,
    /// Something could not be started.
    Error = 2,
    /// Internal error or failed fsync; to be restarted.
    Internal = 70,
    /// A foreign or corrupt directory, or a node that was removed; not to be restarted.
    Foreign = 78,
}

/// Runs the agent until it is told to stop. `guard` is the connection that the guard handed over.
pub fn run(
    config: Config,
    guard: GuardClient,
    events: std::sync::mpsc::Receiver<Event>,
) -> ExitCode {
    #[cfg(feature = "sabotage")]
    rail_off_by_environment();
    // Keys and passwords are in this process's memory. PostgreSQL is the guard's child, and keeps its own limit.
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "a core dump of the agent could have secrets in it");
    }
    // One thread: an agent mostly wakes up for a moment, and handing work between threads would cost
    // more than the work. What blocks for long (the store's writer, rewinds, walks over WAL) has
    // threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return ExitCode::Error;
        }
    };
    let served = runtime.spawn(Box::pin(serve(config, guard, events)));
    let code = match runtime.block_on(served) {
        Ok(code) => code,
        // A panic of the loop ends the process as any other; the guard starts another agent.
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => ExitCode::Internal,
        },
    };
    // Blocking calls that are still under way must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

/// A negative control: decisions are made on this thread, and rails are a thread's matter.
#[cfg(feature = "sabotage")]
fn rail_off_by_environment() {
    use howdah_core::rails::{Rails, switch_to};

    let Ok(name) = std::env::var("HOWDAH_TEST_RAIL_OFF") else { return };
    match Rails::all_but(&name) {
        Some(rails) => {
            switch_to(rails);
            tracing::warn!("decides without the rail {name}: a build for tests was told so");
        }
        None => tracing::error!("HOWDAH_TEST_RAIL_OFF: there is no rail {name}"),
    }
}

async fn serve(
    config: Config,
    guard: GuardClient,
    events: std::sync::mpsc::Receiver<Event>,
) -> ExitCode {
    match Agent::start(config, guard, events).await {
        Ok(agent) => agent.until_the_end().await,
        Err(Fault::Store(error @ OpenError::Io { .. })) => {
            tracing::error!("cannot open the replicated log: {error}");
            ExitCode::Internal
        }
        Err(Fault::Store(error)) => {
            tracing::error!("cannot open the replicated log: {error}");
            ExitCode::Foreign
        }
        Err(Fault::Foreign(why)) => {
            tracing::error!("cannot use the data directory: {why}");
            ExitCode::Foreign
        }
        Err(Fault::Other(why)) => {
            tracing::error!("cannot start: {why}");
            ExitCode::Error
        }
    }
}

/// Why the agent did not start.
enum Fault {
    Store(OpenError),
    /// PostgreSQL's programs and the data directory do not fit.
    Foreign(String),
    Other(String),
}

struct Agent {
    context: Arc<Context>,
    desk: Desk,
    shell: Shell,
    orders: mpsc::Receiver<crate::order::Ordered>,
    front: Front,
    tasks: Vec<JoinHandle<()>>,
}

impl Agent {
    async fn start(
        config: Config,
        guard: GuardClient,
        events: std::sync::mpsc::Receiver<Event>,
    ) -> Result<Self, Fault> {
        let other = |why: String| Fault::Other(why);
        let settings = &config.bootstrap.settings;
        let timings = Timings::for_profile(config.profile, settings.ttl());
        let timings = timings.map_err(|error| other(error.to_string()))?;
        let bin_dir = Some(config.postgresql.bin_dir.as_path());
        let install = Install::find(bin_dir, Some(&config.postgresql.data_dir));
        let install = install.map_err(|why| Fault::Foreign(why.to_string()))?;
        warn_of_streams(&config, &install);
        locks::renew_at_start(&config);
        let access = config.access().map_err(|why| other(format!("tls: {why}")))?;
        let node = Arc::new(open(&config, timings, &access).await.map_err(Fault::Store)?);
        let elephant =
            Elephant::new(config.clone(), install, guard).map_err(|why| other(why.to_string()))?;
        let elephant = Arc::new(elephant);
        let (board, me) = (Arc::new(Board::default()), config.name.clone());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (orders, ordered) = Orders::channel();
        let context = Arc::new(Context {
            config,
            me: me.clone(),
            timings,
            node: node.clone(),
            board: board.clone(),
            clock: clock.clone(),
            elephant: elephant.clone(),
            counters: Arc::default(),
            access,
        });
        let (shell, outbox) = Shell::new(context.clone());
        let counters = context.counters.clone();
        let data_dir = context.config.postgresql.data_dir.clone();
        let desk = Desk {
            me,
            node: node.clone(),
            board,
            orders,
            timings,
            clock: clock.clone(),
            counters,
            data_dir,
            configured: elephant.current_changes(),
        };
        let mut front = Front::open(&context.config).await.map_err(other)?;
        let mut tasks = services(&context, &desk).await.map_err(other)?;
        node.start();
        let (every, limit) = (timings.ttl / 10, timings.probe_timeout);
        tasks.push(tokio::spawn(elephant.clone().watch(clock, every, limit, outbox.clone())));
        tasks.push(tokio::spawn(announce(context.clone())));
        tasks.push(tokio::spawn(passwords::keep(context.clone())));
        tasks.extend(front.begin(&context));
        if let Access::Locked(keyring) = &context.access {
            tasks.push(tokio::spawn(locks::keep(keyring.clone(), context.clone())));
        }
        let raft_dir = context.config.raft.data_dir.clone();
        tasks.push(tokio::spawn(crate::troubles::watch(elephant.clone(), raft_dir)));
        let listener = Listener {
            scope: context.config.scope.clone(),
            me: context.me.clone(),
            timings,
            node: node.clone(),
            board: context.board.clone(),
            clock: context.clock.clone(),
        };
        tasks.push(tokio::spawn(listener.run(node.applied())));
        listen_to_guard(events, outbox);
        Ok(Self { context, desk, shell, orders: ordered, front, tasks })
    }

    async fn until_the_end(self) -> ExitCode {
        let Agent { context, desk, shell, orders, front, tasks } = self;
        let end = Box::pin(shell.run(orders)).await;
        if end == End::Orderly {
            front.drain().await;
            desk.node.hand_on_leadership().await;
        }
        for task in &tasks {
            task.abort();
        }
        match tokio::time::timeout(LAST_WRITES, context.node.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!("the replicated log did not end in good order: {error}");
            }
            // What was acknowledged is durable all the same.
            Err(_) => tracing::warn!("the replicated log did not end within {LAST_WRITES:?}"),
        }
        match end {
            End::Orderly => {
                context.elephant.tell_shutdown().await;
                ExitCode::Done
            }
            End::Foreign | End::Removed => ExitCode::Foreign,
            End::Internal | End::GuardGone => ExitCode::Internal,
        }
    }
}

/// Certificates alone encrypt nothing where the server cannot.
fn warn_of_streams(config: &Config, install: &Install) {
    if config.tls.is_some() && !install.has_tls {
        let bin_dir = install.bin_dir.display();
        tracing::warn!(%bin_dir, "this PostgreSQL was built without TLS: its streams are not encrypted");
    }
}

/// Opens the log. An agent whose guard was killed may still be on its way out, and has it locked.
/// A store that does not come to an end with opening is left, with this process: on a volume that was full,
/// or whose disk hung, the next one may.
async fn open(config: &Config, timings: Timings, access: &Access) -> Result<Node, OpenError> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let opened =
            tokio::time::timeout(OPENING, Node::open(options(config, timings, access))).await;
        match opened.unwrap_or_else(|_| Err(did_not_open(config))) {
            Err(OpenError::Locked { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            opened => return opened,
        }
    }
}

fn did_not_open(config: &Config) -> OpenError {
    let why = format!("it did not open within {OPENING:?}; its disk hangs, or is full");
    let source = std::io::Error::new(std::io::ErrorKind::TimedOut, why);
    OpenError::Io { dir: config.raft.data_dir.clone(), source }
}

fn options(config: &Config, timings: Timings, access: &Access) -> Options {
    Options {
        dir: config.raft.data_dir.clone(),
        scope: config.scope.clone(),
        member: config.name.clone(),
        self_addr: config.raft.self_addr.clone(),
        partner_addrs: config.raft.partner_addrs.clone(),
        access: access.clone(),
        timings: howdah_consensus::Timings {
            heartbeat: timings.heartbeat,
            election_min: timings.election_min,
            election_max: timings.election_max,
            rpc_timeout: timings.rpc_timeout,
            connect_timeout: timings.connect_timeout,
        },
        settings: config.bootstrap.settings.clone(),
        max_voters: VOTERS_MAX,
    }
}

/// Binds both ports before anything is promised to anybody, and serves on them.
async fn services(context: &Arc<Context>, desk: &Desk) -> Result<Vec<JoinHandle<()>>, String> {
    let config = &context.config;
    let bind = |address| async move {
        let bound = tokio::net::TcpListener::bind(address).await;
        bound.map_err(|error| format!("listen on {address}: {error}; is it taken?"))
    };
    let grpc = bind(config.raft.bind_addr).await?;
    let rest = bind(config.restapi.listen).await?;
    let peer = PeerService {
        scope: config.scope.clone(),
        me: context.me.clone(),
        board: context.board.clone(),
        orders: desk.orders.clone(),
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ControlServer<Desk>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(howdah_rpc::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| format!("the reflection service: {error}"))?;
    let clock = context.clock.clone();
    let tokens: Arc<dyn Tokens> = Arc::new(Book { node: context.node.clone(), clock });
    let server = |keeper: Doorkeeper| {
        tonic::transport::Server::builder()
            // Clients look after their connections themselves, and sooner; this only clears up behind
            // those that vanished.
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .max_concurrent_streams(Some(STREAMS))
            .layer(keeper)
    };
    let keeper = Doorkeeper::new(tokens.clone());
    let members = server(keeper.clone())
        .add_service(context.node.service())
        .add_service(PeerServer::new(peer))
        .add_service(ControlServer::new(desk.clone()))
        .add_service(health.clone())
        .add_service(reflection.clone())
        .serve_with_incoming(incoming(grpc, context.access.clone(), Door::Grpc(tokens.clone())));
    let mut tasks = vec![tokio::spawn(async move {
        if let Err(error) = members.await {
            tracing::error!("gRPC ended: {error}");
        }
    })];
    if let Some(socket) = socket(config) {
        let people = server(keeper)
            .add_service(ControlServer::new(desk.clone()))
            .add_service(health)
            .add_service(reflection)
            .serve_with_incoming(local(socket));
        tasks.push(tokio::spawn(async move {
            if let Err(error) = people.await {
                tracing::error!("the control socket ended: {error}");
            }
        }));
    }
    let insecure = config.insecure || matches!(context.access, Access::Open);
    let by_tls = if config.restapi.tls { context.access.clone() } else { Access::Open };
    let config = Arc::new(config.restapi.clone());
    let router = crate::rest::router(Rest {
        desk: desk.clone(),
        tokens,
        config,
        insecure,
        teller: Arc::default(),
    });
    tasks.push(tokio::spawn(crate::rest::serve::serve(rest, by_tls, router)));
    Ok(tasks)
}

/// The socket for root and howdah's own user on this machine. Whoever can enter its directory is one of them; the kernel is asked
/// all the same.
fn socket(config: &Config) -> Option<UnixListener> {
    let path = config.control_socket();
    // One that a killed agent left; the store's lock says that no other agent lives.
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "there will be no control socket");
        return None;
    }
    match UnixListener::bind(&path) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "there is no control socket; commands go over TCP");
            None
        }
    }
}

/// The guard's events come on a thread of their own.
fn listen_to_guard(events: std::sync::mpsc::Receiver<Event>, outbox: mpsc::UnboundedSender<News>) {
    std::thread::spawn(move || {
        while let Ok(event) = events.recv() {
            if outbox.send(News::Guard(event)).is_err() {
                return;
            }
        }
        // Nobody listens any more if this fails.
        let _ = outbox.send(News::Guard(Event::GuardGone));
    });
}

/// Keeps this member's entry in the log right, and draws the cluster's secrets once.
async fn announce(context: Arc<Context>) {
    let mut applied = context.node.applied();
    let mut status = context.node.status_changes();
    let mut configured = context.elephant.current_changes();
    loop {
        let state = applied.borrow_and_update().state.clone();
        let node = context.node.status();
        let me = member(&context, node.node_id);
        let limit = context.timings.ttl;
        if node.cluster_id.is_some() && state.cluster_id != howdah_core::ClusterId(0) {
            let known = state.members.get(&context.me) == Some(&me);
            let result = if !known {
                let (name, at) = (context.me.clone(), context.clock.wall());
                put(&context, Command::UpsertMember { name, member: me, at }, limit).await
            } else if state.secrets.is_none() {
                put(&context, Command::SetSecrets { secrets: rights::draw() }, limit).await
            } else {
                Ok(())
            };
            if let Err(why) = result {
                tracing::debug!(why, "not announced yet");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            changed = status.changed() => if changed.is_err() { return },
            changed = configured.changed() => if changed.is_err() { return },
        }
    }
}

fn member(context: &Context, node_id: howdah_core::NodeId) -> Member {
    let config = context.elephant.current();
    let tags = &config.tags;
    let other =
        tags.all.iter().filter(|(key, _)| !crate::config::KNOWN_TAGS.contains(&key.as_str()));
    Member {
        node_id,
        control_address: config.raft.self_addr.clone(),
        postgres_address: config.postgresql.connect_address.to_string(),
        api_url: format!(
            "{}://{}/patroni",
            if config.restapi.tls { "https" } else { "http" },
            config.restapi.connect_address
        ),
        tags: howdah_core::Tags {
            nofailover: tags.nofailover,
            noloadbalance: tags.noloadbalance,
            clonefrom: tags.clonefrom,
            nosync: tags.nosync,
            sync_priority: tags.sync_priority,
            failover_priority: tags.failover_priority,
            other: other.map(|(key, value)| (key.clone(), value.clone())).collect(),
        },
        postgres_major: context.elephant.install.major,
        feature_level: FEATURE_LEVEL,
    }
}
