//! The rendered configuration files, compared with golden ones. After a wanted change run with
//! UPDATE_GOLDENFILES=1 and read the difference.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use howdah_core::{DataId, MemberName, Timeline};
use howdah_postgres::args::postmaster_args;
use howdah_postgres::hba::{HbaMode, render_hba, render_ident};
use howdah_postgres::settings::{
    Dynamic, Follow, PgSettings, RoleNames, SettingsError, TargetTimeline, Upstream,
    application_name, render_conf,
};

fn settings() -> PgSettings {
    PgSettings {
        data_dir: "/pg/main".into(),
        listen: "0.0.0.0".into(),
        port: 5432,
        socket_dir: "/pg/socket".into(),
        cluster_name: "demo".into(),
        major: 15,
        parameters: BTreeMap::new(),
        hba: Vec::new(),
        ident: Vec::new(),
        members: vec!["10.0.0.1".into(), "pg-2.example.org".into(), "fe80::3".into()],
        roles: RoleNames {
            superuser: "postgres".into(),
            replication: "replicator".into(),
            rewind: "rewinder".into(),
        },
        os_user: "postgres".into(),
        tls: None,
    }
}

fn follow() -> Dynamic {
    let follow = Follow {
        host: "10.0.0.1".into(),
        port: 5432,
        application_name: application_name(&MemberName::from("n2"), DataId(0xfeed)).unwrap(),
        slot: Some("howdah_n2".into()),
        user: "replicator".into(),
        passfile: Some(PathBuf::from("/pg/it's here/main.pgpass")),
        tls: None,
    };
    Dynamic::follow(follow, Some("howdah restore %f %p".into()))
}

fn parameters(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Compares with the file of this name; rewrites it when asked to.
fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDENFILES").is_some_and(|v| v == "1") {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; run with UPDATE_GOLDENFILES=1", path.display()));
    assert_eq!(actual, expected, "{name} changed; if that is wanted: UPDATE_GOLDENFILES=1");
}

#[test]
fn conf_isolated() {
    let rendered = render_conf(&settings(), &Dynamic::isolated()).unwrap();
    assert_eq!(rendered.warnings, [""; 0]);
    golden("isolated.conf", &rendered.text);
}

fn tls() -> Option<howdah_locks::Paths> {
    let at = |name: &str| PathBuf::from("/etc/howdah/tls").join(name);
    Some(howdah_locks::Paths { ca: at("ca.crt"), cert: at("tls.crt"), key: at("tls.key") })
}

#[test]
fn with_certificates_members_know_each_other() {
    let Upstream::Follow(follow) = follow().upstream else { panic!("it follows") };
    let now = Dynamic::follow(Follow { tls: tls(), ..follow }, None);
    for major in [14, 15] {
        let settings = PgSettings { tls: tls(), major, ..settings() };
        golden(&format!("tls-{major}.conf"), &render_conf(&settings, &now).unwrap().text);
    }
    let settings = PgSettings { tls: tls(), ..settings() };
    golden("tls_hba.conf", &render_hba(HbaMode::Barred, &settings).unwrap());
}

#[test]
fn conf_of_each_version() {
    for major in 14..=18 {
        let settings = PgSettings { major, ..settings() };
        let rendered = render_conf(&settings, &follow()).unwrap();
        assert_eq!(rendered.warnings, [""; 0]);
        golden(&format!("follow-{major}.conf"), &rendered.text);
    }
}

#[test]
fn conf_follow_with_parameters_of_the_user() {
    let mut settings = settings();
    settings.major = 17;
    settings.parameters = parameters(&[
        ("shared_buffers", "1GB"),
        ("Work_Mem", "it's 4MB \\"),
        ("wal_level", "logical"),
        ("max_wal_senders", "3"),
        ("max_replication_slots", "40"),
        ("wal_sender_timeout", "30s"),
        ("fsync", "off"),
        ("restart_after_crash", "off"),
        ("synchronous_standby_names", "*"),
    ]);
    let rendered = render_conf(&settings, &follow()).unwrap();
    let warnings: String = rendered.warnings.iter().map(|w| format!("warning: {w}\n")).collect();
    golden("follow.conf", &format!("{}\n{warnings}", rendered.text));
}

#[test]
fn conf_of_a_numbered_timeline_with_sync() {
    let now = Dynamic {
        target: TargetTimeline::Number(Timeline(7)),
        synchronous_standby_names: "ANY 1 (\"n2-000000000000feed\")".into(),
        restore_command: Some("never used while isolated".into()),
        ..Dynamic::default()
    };
    let text = render_conf(&settings(), &now).unwrap().text;
    assert!(text.contains("recovery_target_timeline = '7'\n"));
    assert!(text.contains("synchronous_standby_names = 'ANY 1 (\"n2-000000000000feed\")'\n"));
    assert!(text.contains("restore_command = ''\n"), "an isolated server must read no archive");
}

#[test]
fn hba_in_each_mode() {
    let mut settings = settings();
    golden("shut_hba.conf", &render_hba(HbaMode::Shut, &settings).unwrap());
    golden("barred_hba.conf", &render_hba(HbaMode::Barred, &settings).unwrap());
    golden("open_default_hba.conf", &render_hba(HbaMode::Open, &settings).unwrap());
    settings.hba = vec!["hostssl all all 0.0.0.0/0 scram-sha-256".into(), "# mine".into()];
    golden("open_hba.conf", &render_hba(HbaMode::Open, &settings).unwrap());
    let closed = render_hba(HbaMode::Barred, &settings).unwrap();
    assert!(!closed.contains("hostssl"), "a closed file must not admit the user's clients");
}

#[test]
fn ident_and_arguments() {
    let mut settings = settings();
    settings.ident = vec!["mymap alice bob".into()];
    golden("ident.conf", &render_ident(&settings).unwrap());
    golden("arguments.txt", &(postmaster_args(&settings).join("\n") + "\n"));
}

#[test]
fn what_cannot_be_written_safely_is_refused() {
    type Change = fn(&mut PgSettings);
    let changes: [(&str, Change); 10] = [
        ("value", |s| s.parameters = parameters(&[("work_mem", "1\nfsync = off")])),
        ("name", |s| s.parameters = parameters(&[("fsync = off #", "1")])),
        ("socket path", |s| s.socket_dir = format!("/{}", "x".repeat(99)).into()),
        ("relative path", |s| s.socket_dir = "socket".into()),
        ("cluster", |s| s.cluster_name = "a\nb".into()),
        ("role", |s| s.roles.rewind = "x\" trust".into()),
        ("group role", |s| s.roles.replication = "+all".into()),
        ("member", |s| s.members = vec!["10.0.0.1/8 trust".into()]),
        ("hba", |s| s.hba = vec!["x\nhost all all all trust".into()]),
        ("os user", |s| s.os_user = "/^.*$".into()),
    ];
    for (what, change) in changes {
        let mut settings = settings();
        change(&mut settings);
        let results: [Result<(), SettingsError>; 3] = [
            render_conf(&settings, &Dynamic::isolated()).map(|_| ()),
            render_hba(HbaMode::Open, &settings).map(|_| ()),
            render_ident(&settings).map(|_| ()),
        ];
        assert!(results.iter().any(Result::is_err), "{what} was taken");
    }
}
