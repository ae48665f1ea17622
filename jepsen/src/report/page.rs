//! The page: one file, without anything from elsewhere.

use std::fmt::Write;

use super::chart::{chart, colours};
use super::{errors, outages};
use crate::check::Verdict;
use crate::run::Outcome;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;\
padding:0 1rem;color:#1a1a1a;background:#fff}h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;\
margin:2rem 0 .5rem}.chart{overflow-x:auto;border:1px solid #ddd}svg text{font:11px system-ui;\
fill:#555}.acks{fill:none;stroke:#222;stroke-width:1}.grid{stroke:#ddd}.fault{fill:#999;opacity:.25}\
.fault.led{fill:#d55e00;opacity:.35}table{border-collapse:collapse;width:100%}td,th{text-align:left;\
padding:.25rem .75rem .25rem 0;border-bottom:1px solid #eee;vertical-align:top}td.n,th.n{text-align:\
right;font-variant-numeric:tabular-nums}.good{color:#00734f}.bad{color:#b00020;font-weight:600}\
.unknown{color:#8a5a00;font-weight:600}.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em \
0 1em}code{font-size:.9em}@media(prefers-color-scheme:dark){body{background:#16181b;color:#e4e4e4}\
.acks{stroke:#e4e4e4}svg text{fill:#aaa}.grid{stroke:#333}.chart,td,th{border-color:#333}.good{color:\
#4cc38a}.bad{color:#ff6369}.unknown{color:#f1a10d}}";

/// Text as it may stand in HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub(super) fn page(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Storm on {system}, seed {seed}</title><style>{STYLE}</style>\
         <h1>{headline}</h1><p>{versions}: {members} members, synchronous_mode {mode}, \
         {minutes:.0} minutes of faults. Again: <code>make storm MINUTES={minutes:.0} MODE={mode} \
         SEED={seed} AGAINST={system}</code></p>",
        system = escaped(&plan.against),
        versions = escaped(&outcome.versions),
        seed = plan.seed,
        headline = headline(outcome),
        members = plan.members,
        mode = escaped(&plan.mode),
        minutes = plan.length.as_secs_f64() / 60.0,
    );
    html += "<h2>What the checkers say</h2>";
    html += &verdicts(outcome);
    html += "<h2>Acknowledgements a second</h2><p>";
    for (node, colour) in colours(outcome) {
        let _ = write!(html, "<span class=\"key\" style=\"background:{colour}\"></span>{node}");
    }
    html += " acknowledged most in that second; above it each new timeline; shaded: from a fault until the \
             cluster was whole again, red where it befell the leader. Point at a band to read what it was.</p>";
    let _ = write!(html, "<div class=\"chart\">{}</div>", chart(outcome));
    html += "<h2>Outages</h2>";
    html += &outage_table(outcome);
    html += "<h2>What clients were told</h2><table>";
    for (error, count) in errors(outcome) {
        let _ = write!(html, "<tr><td class=\"n\">{count}</td><td>{}</td></tr>", escaped(&error));
    }
    html += "</table><h2>Faults</h2>";
    html += &fault_table(outcome);
    html
}

fn headline(outcome: &Outcome) -> String {
    let bad: usize = outcome
        .verdicts
        .iter()
        .map(|(_, verdict)| if let Verdict::Bad(found) = verdict { found.len() } else { 0 })
        .sum();
    let unknown = outcome.verdicts.iter().any(|(_, one)| matches!(one, Verdict::Unknown(_)));
    let faults = outcome.faults.len();
    match (bad, unknown) {
        (0, false) => {
            format!("<span class=\"good\">{faults} faults, everything is explained</span>")
        }
        (0, true) => {
            format!("<span class=\"unknown\">{faults} faults; not all could be judged</span>")
        }
        _ => format!("<span class=\"bad\">{faults} faults, {bad} anomalies</span>"),
    }
}

fn verdicts(outcome: &Outcome) -> String {
    let mut html = "<table>".to_owned();
    for (name, verdict) in &outcome.verdicts {
        let (class, word, text) = match verdict {
            Verdict::Good(counted) => ("good", "good", escaped(counted)),
            Verdict::Unknown(why) => ("unknown", "unknown", escaped(why)),
            Verdict::Bad(found) => {
                let one = |one: &crate::check::Anomaly| {
                    let events = if one.events.is_empty() {
                        String::new()
                    } else {
                        format!(" <small>events {:?}</small>", one.events)
                    };
                    format!("<b>{}</b>: {}{events}", one.kind, escaped(&one.text))
                };
                let told: Vec<String> = found.iter().take(50).map(one).collect();
                ("bad", "bad", told.join("<br>"))
            }
        };
        let _ = write!(
            html,
            "<tr><td>{}</td><td class=\"{class}\">{word}</td><td>{text}</td></tr>",
            escaped(name)
        );
    }
    html + "</table>"
}

fn outage_table(outcome: &Outcome) -> String {
    let mut html = "<table><tr><th>Fault</th><th class=\"n\">times</th><th class=\"n\">median</th>\
                    <th class=\"n\">worst</th><th>each</th></tr>"
        .to_owned();
    let outages = outages(&outcome.faults);
    let most = outages.values().flatten().max().map_or(1.0, |most| most.as_secs_f64().max(0.001));
    for (fault, outages) in &outages {
        let mut dots = "<svg width=\"300\" height=\"14\">".to_owned();
        for outage in outages {
            let x = 4.0 + outage.as_secs_f64() / most * 290.0;
            let _ = write!(
                dots,
                "<circle cx=\"{x:.1}\" cy=\"7\" r=\"3.5\" fill=\"#0072b2\" \
                                  opacity=\".5\"/>"
            );
        }
        let (median, worst) = (outages[outages.len() / 2], outages[outages.len() - 1]);
        let _ = write!(
            html,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{:.3} s</td>\
             <td class=\"n\">{:.3} s</td><td>{dots}</svg></td></tr>",
            escaped(fault),
            outages.len(),
            median.as_secs_f64(),
            worst.as_secs_f64()
        );
    }
    html + "</table>"
}

fn fault_table(outcome: &Outcome) -> String {
    let mut html = "<table><tr><th class=\"n\">at</th><th>Fault</th><th>of</th><th>beside</th>\
                    <th class=\"n\">whole again after</th><th class=\"n\">outage</th></tr>"
        .to_owned();
    for one in &outcome.faults {
        let _ = write!(
            html,
            "<tr><td class=\"n\">{:.1} s</td><td>{}</td><td>{}{}</td><td>{}</td><td class=\"n\">{:.1} s</td>\
             <td class=\"n\">{:.3} s</td></tr>",
            one.from as f64 / 1e9,
            escaped(&one.fault),
            escaped(&one.member),
            if one.led { ", who led" } else { "" },
            escaped(one.beside.as_deref().unwrap_or_default()),
            (one.to - one.from) as f64 / 1e9,
            one.outage.as_secs_f64()
        );
    }
    html += "</table>";
    for skipped in &outcome.skipped {
        let _ = write!(html, "<p class=\"unknown\">SKIPPED {}</p>", escaped(skipped));
    }
    html
}
