//! What came of a run: for a terminal, for machines, and as one page for people.

mod chart;
mod page;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::check::Verdict;
use crate::history::edn;
use crate::run::{Done, Outcome};

/// Writes `report.html`, `report.json`, and the histories as EDN beside their JSON.
///
/// # Errors
/// If a file cannot be written.
pub fn write(outcome: &Outcome, dir: &Path) -> Result<()> {
    let put = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    for (name, history) in outcome.histories.all() {
        put(&format!("{name}.edn"), &edn::print(history))?;
    }
    put("report.json", &serde_json::to_string_pretty(&machines(outcome))?)?;
    put("report.html", &page::page(outcome))
}

fn machines(outcome: &Outcome) -> serde_json::Value {
    let verdicts: Vec<_> = outcome
        .verdicts
        .iter()
        .map(|(name, verdict)| match verdict {
            Verdict::Good(counted) => json!({"check": name, "verdict": "good", "text": counted}),
            Verdict::Unknown(why) => json!({"check": name, "verdict": "unknown", "text": why}),
            Verdict::Bad(found) => {
                let one = |one: &crate::check::Anomaly| {
                    json!({"kind": one.kind, "text": one.text, "events": one.events})
                };
                let anomalies: Vec<_> = found.iter().map(one).collect();
                json!({"check": name, "verdict": "bad", "anomalies": anomalies})
            }
        })
        .collect();
    json!({
        "plan": outcome.plan,
        "verdicts": verdicts,
        "faults": outcome.faults,
        "errors": errors(outcome),
        "acknowledged": outcome.histories.acknowledged(),
        "versions": outcome.versions,
        "skipped": outcome.skipped,
    })
}

/// One line per checker, and one per anomaly.
pub fn verdicts(verdicts: &[(String, Verdict)]) -> String {
    let mut text = String::new();
    for (name, verdict) in verdicts {
        match verdict {
            Verdict::Good(counted) => text += &format!(" {name:<22} good     {counted}\n"),
            Verdict::Unknown(why) => text += &format!(" {name:<22} UNKNOWN  {why}\n"),
            Verdict::Bad(found) => {
                text += &format!(" {name:<22} BAD      {} anomalies\n", found.len());
                for one in found.iter().take(10) {
                    text += &format!("   {}: {} (events {:?})\n", one.kind, one.text, one.events);
                }
            }
        }
    }
    text
}

/// What a terminal shows at the end.
pub fn summary(outcome: &Outcome) -> String {
    let mut text = verdicts(&outcome.verdicts);
    text += "\n Fault                       Times  Median outage     Worst\n";
    for (fault, outages) in outages(&outcome.faults) {
        let (median, worst) = (outages[outages.len() / 2], outages[outages.len() - 1]);
        text += &format!(
            " {fault:<26}  {:>5} {:>12.3} s {:>7.3} s\n",
            outages.len(),
            median.as_secs_f64(),
            worst.as_secs_f64()
        );
    }
    for skipped in &outcome.skipped {
        text += &format!(" SKIPPED {skipped}\n");
    }
    text
}

/// What clients were told, with numbers left out, and how often; the most frequent first.
fn errors(outcome: &Outcome) -> Vec<(String, usize)> {
    let mut errors: BTreeMap<String, usize> = BTreeMap::new();
    for (_, history) in outcome.histories.all() {
        for error in history.events.iter().filter_map(|event| event.error.as_ref()) {
            *errors.entry(without_numbers(error)).or_default() += 1;
        }
    }
    let mut errors: Vec<(String, usize)> = errors.into_iter().collect();
    errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    errors
}

/// Words that hold digits are all alike, but for codes in brackets.
fn without_numbers(text: &str) -> String {
    let word = |word: &str| {
        let number = word.chars().any(|c| c.is_ascii_digit()) && !word.starts_with('(');
        if number { "...".to_owned() } else { word.to_owned() }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Outages by kind of fault, and whether it befell the leader, each sorted.
fn outages(faults: &[Done]) -> BTreeMap<String, Vec<Duration>> {
    let mut outages: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for one in faults {
        let of = if one.led { format!("{}, leader", one.fault) } else { one.fault.clone() };
        outages.entry(of).or_default().push(one.outage);
    }
    for of in outages.values_mut() {
        of.sort();
    }
    outages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_numbers_are_one() {
        assert_eq!(without_numbers("no row 17 of t (42P01)"), "no row ... of t (42P01)");
    }
}
