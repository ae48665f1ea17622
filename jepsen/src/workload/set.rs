//! A set that grows: each element a row of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use howdah_tests::dice::Dice;

use super::{Workload, Wrote, wrote};
use crate::check::set::SetOp;
use crate::client::{Failed, Session};

/// Adds elements, none twice.
#[derive(Clone, Default)]
pub struct Set {
    next: Arc<AtomicI64>,
}

impl Set {
    /// Its table.
    pub const TABLES: &str = "CREATE TABLE storm_set (element bigint PRIMARY KEY)";
}

impl Workload for Set {
    type Op = SetOp;

    fn next(&mut self, _: u64, _: &mut Dice) -> SetOp {
        SetOp::Add(self.next.fetch_add(1, Ordering::SeqCst))
    }

    async fn run(&mut self, session: &Session, op: &SetOp) -> Result<(SetOp, Wrote), Failed> {
        let work = async |client: &tokio_postgres::Client| match op {
            SetOp::Add(element) => {
                let sql = "INSERT INTO storm_set VALUES ($1)";
                client.execute(sql, &[element]).await?;
                Ok((op.clone(), wrote(client).await?))
            }
            SetOp::Read(_) => {
                let rows = client.query("SELECT element FROM storm_set ORDER BY 1", &[]).await?;
                let read = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
                Ok((SetOp::Read(read), wrote(client).await?))
            }
        };
        session.transaction("READ COMMITTED", work).await
    }
}
