//! docs/cli.md, made of the definition of the command line and of the views that are printed, so that
//! the page cannot say anything else than the program. Called by a test, which compares.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};
use howdah_rpc::control::{Check, ClusterStatus, Event, Member, Progress};
use serde::Serialize;

use crate::args::{Cli, Format};
use crate::commands::config::Verdict;
use crate::commands::config::explain::View;
use crate::commands::doctor::DoctorView;
use crate::commands::dsn::DsnView;
use crate::commands::init::InitView;
use crate::commands::reload::ReloadView;
use crate::commands::version::{MemberVersion, VersionView};
use crate::output::changes::{ChangeView, EventView, ExplainView};
use crate::output::doctor::{Finding, Severity};
use crate::output::progress::ActionView;
use crate::output::render;
use crate::output::status::StatusView;

const HEAD: &str = "# The command line

Made from the program by its tests; `UPDATE_DOCS=1 cargo nextest run -p howdah-cli docs` writes it anew.

Every command works against any member, takes `-o table|json|yaml`, and ends with 0 (done), 1 (refused, or
the answer is no), 2 (error) or 64 (wrong usage or configuration). Fields of JSON documents are only ever
added. Where a person is asked, `--yes` (`--force`) answers; without a terminal it is required.

Cluster: `--endpoint HOST:PORT[,...]` (HOWDAH_ENDPOINT), else the addresses in `-c FILE` (HOWDAH_CONFIG),
else those in /etc/howdah/howdah.yml, else 127.0.0.1:7432. Certificate: `--keys DIR` (HOWDAH_KEYS), else the configuration's.
";

/// The page.
pub fn markdown() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = HEAD.to_owned();
    for command in root.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        describe(&mut text, command, "howdah");
    }
    text
}

fn describe(text: &mut String, command: &Command, above: &str) {
    let name = format!("{above} {}", command.get_name());
    let below: Vec<&Command> =
        command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help").collect();
    if !below.is_empty() {
        for command in below {
            describe(text, command, &name);
        }
        return;
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(text, "\n## {name}\n\n{about}.\n");
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let _ = writeln!(text, "```\n{usage}\n```\n");
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && !is_common(arg)) {
        let _ = writeln!(text, "- {}: {}", spelled(arg), meaning(arg));
    }
    if let Some(examples) = command.get_after_long_help() {
        let _ = writeln!(text, "\n```\n{examples}\n```");
    }
    if let Some((words, sample)) = sample(&name) {
        let _ = writeln!(text, "\n{words}\n\n```json\n{}\n```", sample.trim_end());
    }
}

fn is_common(arg: &Arg) -> bool {
    arg.is_global_set() || matches!(arg.get_id().as_str(), "help" | "version")
}

fn spelled(arg: &Arg) -> String {
    let mut words: Vec<String> = Vec::new();
    if let Some(short) = arg.get_short() {
        words.push(format!("`-{short}`"));
    }
    if let Some(long) = arg.get_long() {
        words.push(format!("`--{long}`"));
    }
    words.extend(arg.get_visible_aliases().unwrap_or_default().iter().map(|a| format!("`--{a}`")));
    if words.is_empty() {
        return format!("`{}`", arg.get_id().as_str().to_uppercase());
    }
    words.join(", ")
}

fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| value.get_name().to_owned())
        .collect();
    if !values.is_empty() && arg.get_action().takes_values() {
        let _ = write!(text, " ({})", values.join(", "));
    }
    text
}

fn json<T: Serialize>(value: &T) -> String {
    render(Format::Json, value, String::new).unwrap_or_default()
}

/// A document that the command prints with `-o json`.
fn sample(name: &str) -> Option<(&'static str, String)> {
    let one = "With `-o json` one document:";
    let watched = "With `-o json` one document; with `-W` and `-w` one per line:";
    let change = howdah_rpc::control::Change::default();
    Some(match name {
        "howdah init" => (one, json(&InitView::example())),
        "howdah list" | "howdah topology" => {
            let status = ClusterStatus { members: vec![Member::default()], ..Default::default() };
            (watched, json(&StatusView::from(&status)))
        }
        "howdah history" => (one, json(&[ChangeView::from(&change)])),
        "howdah explain" => {
            let answer = howdah_rpc::control::ExplainResponse {
                change: Some(change),
                lines: vec!["n2 leads since epoch 2 ...".into()],
            };
            (one, json(&ExplainView::from(&answer)))
        }
        "howdah events" => {
            let event = EventView::from(&Event::default());
            ("With `-o json` one document per line:", json(&event))
        }
        "howdah switchover" | "howdah failover" | "howdah reinit" | "howdah pause"
        | "howdah resume" | "howdah fence" | "howdah unfence" | "howdah restart" => {
            (one, json(&action()))
        }
        "howdah reload" => {
            let view = ReloadView { member: "n1".into(), done: true, ..Default::default() };
            (one, json(&[view]))
        }
        "howdah config check" => (one, json(&Verdict::example())),
        "howdah config explain" => (one, json(&View::example()?)),
        "howdah show-config" => (
            "With `-o json` one document, the same as REST's /config; docs/configuration.md lists the keys:",
            "{\n  \"ttl\": 5,\n  \"maximum_lag_on_failover\": 1048576,\n  \"postgresql\": {}\n}"
                .to_owned(),
        ),
        "howdah dsn" => (one, json(&DsnView { dsn: "host=10.0.0.1,10.0.0.2 ...".into() })),
        "howdah doctor" => {
            let finding = Finding {
                severity: Severity::Warning,
                member: "n3".into(),
                what: "is fenced: its PostgreSQL stays stopped".into(),
                remedy: "`howdah unfence` lets it run".into(),
            };
            (one, json(&DoctorView { healthy: false, findings: vec![finding] }))
        }
        "howdah version" => {
            let member = MemberVersion { name: "n1".into(), postgresql: Some("15.18".into()) };
            let view = VersionView {
                howdah: "0.1.0",
                protocols: ["howdah.control.v1", "howdah.peer.v1", "howdah.raft.v1"],
                members: Some(vec![member]),
            };
            (one, json(&view))
        }
        _ => return None,
    })
}

fn action() -> ActionView {
    let mut view = ActionView::new(false);
    view.add(&Progress { text: "n1 is to hand over to n2".into(), ..Default::default() });
    view.add(&Progress {
        text: "n2 leads with epoch 2".into(),
        finished: true,
        done: true,
        leader: "n2".into(),
        checks: vec![Check { name: "there is a leader".into(), met: true, detail: "n1".into() }],
        ..Default::default()
    });
    view
}
