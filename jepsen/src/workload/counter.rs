//! A counter for each client, which nobody else touches.

use howdah_tests::dice::Dice;

use super::{Workload, Wrote, wrote};
use crate::check::counter::CounterOp;
use crate::client::{Failed, Session};

/// Adds to the client's counter, and reads it.
#[derive(Clone, Default)]
pub struct Counter {
    key: i64,
}

impl Counter {
    /// Its table.
    pub const TABLES: &str =
        "CREATE TABLE storm_counter (session bigint PRIMARY KEY, n bigint NOT NULL)";
}

impl Workload for Counter {
    type Op = CounterOp;

    fn next(&mut self, process: u64, dice: &mut Dice) -> CounterOp {
        // A client that came back under another number has another counter.
        self.key = process as i64;
        if dice.throw(2) == 0 { CounterOp::Add(None) } else { CounterOp::Read(None) }
    }

    async fn run(
        &mut self,
        session: &Session,
        op: &CounterOp,
    ) -> Result<(CounterOp, Wrote), Failed> {
        let key = self.key;
        let work = async |client: &tokio_postgres::Client| {
            let done = match op {
                CounterOp::Add(_) => {
                    let sql = "INSERT INTO storm_counter VALUES ($1, 1) ON CONFLICT (session) \
                               DO UPDATE SET n = storm_counter.n + 1 RETURNING n";
                    CounterOp::Add(Some(client.query_one(sql, &[&key]).await?.try_get(0)?))
                }
                CounterOp::Read(_) => {
                    let sql = "SELECT n FROM storm_counter WHERE session = $1";
                    let row = client.query_opt(sql, &[&key]).await?;
                    let n = row.map(|row| row.try_get(0)).transpose()?;
                    CounterOp::Read(Some(n.unwrap_or(0)))
                }
            };
            Ok((done, wrote(client).await?))
        };
        session.transaction("READ COMMITTED", work).await
    }
}
