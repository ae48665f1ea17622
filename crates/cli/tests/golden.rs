//! Golden tests of what is printed: fixed answers of a cluster, and the exact tables, JSON and YAML
//! that come of them, in `golden/`.
//!
//! `UPDATE_GOLDENFILES=1` writes the expected files anew; read the difference before keeping it.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::path::Path;

use howdah_cli::args::Format;
use howdah_cli::output::changes::{self, ChangeView, ExplainView};
use howdah_cli::output::progress;
use howdah_cli::output::status::{self, StatusView};
use howdah_cli::output::{bytes, lsn, render, time};
use howdah_rpc::control::{
    Ballot, Change, Check, ClusterStatus, Event, ExplainResponse, Member, PendingSwitchover,
};

fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{name}: UPDATE_GOLDENFILES=1 writes it anew");
}

fn replica(name: &str, port: u16) -> Member {
    Member {
        name: name.to_owned(),
        host: format!("127.0.0.1:{port}"),
        role: "Replica".to_owned(),
        state: "streaming".to_owned(),
        timeline: 1,
        receive_lsn: 0x300_0148,
        replay_lsn: 0x300_0148,
        lag_known: true,
        reason: format!("follows n1; {name} has all of it"),
        ..Member::default()
    }
}

fn healthy() -> ClusterStatus {
    let leader = Member {
        role: "Leader".to_owned(),
        state: "running".to_owned(),
        reason: "holds the lease of epoch 1".to_owned(),
        postmaster_start_ms: 1_750_000_000_000,
        server_version: 150_018,
        ..replica("n1", 5501)
    };
    ClusterStatus {
        scope: "demo".to_owned(),
        system_identifier: 7_512_345_678_901_234_567,
        epoch: 1,
        timeline: 1,
        raft_leader: "n2".to_owned(),
        quorum_reached: 3,
        quorum_size: 3,
        quorum: true,
        leader: "n1".to_owned(),
        lease: "held".to_owned(),
        ttl_ms: 5000,
        answered_by: "n3".to_owned(),
        members: vec![leader, replica("n2", 5502), replica("n3", 5503)],
        synchronous_mode: "off".to_owned(),
        ..ClusterStatus::default()
    }
}

/// No quorum, an election, a clone at work, one member far behind, one that nobody hears.
fn troubled() -> ClusterStatus {
    let mut status = healthy();
    status.quorum = false;
    status.quorum_reached = 1;
    status.raft_leader = String::new();
    status.leader = String::new();
    status.open_election = 2;
    status.paused = true;
    status.not_writable_because = "no member holds the lease".to_owned();
    let pending = PendingSwitchover { from: "n1".to_owned(), to: "n2".to_owned() };
    status.switchover = Some(pending);
    let [first, second, third] = &mut status.members[..] else { panic!("three members") };
    first.role = "Replica".to_owned();
    first.state = "unreachable".to_owned();
    first.lag_known = false;
    (first.receive_lsn, first.replay_lsn) = (0, 0);
    second.state = "creating replica".to_owned();
    second.in_progress = true;
    second.progress_percent = 40;
    second.timeline = 0;
    third.receive_lag_bytes = 12 * 1024 * 1024 + 5;
    third.replay_lag_bytes = 1024 * 1024 - 1;
    status
}

#[test]
fn list_shows_a_healthy_and_a_troubled_cluster() {
    golden("list.txt", &status::list(&healthy(), false));
    golden("list-verbose.txt", &status::list(&healthy(), true));
    golden("list-troubled.txt", &status::list(&troubled(), false));
    golden("topology.txt", &status::topology(&healthy(), false));
    let unborn = ClusterStatus { scope: "demo".to_owned(), ..ClusterStatus::default() };
    golden("list-unborn.txt", &status::list(&unborn, false));
}

#[test]
fn programs_get_the_same_facts() {
    for (name, cluster) in [("list", healthy()), ("list-troubled", troubled())] {
        let view = StatusView::from(&cluster);
        let json = render(Format::Json, &view, String::new).unwrap();
        golden(&format!("{name}.json"), &json);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["members"].as_array().map(Vec::len), Some(3));
        golden(&format!("{name}.yaml"), &render(Format::Yaml, &view, String::new).unwrap());
    }
}

fn changes() -> Vec<Change> {
    let bootstrap = Change {
        epoch: 1,
        kind: "bootstrap".to_owned(),
        to: "n1".to_owned(),
        at_ms: 1_750_000_000_000,
        timeline: 1,
        reason: "first to ask".to_owned(),
        ..Change::default()
    };
    let ballot = |member: &str, lsn, chosen, verdict: &str| Ballot {
        member: member.to_owned(),
        timeline: 1,
        lsn,
        eligible: true,
        priority: 1,
        chosen,
        verdict: verdict.to_owned(),
    };
    let election = Change {
        epoch: 2,
        kind: "election".to_owned(),
        from: "n1".to_owned(),
        to: "n2".to_owned(),
        at_ms: 1_750_000_100_500,
        timeline: 2,
        fork_lsn: 0x16_B374_D848,
        reason: "the lease of n1 ran out".to_owned(),
        ballots: vec![
            ballot("n2", 0x300_0148, true, "reaches the bar"),
            ballot("n3", 0x300_0100, false, "72 bytes short of n2"),
        ],
        waited_ms: 1000,
        not_heard: vec!["n1".to_owned()],
        bar: "0/3000148 on timeline 1".to_owned(),
        loss: String::new(),
    };
    vec![bootstrap, election]
}

#[test]
fn history_and_explain_tell_who_led_and_why() {
    let changes = changes();
    golden("history.txt", &changes::history(&changes));
    let views: Vec<ChangeView> = changes.iter().map(ChangeView::from).collect();
    golden("history.json", &render(Format::Json, &views, String::new).unwrap());
    let lines = vec!["n2 leads since epoch 2.".to_owned(), "The lease of n1 ran out.".to_owned()];
    let answer = ExplainResponse { change: changes.into_iter().nth(1), lines };
    golden("explain.txt", &changes::explain(&answer));
    let view = ExplainView::from(&answer);
    golden("explain.yaml", &render(Format::Yaml, &view, String::new).unwrap());
}

#[test]
fn events_and_preconditions_are_lines() {
    let event = Event {
        index: 42,
        at_ms: 1_750_000_000_123,
        kind: "election-opened".to_owned(),
        text: "the election of epoch 2 is open".to_owned(),
        epoch: 2,
        member: "n2".to_owned(),
    };
    golden("event.txt", &changes::event(&event));
    let check = |name: &str, met| Check {
        name: name.to_owned(),
        met,
        detail: "n2 streams, 0 bytes behind".to_owned(),
    };
    let checks = [check("a candidate streams", true), check("the cluster is not paused", false)];
    golden("checks.txt", &progress::checks(&checks));
}

#[test]
fn small_numbers_stay_exact_and_unknown_ones_stay_empty() {
    assert_eq!(bytes(0), "0");
    assert_eq!(bytes(1_048_575), "1048575");
    assert_eq!(bytes(1_048_576), "1 MB");
    assert_eq!(lsn(0), "");
    assert_eq!(lsn(0x16_B374_D848), "16/B374D848");
    assert_eq!(time(0), "");
    assert_eq!(time(u64::MAX), "");
}
