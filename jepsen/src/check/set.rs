//! A set that only grows: whatever was acknowledged must be in every read that began later.

use std::collections::{BTreeMap, BTreeSet};

use super::{Anomaly, Verdict, some};
use crate::history::{Done, History, Operation, Outcome, Value};

/// What clients do to the set. No element is added twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetOp {
    /// Adds an element.
    Add(i64),
    /// Reads all elements; empty while it is asked.
    Read(Vec<i64>),
}

impl Operation for SetOp {
    fn parse(f: &str, value: &Value) -> Option<Self> {
        match (f, value) {
            ("add", Value::Int(element)) => Some(Self::Add(*element)),
            ("read", Value::Nil) => Some(Self::Read(Vec::new())),
            ("read", list) => list.int_list().map(Self::Read),
            _ => None,
        }
    }

    fn f(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Read(_) => "read",
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Add(element) => Value::Int(*element),
            Self::Read(elements) => Value::ints(elements.iter().copied()),
        }
    }
}

/// Judges a history whose last read was made after everything had healed. Reads of standbys belong
/// into a history of their own: they may be stale.
pub fn check(history: &History) -> Verdict {
    let done = match history.operations::<SetOp>() {
        Ok(done) => done,
        Err(error) => return error.into(),
    };
    let mut adds: BTreeMap<i64, &Done<SetOp>> = BTreeMap::new();
    for one in &done {
        if let SetOp::Add(element) = one.op
            && adds.insert(element, one).is_some()
        {
            return Verdict::Unknown(format!("{element} was to be added twice"));
        }
    }
    let reads: Vec<Read<'_>> = done.iter().filter_map(Read::of).collect();
    let Some(last) = reads.iter().max_by_key(|read| read.called) else {
        return Verdict::Unknown("nobody read the set".to_owned());
    };
    let of = |outcome| adds.values().filter(move |add| add.outcome == outcome);
    let acked: Vec<&Done<SetOp>> = of(Outcome::Ok).copied().collect();
    if acked.iter().any(|add| add.returned > Some(last.called)) {
        return Verdict::Unknown("elements were acknowledged after the last read began".to_owned());
    }
    if acked.is_empty() {
        return Verdict::Unknown("no element was acknowledged".to_owned());
    }
    let mut found = Vec::new();
    found.extend(missing("lost", &acked, last));
    found.extend(strangers(&reads, &adds));
    found.extend(twice(&reads));
    // What came back later was not lost, but a read that missed it was stale.
    for read in reads.iter().filter(|read| read.index != last.index) {
        let seen_late: Vec<&Done<SetOp>> = acked
            .iter()
            .filter(|add| element(add).is_some_and(|one| last.elements.contains(&one)))
            .copied()
            .collect();
        found.extend(missing("stale", &seen_late, read));
    }
    let recovered = of(Outcome::Unknown).filter_map(|add| element(add));
    let recovered = recovered.filter(|one| last.elements.contains(one)).count();
    Verdict::of(
        found,
        format!(
            "{} of {} elements acknowledged, all there; {recovered} of unknown fate are there too; \
             {} reads",
            acked.len(),
            adds.len(),
            reads.len()
        ),
    )
}

struct Read<'a> {
    index: u64,
    called: u64,
    list: &'a [i64],
    elements: BTreeSet<i64>,
}

impl<'a> Read<'a> {
    fn of(done: &'a Done<SetOp>) -> Option<Self> {
        let SetOp::Read(list) = &done.op else { return None };
        (done.outcome == Outcome::Ok).then(|| Self {
            index: done.index,
            called: done.called,
            list,
            elements: list.iter().copied().collect(),
        })
    }
}

fn element(add: &Done<SetOp>) -> Option<i64> {
    match add.op {
        SetOp::Add(element) => Some(element),
        SetOp::Read(_) => None,
    }
}

/// What was acknowledged before the read began and is not in it.
fn missing(kind: &'static str, acked: &[&Done<SetOp>], read: &Read<'_>) -> Option<Anomaly> {
    let before = acked.iter().filter(|add| add.returned < Some(read.called));
    let missing: Vec<(i64, u64)> = before
        .filter_map(|add| Some((element(add)?, add.index)))
        .filter(|(element, _)| !read.elements.contains(element))
        .collect();
    let elements: Vec<i64> = missing.iter().map(|(element, _)| *element).collect();
    (!missing.is_empty()).then(|| Anomaly {
        kind,
        text: format!("{} acknowledged elements are not there: {}", missing.len(), some(&elements)),
        events: missing.iter().map(|(_, index)| *index).chain([read.index]).collect(),
    })
}

/// What was read and never sent, or is certain not to have been done.
fn strangers(reads: &[Read<'_>], adds: &BTreeMap<i64, &Done<SetOp>>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for read in reads {
        let of = |wanted: fn(Option<&&Done<SetOp>>) -> bool| -> Vec<i64> {
            read.elements.iter().copied().filter(|one| wanted(adds.get(one))).collect()
        };
        let unasked = of(|add| add.is_none());
        let failed = of(|add| add.is_some_and(|add| add.outcome == Outcome::Fail));
        for (kind, what, elements) in
            [("phantom", "were never added", unasked), ("resurrected", "had failed", failed)]
        {
            if !elements.is_empty() {
                let text = format!("elements that {what} are there: {}", some(&elements));
                found.push(Anomaly { kind, text, events: vec![read.index] });
            }
        }
    }
    found
}

fn twice(reads: &[Read<'_>]) -> Vec<Anomaly> {
    let doubled = reads.iter().filter(|read| read.list.len() != read.elements.len());
    let anomaly = |read: &Read<'_>| Anomaly {
        kind: "duplicate",
        text: format!("{} elements are there twice", read.list.len() - read.elements.len()),
        events: vec![read.index],
    };
    doubled.map(anomaly).collect()
}
