//! Every path and parameter in every role, against a written table; and wrong bodies.

use std::collections::BTreeMap;
use std::time::Duration;

use howdah_consensus::RaftStatus;
use howdah_core::sync::choose::Mode;
use howdah_core::sync::{Pair, Standby};
use howdah_core::{
    BootInstant, Bootstrap, ClusterState, DataId, Epoch, LeaderRecord, LeaseState, Member,
    MemberName, SyncRecord, SyncState,
};
use howdah_rpc::peer::Status;
use serde_json::Value;

use super::answer::Answer;
use super::body::Fields;
use super::look;
use crate::board::Heard;
use crate::counters::Counters;
use crate::status::Sources;

/// What a member is, for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Leader,
    Barred,
    Replica,
    Lagging,
    Cloning,
    Stopped,
    Paused,
    NoLeader,
    SyncStandby,
    QuorumStandby,
}

const ROLES: [Role; 10] = [
    Role::Leader,
    Role::Barred,
    Role::Replica,
    Role::Lagging,
    Role::Cloning,
    Role::Stopped,
    Role::Paused,
    Role::NoLeader,
    Role::SyncStandby,
    Role::QuorumStandby,
];

fn state(role: Role) -> ClusterState {
    let mut state = ClusterState {
        scope: "demo".into(),
        bootstrap: Bootstrap::Done { system_identifier: 7 },
        ..ClusterState::default()
    };
    for name in ["n1", "n2"] {
        let mut member = Member { postgres_address: "10.0.0.1:5432".into(), ..Member::default() };
        member.tags.other.insert("zone".into(), "a".into());
        state.members.insert(name.into(), member);
    }
    let waited_for = match role {
        Role::SyncStandby => Some(Mode::On),
        Role::QuorumStandby => Some(Mode::Quorum),
        _ => None,
    };
    if let Some(mode) = waited_for {
        let standby = |name: &str| Standby { member: name.into(), data_id: DataId(5) };
        state.settings.synchronous_mode = mode;
        state.sync = SyncState::Sync(SyncRecord {
            epoch: Epoch(3),
            whole: [standby("n2")].into(),
            generation: 1,
            pair: Pair { votes: 1, voters: [standby("n1")].into() },
        });
    }
    let holder =
        if matches!(role, Role::Leader | Role::Barred | Role::Paused) { "n1" } else { "n2" };
    state.leader = Some(LeaderRecord {
        holder: holder.into(),
        epoch: Epoch(3),
        ttl_ms: 5000,
        paused: role == Role::Paused,
        state: if role == Role::NoLeader { LeaseState::Released } else { LeaseState::Held },
        ..LeaderRecord::default()
    });
    state
}

fn own(role: Role) -> Status {
    let leads = matches!(role, Role::Leader | Role::Barred | Role::Paused);
    let running = !matches!(role, Role::Cloning | Role::Stopped);
    let replicates = matches!(role, Role::Replica | Role::SyncStandby | Role::QuorumStandby);
    let streams = replicates || role == Role::Lagging;
    Status {
        member: "n1".into(),
        state: match role {
            Role::Cloning => "creating replica",
            Role::Stopped => "stopped",
            _ if streams => "streaming",
            _ => "running",
        }
        .into(),
        running,
        in_recovery: !leads,
        open_for_clients: running && role != Role::Barred,
        streaming_epoch: if streams { 3 } else { 0 },
        replication_state: match role {
            _ if streams => "streaming".into(),
            Role::NoLeader => "in archive recovery".into(),
            _ => String::new(),
        },
        receive_lsn: 0x900_0000,
        replay_lsn: if role == Role::Lagging { 0x100_0000 } else { 0x900_0000 },
        timeline: 3,
        quorum: true,
        data_id: 5,
        ..Status::default()
    }
}

