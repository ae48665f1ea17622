//! Registers: a few are written, read and compared at a time; after so many operations, others.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use howdah_tests::dice::Dice;

use super::{Workload, Wrote, wrote};
use crate::check::register::RegisterOp;
use crate::client::{Failed, Session};

/// Operations on one register, so that its order can be searched for.
const OPERATIONS: i64 = 200;
/// Registers in use at a time.
const AT_A_TIME: i64 = 2;

/// Reads, writes, and compares and sets.
#[derive(Clone, Default)]
pub struct Registers {
    done: Arc<AtomicI64>,
}

impl Registers {
    /// Its table.
    pub const TABLES: &str =
        "CREATE TABLE storm_register (register bigint PRIMARY KEY, v bigint NOT NULL)";
}

impl Workload for Registers {
    type Op = RegisterOp;

    fn next(&mut self, _: u64, dice: &mut Dice) -> RegisterOp {
        let done = self.done.fetch_add(1, Ordering::SeqCst);
        let round = done / (OPERATIONS * AT_A_TIME);
        let register = round * AT_A_TIME + dice.throw(AT_A_TIME as usize) as i64;
        let mut value = || dice.throw(5) as i64;
        let (one, other) = (value(), value());
        match dice.throw(3) {
            0 => RegisterOp::Read(register, None),
            1 => RegisterOp::Write(register, one),
            _ => RegisterOp::Cas(register, one, other),
        }
    }

    async fn run(
        &mut self,
        session: &Session,
        op: &RegisterOp,
    ) -> Result<(RegisterOp, Wrote), Failed> {
        let work = async |client: &tokio_postgres::Client| {
            let done = match op {
                RegisterOp::Read(register, _) => {
                    let sql = "SELECT v FROM storm_register WHERE register = $1";
                    let row = client.query_opt(sql, &[register]).await?;
                    let seen = row.map(|row| row.try_get(0)).transpose()?;
                    Some(RegisterOp::Read(*register, seen))
                }
                RegisterOp::Write(register, value) => {
                    let sql = "INSERT INTO storm_register VALUES ($1, $2) \
                               ON CONFLICT (register) DO UPDATE SET v = excluded.v";
                    client.execute(sql, &[register, value]).await?;
                    Some(op.clone())
                }
                RegisterOp::Cas(register, old, new) => {
                    let sql = "UPDATE storm_register SET v = $3 WHERE register = $1 AND v = $2";
                    let changed = client.execute(sql, &[register, old, new]).await?;
                    (changed == 1).then(|| op.clone())
                }
            };
            Ok((done, wrote(client).await?))
        };
        match session.transaction("READ COMMITTED", work).await? {
            (Some(done), wrote) => Ok((done, wrote)),
            (None, _) => Err(Failed::Certain("another value stood there".to_owned())),
        }
    }
}
