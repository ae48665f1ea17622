//! A bank: transfers between a few accounts, and reads of all of them.

use howdah_tests::dice::Dice;

use super::{Workload, Wrote, wrote};
use crate::check::bank::BankOp;
use crate::client::{Failed, Session};

/// Transfers and reads.
#[derive(Clone, Default)]
pub struct Bank;

impl Bank {
    /// Accounts.
    pub const ACCOUNTS: usize = 8;
    /// What all of them hold together.
    pub const TOTAL: i64 = 80;
    /// Its table, with its accounts.
    pub const TABLES: &str = "CREATE TABLE storm_bank \
        (account bigint PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0)); \
        INSERT INTO storm_bank SELECT account, 10 FROM generate_series(0, 7) account";
}

impl Workload for Bank {
    type Op = BankOp;

    fn next(&mut self, _: u64, dice: &mut Dice) -> BankOp {
        if dice.throw(3) == 0 {
            return BankOp::Read(Vec::new());
        }
        let mut account = || dice.throw(Self::ACCOUNTS) as i64;
        let (from, to) = (account(), account());
        BankOp::Transfer(from, if from == to { (to + 1) % 8 } else { to }, 1 + dice.throw(4) as i64)
    }

    async fn run(&mut self, session: &Session, op: &BankOp) -> Result<(BankOp, Wrote), Failed> {
        let work = async |client: &tokio_postgres::Client| match op {
            BankOp::Transfer(from, to, amount) => {
                let sql = "UPDATE storm_bank SET balance = balance + CASE account \
                           WHEN $1 THEN -$3::bigint ELSE $3::bigint END WHERE account IN ($1, $2)";
                client.execute(sql, &[from, to, amount]).await?;
                Ok((op.clone(), wrote(client).await?))
            }
            BankOp::Read(_) => {
                let sql = "SELECT balance FROM storm_bank ORDER BY account";
                let rows = client.query(sql, &[]).await?;
                let read = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
                Ok((BankOp::Read(read), wrote(client).await?))
            }
        };
        session.transaction("SERIALIZABLE", work).await
    }
}