fn ask(role: Role, target: &str, turned: Duration) -> Answer {
    let (state, own, me) = (state(role), own(role), MemberName::from("n1"));
    let mut heard = BTreeMap::new();
    let peer = Status {
        state: "running".into(),
        running: true,
        in_recovery: false,
        open_for_clients: true,
        receive_lsn: 0x900_0000,
        ..Status::default()
    };
    heard.insert("n2".into(), Heard { status: peer, at: BootInstant(1) });
    let raft = RaftStatus { quorum: true, ..RaftStatus::default() };
    let counters = Counters::default();
    let sources = Sources {
        state: &state,
        me: &me,
        own: &own,
        heard: &heard,
        raft: &raft,
        counters: &counters,
        turned,
        now: BootInstant(2),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    look(&sources, path.trim_matches('/'), &query)
}

/// The table of docs/rest.md: path, then the code in each role, in the order of `ROLES`.
fn table() -> Vec<(&'static str, Vec<u16>)> {
    let page = include_str!("../../../../docs/rest.md");
    let lines = page.lines().skip_while(|line| !line.starts_with("```table")).skip(2);
    lines
        .take_while(|line| !line.starts_with("```"))
        .map(|line| {
            let mut words = line.split_whitespace();
            let target = words.next().unwrap();
            (target, words.map(|code| code.parse().unwrap()).collect())
        })
        .collect()
}

#[test]
fn every_path_answers_in_every_role_as_the_table_says() {
    let mut wrong = Vec::new();
    assert!(table().len() > 40, "the table was not found");
    for (target, codes) in table() {
        assert_eq!(codes.len(), ROLES.len(), "{target}");
        for (role, wanted) in ROLES.iter().zip(codes) {
            let answer = ask(*role, target, Duration::ZERO);
            if answer.code != wanted {
                wrong.push(format!("{target} as {role:?}: {} instead of {wanted}", answer.code));
            }
            if answer.kind == "application/json" && !answer.body.is_empty() {
                let body: Value = serde_json::from_str(&answer.body).unwrap();
                let told = matches!(wanted, 400 | 404 | 405 | 502);
                assert!(!told || body["error"].is_string(), "{target}: {body}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_shapes_are_patronis() {
    let json = |role, path| -> Value {
        serde_json::from_str(&ask(role, path, Duration::ZERO).body).unwrap()
    };
    let leader = json(Role::Leader, "/patroni");
    assert_eq!((&leader["role"], &leader["state"]), (&"primary".into(), &"running".into()));
    assert_eq!(leader["xlog"]["location"], 0x900_0000);
    assert_eq!(leader["database_system_identifier"], "0");
    for key in ["server_version", "timeline", "patroni", "tags", "postmaster_start_time"] {
        assert!(!leader[key].is_null(), "{key}: {leader}");
    }
    let replica = json(Role::Replica, "/patroni");
    assert_eq!((&replica["role"], &replica["state"]), (&"replica".into(), &"running".into()));
    assert_eq!(replica["xlog"]["received_location"], 0x900_0000);
    assert_eq!(replica["replication_state"], "streaming");
    assert_eq!(json(Role::Paused, "/patroni")["pause"], true);
    assert_eq!(json(Role::NoLeader, "/patroni")["cluster_unlocked"], true);
    assert_eq!(json(Role::Cloning, "/patroni")["state"], "creating replica");
    let cluster = json(Role::Lagging, "/cluster");
    assert_eq!(cluster["scope"], "demo");
    let members = cluster["members"].as_array().unwrap();
    assert_eq!((&members[0]["role"], &members[1]["role"]), (&"replica".into(), &"leader".into()));
    assert_eq!((&members[0]["host"], &members[0]["port"]), (&"10.0.0.1".into(), &5432.into()));
    assert_eq!(members[0]["lag"], 0x800_0000);
    assert!(members[1]["lag"].is_null(), "a leader has no lag: {cluster}");
    assert_eq!(json(Role::Replica, "/config")["maximum_lag_on_failover"], 1_048_576);
    assert_eq!(json(Role::Barred, "/writable")["writable"], false);
}

#[test]
fn a_loop_that_stands_still_is_not_alive() {
    for (role, seconds, code) in [
        (Role::Leader, 4, 200),
        (Role::Leader, 6, 503),
        (Role::Replica, 9, 200),
        (Role::Replica, 11, 503),
        (Role::Paused, 60, 200),
    ] {
        let answer = ask(role, "/liveness", Duration::from_secs(seconds));
        assert_eq!(answer.code, code, "{role:?} after {seconds} s");
    }
}

#[test]
fn metrics_are_those_that_the_documentation_names() {
    let page = ask(Role::Replica, "/metrics", Duration::ZERO).body;
    let told = include_str!("../../../../docs/metrics.md");
    let named: Vec<&str> =
        told.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let given: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for metric in &given {
        assert!(named.contains(metric), "docs/metrics.md does not name {metric}");
        assert!(page.contains(&format!("# HELP {metric} ")), "{metric} has no help");
    }
    for metric in &named {
        assert!(given.contains(metric), "{metric} is not given");
    }
    assert!(page.contains("patroni_replica{scope=\"demo\",name=\"n1\"} 1"), "{page}");
}

/// Wrong bodies, the code, and what the answer must name.
const WRONG: [(&str, u16, &str); 28] = [
    ("{", 400, "no JSON"),
    ("nonsense", 400, "no JSON"),
    ("[]", 400, "no JSON object"),
    ("7", 400, "no JSON object"),
    ("null", 400, "no JSON object"),
    ("\"text\"", 400, "no JSON object"),
    ("{\"leader\"}", 400, "no JSON"),
    ("{'leader': 'n1'}", 400, "no JSON"),
    ("{\"leader\": \"n1\",}", 400, "no JSON"),
    ("\u{0}", 400, "no JSON"),
    ("{\"text\": 7}", 422, "text"),
    ("{\"text\": [\"n1\"]}", 422, "text"),
    ("{\"text\": {}}", 422, "text"),
    ("{\"text\": true}", 422, "text"),
    ("{\"flag\": \"yes\"}", 422, "flag"),
    ("{\"flag\": 1}", 422, "flag"),
    ("{\"flag\": []}", 422, "flag"),
    ("{\"span\": \"soon\"}", 422, "span"),
    ("{\"span\": -1}", 422, "span"),
    ("{\"span\": 1e300}", 422, "span"),
    ("{\"span\": \"99999999999999999999s\"}", 422, "span"),
    ("{\"span\": \"10 parsecs\"}", 422, "span"),
    ("{\"span\": true}", 422, "span"),
    ("{\"later\": \"2026-01-01T00:00:00Z\"}", 501, "later"),
    ("{\"later\": 7}", 501, "later"),
    ("{\"laeder\": \"n1\"}", 422, "laeder"),
    ("{\"\": 1}", 422, "field"),
    ("{\"text\": \"a\", \"more\": null}", 422, "more"),
];

#[test]
fn wrong_bodies_get_an_answer_that_names_the_place() {
    let read = |body: &str| -> Result<(), Answer> {
        let mut fields = Fields::read(body.as_bytes())?;
        fields.text("text")?;
        fields.flag("flag")?;
        fields.milliseconds("span")?;
        fields.not_yet("later")?;
        fields.end()
    };
    for (body, code, names) in WRONG {
        let answer = read(body).expect_err(body);
        assert_eq!(answer.code, code, "{body}: {}", answer.body);
        assert!(answer.body.contains(names), "{body}: {}", answer.body);
        assert!(answer.body.contains("remedy"), "{body}: {}", answer.body);
    }
    for good in ["", " \n", "{}", "{\"text\": null, \"span\": 1.5}", "{\"span\": \"2min\"}"] {
        assert_eq!(read(good), Ok(()), "{good}");
    }
}
