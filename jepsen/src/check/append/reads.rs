//! What reads say by themselves, before any graph: whose elements they saw, in which order.

use std::collections::BTreeMap;

use super::{Step, Txn};
use crate::check::{Anomaly, some};
use crate::history::{Done, Outcome};

/// The lists as the history shows them. Transactions are named by their place in it.
pub(super) struct Lists {
    /// The longest read of each list.
    pub orders: BTreeMap<i64, Vec<i64>>,
    /// Who appended an element, by list and element.
    pub writers: BTreeMap<(i64, i64), usize>,
    /// Whether each transaction took effect: it was acknowledged, or somebody saw it.
    pub committed: Vec<bool>,
    /// When the last read of each list was asked for.
    last_asked: BTreeMap<i64, u64>,
}

impl Lists {
    /// # Errors
    /// An element was to be appended twice: such a history says nothing.
    pub fn of(done: &[Done<Txn>]) -> Result<Self, String> {
        let mut writers = BTreeMap::new();
        for (nth, txn) in done.iter().enumerate() {
            for (key, element) in appends(&txn.op) {
                if writers.insert((key, element), nth).is_some() {
                    return Err(format!("{element} was to be appended to list {key} twice"));
                }
            }
        }
        let mut orders: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let mut committed: Vec<bool> = done.iter().map(|txn| txn.outcome == Outcome::Ok).collect();
        let mut last_asked: BTreeMap<i64, u64> = BTreeMap::new();
        for (key, list, reader) in reads(done) {
            let asked = last_asked.entry(key).or_default();
            *asked = done[reader].called.max(*asked);
            let longest = orders.entry(key).or_default();
            if list.len() > longest.len() {
                *longest = list.to_vec();
            }
            for element in list {
                let writer = writers.get(&(key, *element)).copied();
                if let Some(writer) = writer.filter(|nth| done[*nth].outcome == Outcome::Unknown) {
                    committed[writer] = true;
                }
            }
        }
        Ok(Self { orders, writers, committed, last_asked })
    }

    /// Acknowledged appends that no longest read shows: list, element, and the event of the transaction.
    /// Those that somebody should have seen, for the list was read since; or the others.
    fn unseen(&self, done: &[Done<Txn>], read_since: bool) -> Vec<(i64, i64, u64)> {
        let acked = done.iter().filter(|txn| txn.outcome == Outcome::Ok);
        let appended = acked.flat_map(|txn| appends(&txn.op).map(move |one| (one, txn)));
        let unseen = appended.filter(|((key, element), txn)| {
            let shown = self.orders.get(key).is_some_and(|order| order.contains(element));
            let asked = self.last_asked.get(key).copied();
            let since = asked.zip(txn.returned).is_some_and(|(asked, acked)| asked > acked);
            !shown && since == read_since
        });
        unseen.map(|((key, element), txn)| (key, element, txn.index)).collect()
    }

    /// How many acknowledged appends nobody can tell anything of: their lists were not read afterwards.
    pub fn unread(&self, done: &[Done<Txn>]) -> usize {
        self.unseen(done, false).len()
    }
}

/// What a transaction appends, in its order.
pub(super) fn appends(txn: &Txn) -> impl Iterator<Item = (i64, i64)> {
    txn.0.iter().filter_map(|step| match step {
        Step::Append(key, element) => Some((*key, *element)),
        Step::Read(..) => None,
    })
}

/// Reads of transactions that were acknowledged; those of others say nothing that is certain.
pub(super) fn reads(done: &[Done<Txn>]) -> impl Iterator<Item = (i64, &[i64], usize)> {
    let good = done.iter().enumerate().filter(|(_, txn)| txn.outcome == Outcome::Ok);
    good.flat_map(|(nth, txn)| {
        txn.op.0.iter().filter_map(move |step| match step {
            Step::Read(key, Some(list)) => Some((*key, list.as_slice(), nth)),
            _ => None,
        })
    })
}

