//! Three idle members of howdah: its own demo, release build.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use howdah_benches::demo::{self, Demo};
use howdah_benches::process::{self, Groups};
use serde_json::Value;

use crate::{Node, SETTLE};

pub(crate) fn measure(time: Duration) -> Result<Vec<Node>> {
    let demo = Demo::start(&[])?;
    std::thread::sleep(SETTLE);
    let table = demo::table();
    let mut groups: Groups<(String, &'static str)> = Groups::new();
    let mut logs = Vec::new();
    for member in demo.members(&table)? {
        let name = member.name;
        groups.insert((name.clone(), "agent"), vec![member.agent]);
        groups.insert((name.clone(), "guard"), vec![member.guard]);
        groups.insert((name.clone(), "postgres"), process::tree(&table, member.postmaster));
        logs.push((name, member.log));
    }
    let before = logs.iter().map(|(_, log)| lines(log)).collect::<Result<Vec<_>>>()?;
    let usage = process::watch(&groups, time)?;
    let roles = roles(&demo)?;
    let mut nodes = Vec::new();
    for ((name, log), before) in logs.iter().zip(before) {
        let of = |part: &'static str| usage.get(&(name.clone(), part)).copied().unwrap_or_default();
        let written = lines(log)?.saturating_sub(before);
        nodes.push(Node {
            role: roles.get(name).cloned().unwrap_or_default(),
            name: name.clone(),
            parts: vec![("agent", of("agent")), ("guard", of("guard"))],
            postgres: of("postgres"),
            log_lines_per_minute: Some(written as f64 / time.as_secs_f64() * 60.0),
        });
    }
    Ok(nodes)
}

/// Lines of a member's log, which is at INFO. PostgreSQL's own lies in its data directory.
fn lines(log: &PathBuf) -> Result<usize> {
    let text = std::fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    Ok(text.lines().count())
}

/// Who is what by now.
fn roles(demo: &Demo) -> Result<BTreeMap<String, String>> {
    let status = demo.ask(&["list"])?;
    let members = status["members"].as_array().context("howdah list printed no members")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(members.iter().map(|member| (text(&member["name"]), text(&member["role"]))).collect())
}
