//! What members say of themselves, as it is shown to people, load balancers, monitoring and the doors.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use howdah_agent::board::OwnLease;
use howdah_agent::config::ProxyConfig;
use howdah_agent::fuzzing::{Seen, picture as drawn};
use howdah_agent::{cluster_config, explain, fuzzing};
use howdah_core::{Epoch, MemberName};
use howdah_proxy::route::{Picture, Write, routes};
use howdah_rpc::control::{FailoverRequest, SwitchoverRequest};
use howdah_rpc::peer::Status;
use prost::Message;

use crate::parts;
use crate::scene::{NOW, Scene};

/// Paths that are asked for, each with parameters that its answer may depend on.
const PATHS: [&str; 26] = [
    "patroni",
    "cluster",
    "history",
    "config",
    "events",
    "explain",
    "metrics",
    "failsafe",
    "",
    "primary",
    "replica",
    "read-only",
    "async",
    "sync",
    "quorum",
    "read-only-sync",
    "read-only-quorum",
    "standby-leader",
    "health",
    "liveness",
    "readiness",
    "writable",
    "switchover",
    "restart",
    "reload",
    "nonsense",
];
/// Codes that an answer may have.
const CODES: [u16; 7] = [200, 400, 404, 405, 501, 502, 503];

/// Whatever members say: every question has an answer of its form; a line stays one line; writes are led to the
/// holder of the record alone; what was decoded is encoded to the same.
pub fn picture(bytes: &[u8]) -> bool {
    let parts = parts(bytes, 5);
    for words in &parts[1..] {
        if let Ok(status) = Status::decode(*words) {
            assert_eq!(Status::decode(&*status.encode_to_vec()), Ok(status));
        }
    }
    let Some(scene) = Scene::of(&parts) else { return false };
    let json = serde_json::to_vec(&scene.state).expect("a state has a JSON form");
    assert_eq!(serde_json::from_slice(&json).ok(), Some(scene.state.clone()));
    answers(&scene);
    tells(&scene);
    leads(&scene);
    changes(&scene);
    for heard in scene.heard.values() {
        let view = fuzzing::peer(&heard.status, Duration::ZERO);
        assert_eq!(view.position.lsn.0, heard.status.receive_lsn);
    }
    true
}

fn answers(scene: &Scene) {
    let sources = scene.sources();
    let lag = BTreeMap::from([
        ("lag".to_owned(), "1MB".to_owned()),
        ("since".to_owned(), "7".to_owned()),
        ("epoch".to_owned(), scene.state.epoch().to_string()),
    ]);
    for path in PATHS {
        for query in [&BTreeMap::new(), &lag] {
            let (code, kind, body) = fuzzing::question(&sources, path, query);
            assert!(CODES.contains(&code), "{path}: {code}");
            if kind == "application/json" && !body.is_empty() {
                serde_json::from_str::<serde_json::Value>(&body).expect(path);
            }
            if path == "metrics" {
                body.lines().for_each(sample);
                assert!(body.ends_with('\n'));
            }
        }
    }
}

/// A line of Prometheus' text form: a comment, or a name, labels in quotes, and a number.
fn sample(line: &str) {
    if line.starts_with("# HELP ") || line.starts_with("# TYPE ") {
        return;
    }
    let read = || {
        let (name, rest) = line.split_once('{')?;
        let (labels, number) = rest.rsplit_once("} ")?;
        let named = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        number.parse::<f64>().ok()?;
        (named && quoted(labels)).then_some(())
    };
    assert!(read().is_some(), "no sample: {line:?}");
}

/// Whether it is `name="value",...`, no quote in a value without a backslash before it.
fn quoted(labels: &str) -> bool {
    let (mut inside, mut escaped) = (false, false);
    for c in labels.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            _ => {}
        }
    }
    !inside && labels.ends_with('"')
}

fn tells(scene: &Scene) {
    let sources = scene.sources();
    let shown = sources.cluster();
    let names: BTreeSet<&str> = shown.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names.len(), scene.state.members.len());
    assert_eq!(shown.leader.is_empty(), sources.leader().is_none_or(|name| name.0.is_empty()));
    assert!(explain::explain(&scene.state, Epoch(0)).is_some(), "the present epoch has no story");
    for event in &scene.state.events {
        assert_eq!(explain::event(event).text, event.text);
    }
    assert!(cluster_config::to_json(&scene.state)["postgresql"].is_object());
}

fn leads(scene: &Scene) {
    let mut seen = Seen::new(NOW);
    seen.take_in(scene.state.leader.as_ref(), NOW);
    let lease = OwnLease { armed: Some(scene.state.epoch()), deadline: Some(NOW) };
    for lease in [OwnLease::default(), lease] {
        let picture: Picture = drawn(&scene.sources(), &ProxyConfig::default(), lease, &seen);
        let routes = routes(&picture);
        if let Write::To(primary) = &routes.write {
            let record =
                scene.state.held().expect("somebody is led to, and nobody holds the lease");
            assert_eq!((&primary.name, primary.epoch), (&record.holder, record.epoch));
            assert!(picture.leader.as_ref().is_some_and(|leader| leader.open));
        } else {
            assert!(matches!(&routes.write, Write::Wait(why) if !why.is_empty()), "{routes:?}");
        }
        let members: BTreeSet<&MemberName> = scene.state.members.keys().collect();
        assert!(routes.read.iter().chain(&routes.any).all(|one| members.contains(&one.name)));
        for replica in [false, true] {
            let line = fuzzing::agent_check(&picture, &scene.me, replica);
            assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
        }
    }
}

/// Nobody is offered to an operator as the next leader who is none of the members, or leads already.
fn changes(scene: &Scene) {
    let sources = scene.sources();
    let members = scene.state.members.keys().take(3).map(|name| name.0.clone());
    for candidate in members.chain([String::new(), "nobody".to_owned()]) {
        let leader = scene.state.leader.as_ref().map(|record| record.holder.0.clone());
        let request = SwitchoverRequest {
            leader: leader.unwrap_or_default(),
            candidate: candidate.clone(),
            dry_run: true,
        };
        let (checks, chosen) = fuzzing::switchover(&sources, &request);
        if checks.iter().all(|check| check.met) {
            let chosen = chosen.expect("a switchover to nobody");
            assert!(scene.state.members.contains_key(&chosen), "{chosen} is no member");
            let held = scene.state.held().expect("a switchover from nobody");
            assert!(held.holder != chosen && !scene.state.fenced.contains(&chosen), "{chosen}");
        }
        let request = FailoverRequest { candidate, dry_run: true, ..FailoverRequest::default() };
        let more = fuzzing::failover(&sources, &request);
        assert!(checks.iter().chain(&more).all(|check| !check.name.is_empty()));
    }
}
