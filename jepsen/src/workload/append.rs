//! Lists in three tables, which transactions append to and read.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use howdah_tests::dice::Dice;

use super::{Workload, Wrote, wrote};
use crate::check::append::{Step, Txn};
use crate::client::{Failed, Session};

/// Transactions after which other lists are used, so that none grows long.
const TRANSACTIONS: i64 = 120;
/// Lists in use at a time.
const AT_A_TIME: i64 = 6;
/// Steps of a transaction at most.
const STEPS: usize = 4;

/// Transactions on lists.
#[derive(Clone, Default)]
pub struct Append {
    begun: Arc<AtomicI64>,
    element: Arc<AtomicI64>,
}

impl Append {
    /// Its tables.
    pub const TABLES: &str = "CREATE TABLE storm_list0 (list bigint PRIMARY KEY, v text NOT NULL); \
        CREATE TABLE storm_list1 (list bigint PRIMARY KEY, v text NOT NULL); \
        CREATE TABLE storm_list2 (list bigint PRIMARY KEY, v text NOT NULL)";

    /// All lists that were used so far.
    pub fn lists(&self) -> std::ops::Range<i64> {
        let begun = self.begun.load(Ordering::SeqCst);
        0..(begun / TRANSACTIONS + 1) * AT_A_TIME
    }
}

impl Workload for Append {
    type Op = Txn;

    fn next(&mut self, _: u64, dice: &mut Dice) -> Txn {
        let round = self.begun.fetch_add(1, Ordering::SeqCst) / TRANSACTIONS;
        let steps = (0..=dice.throw(STEPS)).map(|_| {
            let list = round * AT_A_TIME + dice.throw(AT_A_TIME as usize) as i64;
            if dice.throw(2) == 0 {
                return Step::Read(list, None);
            }
            Step::Append(list, self.element.fetch_add(1, Ordering::SeqCst))
        });
        Txn(steps.collect())
    }

    async fn run(&mut self, session: &Session, op: &Txn) -> Result<(Txn, Wrote), Failed> {
        let work = async |client: &tokio_postgres::Client| {
            let mut done = Vec::with_capacity(op.0.len());
            for step in &op.0 {
                done.push(run_step(client, step).await?);
            }
            Ok((Txn(done), wrote(client).await?))
        };
        session.transaction("SERIALIZABLE", work).await
    }
}

async fn run_step(
    client: &tokio_postgres::Client,
    step: &Step,
) -> Result<Step, tokio_postgres::Error> {
    match step {
        Step::Append(list, element) => {
            let sql = format!(
                "INSERT INTO storm_list{0} VALUES ($1, $2) ON CONFLICT (list) \
                 DO UPDATE SET v = CONCAT(storm_list{0}.v, ' ', excluded.v)",
                list % 3
            );
            client.execute(&sql, &[list, &element.to_string()]).await?;
            Ok(step.clone())
        }
        Step::Read(list, _) => {
            let sql = format!("SELECT v FROM storm_list{} WHERE list = $1", list % 3);
            let row = client.query_opt(&sql, &[list]).await?;
            let text: String = row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
            // What is no number was appended by nobody; the checker says so.
            let read = text.split_whitespace().map(|word| word.parse().unwrap_or(-1)).collect();
            Ok(Step::Read(*list, Some(read)))
        }
    }
}