/// What is wrong with single reads, and with what they should have shown.
pub(super) fn judge(done: &[Done<Txn>], lists: &Lists) -> Vec<Anomaly> {
    let mut found: Vec<Anomaly> = lost(done, lists).into_iter().collect();
    for (key, list, reader) in reads(done) {
        let index = done[reader].index;
        let mut wrong = |kind, text: String, writer: Option<usize>| {
            let events = writer.map(|writer| done[writer].index).into_iter().chain([index]);
            found.push(Anomaly { kind, text, events: events.collect() });
        };
        let mut sorted = list.to_vec();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            wrong("duplicate", format!("list {key} holds {} twice", pair[0]), None);
        }
        for element in list {
            match lists.writers.get(&(key, *element)) {
                None => wrong("phantom", format!("nobody appended {element} to list {key}"), None),
                Some(writer) if done[*writer].outcome == Outcome::Fail => {
                    let text = format!("{element} in list {key} is of a transaction that failed");
                    wrong("G1a", text, Some(*writer));
                }
                Some(_) => {}
            }
        }
        if let Some((writer, last)) = intermediate(list, key, reader, done, lists) {
            let text = format!("list {key} was read up to {last}, in the middle of a transaction");
            wrong("G1b", text, Some(writer));
        }
        if !lists.orders.get(&key).is_some_and(|order| order.starts_with(list)) {
            let text = format!("list {key} was read as {}, and otherwise later", tail(list));
            wrong("incompatible-order", text, None);
        }
    }
    found.extend(done.iter().filter(|txn| txn.outcome == Outcome::Ok).filter_map(internal));
    found
}

/// Appends that were acknowledged before their list was last read, and that no read shows.
fn lost(done: &[Done<Txn>], lists: &Lists) -> Option<Anomaly> {
    let unseen = lists.unseen(done, true);
    let missing: Vec<String> =
        unseen.iter().map(|(key, element, _)| format!("{element} of list {key}")).collect();
    let events = unseen.iter().map(|(_, _, index)| *index).collect();
    let text = || format!("{} acknowledged appends are lost: {}", missing.len(), some(&missing));
    (!missing.is_empty()).then(|| Anomaly { kind: "lost-append", text: text(), events })
}

/// The read ends with an element of another transaction, which appended more to this list.
fn intermediate(
    list: &[i64],
    key: i64,
    reader: usize,
    done: &[Done<Txn>],
    lists: &Lists,
) -> Option<(usize, i64)> {
    let last = *list.last()?;
    let writer = *lists.writers.get(&(key, last))?;
    let final_one = appends(&done[writer].op).filter(|(one, _)| *one == key).last();
    (writer != reader && final_one != Some((key, last))).then_some((writer, last))
}

/// A transaction sees what it did itself: a later read of a list is the earlier one with its own
/// appends behind it.
fn internal(txn: &Done<Txn>) -> Option<Anomaly> {
    // What is known of a list: its beginning, if it was read, and own appends since.
    let mut known: BTreeMap<i64, (Option<Vec<i64>>, Vec<i64>)> = BTreeMap::new();
    for step in &txn.op.0 {
        match step {
            Step::Append(key, element) => known.entry(*key).or_default().1.push(*element),
            Step::Read(key, Some(list)) => {
                let (start, own) = known.entry(*key).or_default();
                let fits = match start {
                    Some(start) => *list == [start.as_slice(), own.as_slice()].concat(),
                    None => list.ends_with(own),
                };
                if !fits {
                    return Some(Anomaly {
                        kind: "internal",
                        text: format!("a transaction read list {key} without its own steps"),
                        events: vec![txn.index],
                    });
                }
                (*start, *own) = (Some(list.clone()), Vec::new());
            }
            Step::Read(_, None) => {}
        }
    }
    None
}

fn tail(list: &[i64]) -> String {
    const SHOWN: usize = 5;
    let from = list.len().saturating_sub(SHOWN);
    format!("{} elements that end with {:?}", list.len(), &list[from..])
}
