//! The client of the tour: inserts increasing numbers through whatever member is writable, and
//! remembers when each was acknowledged. From that come the outage and the rows that were lost.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use howdah_core::Lsn;
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, NoTls};

use super::layout::Layout;
use crate::failure::Failure;

/// A member that does not answer for this long is given up for another.
const ANSWER: Duration = Duration::from_millis(700);
const RECONNECT: Duration = Duration::from_millis(20);
/// A cluster that was whole a moment ago may fail over once more on an overloaded machine.
const LIMIT: Duration = Duration::from_secs(120);
const PACE: Duration = Duration::from_millis(5);

/// One acknowledged row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) id: i64,
    pub(crate) at: Instant,
    /// Where in the log it was written.
    pub(crate) lsn: Lsn,
}

/// How to reach the members as role `demo`.
#[derive(Clone)]
pub(crate) struct Access {
    configs: Vec<tokio_postgres::Config>,
}

impl Access {
    pub(crate) fn new(layout: &Layout) -> Access {
        let config = |port| {
            let mut config = tokio_postgres::Config::new();
            config
                .host("127.0.0.1")
                .port(port)
                .user("demo")
                .dbname("demo")
                .password(&layout.password)
                .application_name("howdah demo")
                .connect_timeout(ANSWER)
                .target_session_attrs(TargetSessionAttrs::ReadWrite);
            config
        };
        Access { configs: layout.members.iter().map(|m| config(m.postgres_port)).collect() }
    }

    /// A session on the member that is writable; all are tried at once, since one that hangs must
    /// not keep the others waiting.
    async fn connect(&self) -> Option<Session> {
        let mut tried = JoinSet::new();
        for config in self.configs.clone() {
            tried.spawn(tokio::time::timeout(ANSWER, async move { config.connect(NoTls).await }));
        }
        while let Some(joined) = tried.join_next().await {
            if let Ok(Ok(Ok((client, connection)))) = joined {
                let driver = tokio::spawn(async move {
                    // Its error reaches the client as the failure of a query.
                    let _ = connection.await;
                });
                return Some(Session { client, driver });
            }
        }
        None
    }

    /// Runs `work` on the writable member, again and again until it succeeds.
    async fn until_done<T>(
        &self,
        what: &str,
        limit: Duration,
        work: impl AsyncFn(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let mut why = "no member is writable".to_owned();
        while began.elapsed() < limit {
            if let Some(session) = self.connect().await {
                match work(&session.client).await {
                    Ok(value) => return Ok(value),
                    Err(error) => why = error.to_string(),
                }
            }
            tokio::time::sleep(RECONNECT).await;
        }
        Err(Failure::Error(format!("{what}: {why}; see the members' logs")))
    }
}

struct Session {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The writer, at work until it is dropped.
pub(crate) struct Writer {
    access: Access,
    acks: Arc<Mutex<Vec<Ack>>>,
    task: JoinHandle<()>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Writer {
    /// Makes the table and starts to write.
    pub(crate) async fn start(layout: &Layout) -> Result<Writer, Failure> {
        const TABLE: &str = "CREATE TABLE IF NOT EXISTS tour (id bigint PRIMARY KEY, \
                             written timestamptz NOT NULL DEFAULT clock_timestamp())";
        let access = Access::new(layout);
        access
            .until_done("the tour's table cannot be made", LIMIT, async |client| {
                client.batch_execute(TABLE).await
            })
            .await?;
        let acks = Arc::default();
        let task = tokio::spawn(write(access.clone(), Arc::clone(&acks)));
        Ok(Writer { access, acks, task })
    }

    /// When the last row was acknowledged.
    pub(crate) fn last_ack(&self) -> Option<Instant> {
        self.lock().last().map(|ack| ack.at)
    }

    /// The longest time without an acknowledgement between two moments.
    pub(crate) fn outage(&self, from: Instant, to: Instant) -> Duration {
        longest_gap(&self.lock(), from, to)
    }

    /// Rows that were acknowledged before `until` and are missing on the primary now. They are
    /// forgotten, so that the next step does not count them again.
    pub(crate) async fn lost(&self, until: Instant) -> Result<Vec<Ack>, Failure> {
        let rows = self
            .access
            .until_done("the tour's rows cannot be counted", LIMIT, async |client| {
                client.query("SELECT id FROM tour", &[]).await
            })
            .await?;
        let present: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        let mut lost = Vec::new();
        self.lock().retain(|ack| {
            let missing = ack.at < until && !present.contains(&ack.id);
            if missing {
                lost.push(*ack);
            }
            !missing
        });
        Ok(lost)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Ack>> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An insert whose fate is unknown is not repeated: its number stays unused or unacknowledged.
async fn write(access: Access, acks: Arc<Mutex<Vec<Ack>>>) {
    const INSERT: &str =
        "INSERT INTO tour (id) VALUES ($1) RETURNING pg_current_wal_insert_lsn()::text";
    let mut id = 0_i64;
    loop {
        if let Some(session) = access.connect().await
            && let Ok(Ok(insert)) =
                tokio::time::timeout(ANSWER, session.client.prepare(INSERT)).await
        {
            loop {
                id += 1;
                let answer =
                    tokio::time::timeout(ANSWER, session.client.query_one(&insert, &[&id])).await;
                let Ok(Ok(row)) = answer else { break };
                let lsn = row.get::<_, &str>(0).parse().unwrap_or_default();
                let ack = Ack { id, at: Instant::now(), lsn };
                acks.lock().unwrap_or_else(PoisonError::into_inner).push(ack);
                tokio::time::sleep(PACE).await;
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

fn longest_gap(acks: &[Ack], from: Instant, to: Instant) -> Duration {
    let first = acks.partition_point(|ack| ack.at <= from);
    // The gap that a fault opens begins with the last acknowledgement before it.
    let mut last = first.checked_sub(1).map_or(from, |before| acks[before].at);
    let mut longest = Duration::ZERO;
    for ack in acks[first..].iter().take_while(|ack| ack.at <= to) {
        longest = longest.max(ack.at.duration_since(last));
        last = ack.at;
    }
    longest.max(to.saturating_duration_since(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_reaches_from_before_the_fault_to_the_end() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let acks: Vec<Ack> = [0, 10, 20, 500, 510, 530]
            .into_iter()
            .map(|ms| Ack { id: ms as i64, at: at(ms), lsn: Lsn(0) })
            .collect();
        assert_eq!(longest_gap(&acks, at(25), at(530)), Duration::from_millis(480));
        assert_eq!(longest_gap(&acks, at(505), at(530)), Duration::from_millis(20));
        assert_eq!(longest_gap(&acks, at(505), at(2530)), Duration::from_secs(2));
        assert_eq!(longest_gap(&[], at(0), at(70)), Duration::from_millis(70));
    }
}
