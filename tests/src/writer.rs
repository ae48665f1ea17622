//! A client that writes without pause, and remembers when each write was sent and acknowledged.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::{Config, NoTls};

use crate::cluster::{Cluster, PASSWORD};

/// What is written next; never the same twice in one process.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// So many writes go to one list.
pub const LIST: i64 = 50;

/// One acknowledged write.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// What was written.
    pub id: i64,
    /// By which member.
    pub member: usize,
    /// When it was sent.
    pub sent: Instant,
    /// When it was acknowledged.
    pub acked: Instant,
}

/// Writers, one pinned to each member, until dropped or finished.
pub struct Writer {
    stop: Arc<AtomicBool>,
    acks: Arc<Mutex<Vec<Ack>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Begins: one task per member, each writing to that member alone whenever it accepts. Each write
    /// is a row of its own in `t`.
    pub fn start(cluster: &Cluster) -> Self {
        Self::running(cluster, "INSERT INTO t VALUES ($1)")
    }

    /// The same; each write goes to the end of a list, of [`LIST`] in a row of `lists`, so that their
    /// order can be seen too.
    pub fn appending(cluster: &Cluster) -> Self {
        Self::running(
            cluster,
            "INSERT INTO lists VALUES ($1::bigint / 50, ARRAY[$1::bigint]) \
             ON CONFLICT (k) DO UPDATE SET v = lists.v || excluded.v",
        )
    }

    fn running(cluster: &Cluster, sql: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acks: Arc<Mutex<Vec<Ack>>> = Arc::default();
        let tasks = cluster
            .members
            .iter()
            .enumerate()
            .map(|(index, member)| {
                let mut config = Config::new();
                config.host(&member.host).port(member.pg_port).user("tester").password(PASSWORD);
                config.dbname("postgres").connect_timeout(Duration::from_millis(300));
                let (stop, acks) = (stop.clone(), acks.clone());
                let pinned = Pinned { index, config, sql, stop, acks };
                pinned.spawn(member.netns.clone())
            })
            .collect();
        Self { stop, acks, tasks }
    }

    /// All acknowledgements so far, in their order.
    pub fn acks(&self) -> Vec<Ack> {
        self.acks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Ends the tasks; all acknowledgements.
    pub async fn finish(mut self) -> Vec<Ack> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
        self.acks()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Pinned {
    index: usize,
    config: Config,
    sql: &'static str,
    stop: Arc<AtomicBool>,
    acks: Arc<Mutex<Vec<Ack>>>,
}

impl Pinned {
    /// Runs beside its member: in the member's network namespace, on a thread of its own, where
    /// there is one.
    fn spawn(self, netns: Option<String>) -> JoinHandle<()> {
        let Some(name) = netns else { return tokio::spawn(self.run()) };
        tokio::task::spawn_blocking(move || {
            let thread = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                if let (Ok(()), Ok(runtime)) = (crate::net::enter(&name), runtime) {
                    runtime.block_on(self.run());
                }
            });
            let _ = thread.join();
        })
    }

    async fn run(self) {
        while !self.stop.load(Ordering::SeqCst) {
            let connected =
                tokio::time::timeout(Duration::from_millis(500), self.config.connect(NoTls)).await;
            if let Ok(Ok((client, connection))) = connected {
                let driver = tokio::spawn(connection);
                self.write(&client).await;
                driver.abort();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Writes until something fails. A write without an answer is of unknown outcome: neither
    /// acknowledged nor lost.
    async fn write(&self, client: &tokio_postgres::Client) {
        while !self.stop.load(Ordering::SeqCst) {
            let id = NEXT.fetch_add(1, Ordering::SeqCst);
            let sent = Instant::now();
            let insert = async { client.execute(self.sql, &[&id]).await };
            match tokio::time::timeout(Duration::from_secs(5), insert).await {
                Ok(Ok(_)) => {
                    let ack = Ack { id, member: self.index, sent, acked: Instant::now() };
                    let mut acks =
                        self.acks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    acks.push(ack);
                }
                Ok(Err(_)) | Err(_) => return,
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The longest time without an acknowledgement between `from` and `to`.
pub fn longest_gap(acks: &[Ack], from: Instant, to: Instant) -> Duration {
    let mut times: Vec<Instant> =
        acks.iter().map(|ack| ack.acked).filter(|at| (from..=to).contains(at)).collect();
    times.sort();
    let mut last = from;
    let mut gap = Duration::ZERO;
    for at in times.into_iter().chain([to]) {
        gap = gap.max(at.duration_since(last));
        last = at;
    }
    gap
}
