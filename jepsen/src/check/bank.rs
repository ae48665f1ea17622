//! A bank: transfers between accounts leave their sum as it is, in every read of all of them.

use super::{Anomaly, Verdict};
use crate::history::{History, Operation, Outcome, Value};

/// What clients do to the bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BankOp {
    /// Moves an amount from one account to another.
    Transfer(i64, i64, i64),
    /// Reads all balances, in the order of the accounts; empty while it is asked.
    Read(Vec<i64>),
}

impl Operation for BankOp {
    fn parse(f: &str, value: &Value) -> Option<Self> {
        match (f, value) {
            ("transfer", list) => match list.int_list()?[..] {
                [from, to, amount] => Some(Self::Transfer(from, to, amount)),
                _ => None,
            },
            ("read", Value::Nil) => Some(Self::Read(Vec::new())),
            ("read", list) => list.int_list().map(Self::Read),
            _ => None,
        }
    }

    fn f(&self) -> &'static str {
        match self {
            Self::Transfer(..) => "transfer",
            Self::Read(_) => "read",
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Transfer(from, to, amount) => Value::ints([*from, *to, *amount]),
            Self::Read(balances) => Value::ints(balances.iter().copied()),
        }
    }
}

/// Judges reads, of the primary or of standbys: a snapshot of either has the whole sum. `total` is what
/// so many `accounts` held in the beginning; no balance falls below zero.
pub fn check(history: &History, accounts: usize, total: i64) -> Verdict {
    let done = match history.operations::<BankOp>() {
        Ok(done) => done,
        Err(error) => return error.into(),
    };
    let (mut found, mut reads, mut transfers) = (Vec::new(), 0_usize, 0_usize);
    for one in done.iter().filter(|one| one.outcome == Outcome::Ok) {
        let BankOp::Read(balances) = &one.op else {
            transfers += 1;
            continue;
        };
        reads += 1;
        let mut wrong = |kind, text| found.push(Anomaly { kind, text, events: vec![one.index] });
        if balances.len() != accounts {
            wrong("wrong-accounts", format!("{} accounts instead of {accounts}", balances.len()));
            continue;
        }
        let sum = balances.iter().map(|balance| i128::from(*balance)).sum::<i128>();
        if sum != i128::from(total) {
            wrong("wrong-total", format!("the accounts hold {sum} instead of {total}"));
        }
        if let Some(least) = balances.iter().filter(|balance| **balance < 0).min() {
            wrong("negative", format!("an account holds {least}"));
        }
    }
    if found.is_empty() && (reads == 0 || transfers == 0) {
        return Verdict::Unknown(format!("{reads} reads and {transfers} transfers prove nothing"));
    }
    Verdict::of(found, format!("{transfers} transfers, {reads} reads of the whole sum"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Process;
    use crate::history::script::Script;

    #[test]
    fn the_sum_is_kept() {
        let read = |balances: &[i64]| BankOp::Read(balances.to_vec());
        for (reads, kinds) in [
            (vec![read(&[5, 5]), read(&[2, 8])], vec![]),
            (vec![read(&[5, 6])], vec!["wrong-total"]),
            (vec![read(&[-1, 11])], vec!["negative"]),
            (vec![read(&[10])], vec!["wrong-accounts"]),
            (vec![read(&[i64::MAX, i64::MAX])], vec!["wrong-total"]),
        ] {
            let mut script = Script::default();
            script.whole(0, BankOp::Transfer(0, 1, 3));
            for read in reads {
                script.whole(1, read);
            }
            assert_eq!(check(&script.history, 2, 10).kinds(), kinds);
        }
        let mut script = Script::default();
        script.begin(Process::Client(0), &BankOp::Read(Vec::new()));
        script.whole(1, read(&[5, 5]));
        assert!(matches!(check(&script.history, 2, 10), Verdict::Unknown(_)));
    }
}
