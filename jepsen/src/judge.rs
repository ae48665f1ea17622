//! All checkers, over the histories of one run.

use std::collections::BTreeMap;

use crate::check::primaries::{self, Ack};
use crate::check::{Verdict, append, bank, counter, gaps, register, set};
use crate::crew::Histories;
use crate::history::{History, Kind};
use crate::workload::Bank;

/// Steps of the search for an order of one register.
const STEPS: usize = 20_000_000;

/// What all checkers say of the histories.
///
/// Where replication is asynchronous a failover may take writes back, and nobody promised otherwise: then only
/// what holds in every mode is asked.
pub fn judge(histories: &Histories, expected: usize, mode: &str) -> Vec<(String, Verdict)> {
    let acks: Vec<Ack> = histories.all().iter().flat_map(|(_, history)| acks_of(history)).collect();
    let acked = histories.acknowledged();
    let mut verdicts = vec![
        ("one primary".to_owned(), primaries::check(&acks)),
        ("enough work".to_owned(), gaps::enough(acked, expected)),
    ];
    if mode != "off" {
        verdicts.extend(promised(histories));
    }
    verdicts
}

/// What synchronous replication promises.
fn promised(histories: &Histories) -> [(String, Verdict); 5] {
    [
        ("set", set::check(&histories.set)),
        ("append", append::check(&histories.append, append::Level::Serializable)),
        ("register", register::check(&histories.register, STEPS)),
        ("bank", bank::check(&histories.bank, Bank::ACCOUNTS, Bank::TOTAL)),
        ("counter", counter::check(&histories.counter)),
    ]
    .map(|(name, verdict)| (name.to_owned(), verdict))
}

/// Acknowledgements whose member and timeline are known, with the moment in which they were asked for.
fn acks_of(history: &History) -> Vec<Ack> {
    let mut sent = BTreeMap::new();
    let mut acks = Vec::new();
    for event in &history.events {
        if event.kind == Kind::Invoke {
            sent.insert(event.process, event.time);
        }
        let begun = sent.get(&event.process).copied();
        if let (Kind::Ok, Some(node), Some(timeline), Some(sent)) =
            (event.kind, &event.node, event.timeline, begun)
        {
            let (node, acked, index) = (node.clone(), event.time, event.index);
            acks.push(Ack { node, timeline, sent, acked, index });
        }
    }
    acks
}
