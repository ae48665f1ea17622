//! Clients behind the doors: each connects anew for each write, and remembers what became of it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

use crate::cluster::{Cluster, PASSWORD};

/// Apart from what `Writer` writes.
static NEXT: AtomicI64 = AtomicI64::new(1_000_000_000);

/// What became of one visit.
#[derive(Clone, Debug)]
pub struct Visit {
    /// When the client knocked.
    pub at: Instant,
    /// When it knew.
    pub until: Instant,
    /// What it knew.
    pub outcome: Outcome,
}

/// What a client knows of its visit.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It got no session; why.
    Refused(String),
    /// It had one, and an error came of it; SQLSTATE, or empty where the connection broke.
    Broken(String),
    /// It wrote this, at the server with this port.
    Wrote {
        /// What.
        id: i64,
        /// Where.
        port: u16,
    },
}

/// Visitors until dropped or finished.
pub struct Visitors {
    stop: Arc<AtomicBool>,
    visits: Arc<Mutex<Vec<Visit>>>,
    tasks: Vec<JoinHandle<()>>,
}

/// How to get through a member's door for writes.
pub fn through(cluster: &Cluster, index: usize) -> Config {
    let member = &cluster.members[index];
    at(&member.host, member.write_port)
}

/// How to get through its door for reads.
pub fn to_read(cluster: &Cluster, index: usize) -> Config {
    let member = &cluster.members[index];
    at(&member.host, member.read_port)
}

fn at(host: &str, port: u16) -> Config {
    let mut config = Config::new();
    config.host(host).port(port).user("tester").password(PASSWORD).dbname("postgres");
    config.connect_timeout(Duration::from_secs(40));
    config
}

/// A session, and the task that drives it until it ends.
///
/// # Errors
/// If there is none.
pub async fn session(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl Visitors {
    /// One at each of these members' doors.
    pub fn start(cluster: &Cluster, members: &[usize]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let visits: Arc<Mutex<Vec<Visit>>> = Arc::default();
        let begin = |index: &usize| {
            let (stop, visits) = (stop.clone(), visits.clone());
            let config = through(cluster, *index);
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let at = Instant::now();
                    let outcome = visit(&config).await;
                    let visit = Visit { at, until: Instant::now(), outcome };
                    visits.lock().unwrap_or_else(PoisonError::into_inner).push(visit);
                }
            })
        };
        let tasks = members.iter().map(begin).collect();
        Self { stop, visits, tasks }
    }

    /// All visits so far.
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for so many more writes.
    ///
    /// # Errors
    /// If they do not come.
    pub async fn more(&self, count: usize) -> Result<()> {
        let wrote = || writes(&self.visits()).len();
        let before = wrote();
        crate::wait_for("visitors write", Duration::from_secs(60), || async {
            let now = wrote() - before;
            ensure!(now >= count, "{now} of {count} writes");
            Ok(())
        })
        .await
    }

    /// Lets each end its visit; all of them.
    pub async fn finish(mut self) -> Vec<Visit> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
        self.visits()
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn visit(config: &Config) -> Outcome {
    let client = match session(config).await {
        Ok(client) => client,
        Err(why) => return Outcome::Refused(format!("{why:?}")),
    };
    let id = NEXT.fetch_add(1, Ordering::SeqCst);
    let sql = "INSERT INTO t VALUES ($1) RETURNING current_setting('port')";
    match client.query_one(sql, &[&id]).await {
        Ok(row) => {
            let port: String = row.get(0);
            Outcome::Wrote { id, port: port.parse().unwrap_or_default() }
        }
        Err(why) => {
            Outcome::Broken(why.code().map_or(String::new(), |code| code.code().to_owned()))
        }
    }
}

/// Writes among them, with their ports and times.
pub fn writes(visits: &[Visit]) -> Vec<(i64, u16, Instant, Instant)> {
    let wrote = |visit: &Visit| match visit.outcome {
        Outcome::Wrote { id, port } => Some((id, port, visit.at, visit.until)),
        _ => None,
    };
    visits.iter().filter_map(wrote).collect()
}

/// Why visitors got no session.
pub fn refusals<'v>(visits: &'v [Visit]) -> Vec<&'v str> {
    let why = |visit: &'v Visit| match &visit.outcome {
        Outcome::Refused(why) => Some(why.as_str()),
        _ => None,
    };
    visits.iter().filter_map(why).collect()
}

/// From each of these moments to the next one, the longest time between two acknowledgements of anybody's; shortest
/// first.
pub fn longest_gaps(visits: &[Visit], since: &[Instant]) -> Vec<Duration> {
    let mut times: Vec<Instant> = writes(visits).iter().map(|write| write.3).collect();
    times.sort();
    let gaps: Vec<_> = times.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).collect();
    let ends = since.iter().skip(1).map(Some).chain([None]);
    let longest = since.iter().zip(ends).map(|(from, to)| {
        // A gap that began before what made it is that one's.
        let within = gaps
            .iter()
            .filter(|(at, gap)| *at + *gap >= *from && to.is_none_or(|to| *at + *gap < *to));
        within.map(|(_, gap)| *gap).max().unwrap_or_default()
    });
    let mut longest: Vec<Duration> = longest.collect();
    longest.sort();
    longest
}
