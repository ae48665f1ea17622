//! `howdah pki` as a person uses it: files that fit together, and words where they would not.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Exit code, and all that was said.
fn howdah(dir: &Path, words: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
    for name in ["HOWDAH_CONFIG", "HOWDAH_ENDPOINT", "HOWDAH_KEYS"] {
        command.env_remove(name);
    }
    let output = command.args(words.split(' ')).current_dir(dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), text + &String::from_utf8_lossy(&output.stderr))
}

fn done(dir: &Path, words: &str) -> String {
    let (code, told) = howdah(dir, words);
    assert_eq!(code, 0, "{words}: {told}");
    told
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_ca_issues_to_members_and_people_and_renews() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    done(dir.path(), "pki init --scope demo");
    let told = done(dir.path(), "pki issue member n1 --host 10.0.0.1 --host n1.example.org");
    assert!(told.contains("pki/n1/tls.key"), "{told}");
    done(dir.path(), "pki issue operator alice --days 1 --out alice");
    assert_eq!((mode(&at("pki/ca.key")), mode(&at("pki/n1/tls.key"))), (0o600, 0o600));
    let status = done(dir.path(), "pki status pki/n1 pki/ca.crt -o json");
    let status: Value = serde_json::from_str(&status).unwrap();
    let holders: Vec<&str> =
        status.as_array().unwrap().iter().map(|one| one["holder"].as_str().unwrap()).collect();
    assert_eq!(holders, ["CN=howdah CA of demo", "member n1 of demo", "CN=howdah CA of demo"]);
    assert_eq!(status[1]["hosts"], serde_json::json!(["10.0.0.1", "n1.example.org"]));
    // The same holder and hosts, another key.
    let before = std::fs::read(at("pki/n1/tls.key")).unwrap();
    done(dir.path(), "pki renew pki/n1 alice");
    assert_ne!(std::fs::read(at("pki/n1/tls.key")).unwrap(), before);
    let status = done(dir.path(), "pki status pki/n1 alice -o json");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status[1]["hosts"], serde_json::json!(["10.0.0.1", "n1.example.org"]));
    assert_eq!(status[3]["holder"], "operator alice of demo");
    // One CA stands in ca.crt, however often it was renewed.
    let believed = std::fs::read_to_string(at("pki/n1/ca.crt")).unwrap();
    assert_eq!(believed.matches("BEGIN CERTIFICATE").count(), 1);
}

#[test]
fn what_would_lock_people_out_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), "pki init --scope demo");
    done(dir.path(), "pki issue member n1 --host 10.0.0.1");
    done(dir.path(), "pki init --scope prod --dir other");
    for (words, code, said) in [
        ("pki init --scope demo", 2, "is there already"),
        ("pki init --scope a/b --dir x", 64, "cannot be a name"),
        ("pki issue member n1 --host 10.0.0.1", 1, "pki renew pki/n1"),
        ("pki issue member n2 --host 10.0.0.0/8", 2, "is no host"),
        ("pki issue member n/2", 64, "cannot be a name"),
        ("pki issue owner x", 64, "owner"),
        ("pki issue viewer x --days 0", 64, "0"),
        ("pki issue viewer x --dir nowhere", 2, "nowhere/ca.crt"),
        ("pki renew pki/n1 --dir other", 1, "this CA is of cluster `prod`"),
        ("pki renew nowhere", 2, "nowhere/tls.crt"),
        ("pki status nowhere.crt", 2, "nowhere.crt"),
        ("pki status pki/n1/tls.key", 2, "no certificate in it"),
    ] {
        let (found, told) = howdah(dir.path(), words);
        assert_eq!(found, code, "{words}: {told}");
        assert!(told.contains(said), "{words}: {told}");
    }
    std::fs::set_permissions(dir.path().join("pki/ca.key"), PermissionsExt::from_mode(0o644))
        .unwrap();
    let (_, told) = howdah(dir.path(), "pki issue viewer x");
    assert!(told.contains("open to others"), "{told}");
    assert!(!dir.path().join("pki/x").exists());
}

#[test]
fn status_ends_with_1_where_something_is_due() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), "pki init --scope demo");
    done(dir.path(), "pki issue viewer x --days 1");
    // Half of a day that began an hour before: nothing is due yet.
    done(dir.path(), "pki status pki/x/tls.crt");
    let (code, told) = howdah(dir.path(), "pki status");
    assert_eq!(code, 64, "{told}");
}

#[test]
fn keys_that_cannot_be_used_are_told_before_anybody_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (code, told) = howdah(dir.path(), "list --endpoint 127.0.0.1:1 --keys nowhere");
    assert_eq!(code, 64, "{told}");
    assert!(told.contains("nowhere/ca.crt"), "{told}");
}
