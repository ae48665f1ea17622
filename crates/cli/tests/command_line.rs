//! The binary as programs see it: exit codes, messages, and output that goes nowhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::io::Read;
use std::process::{Command, Output, Stdio};

fn howdah(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
    command.args(args).stdin(Stdio::null());
    for name in ["HOWDAH_CONFIG", "HOWDAH_ENDPOINT"] {
        command.env_remove(name);
    }
    command
}

fn output(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = howdah(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn wrong_usage_exits_64_and_help_exits_0() {
    for args in [&["frobnicate"][..], &["list", "--no-such-option"], &[], &["explain", "x"]] {
        let (code, _, stderr) = output(args);
        assert_eq!(code, Some(64), "{args:?}: {stderr}");
        assert!(!stderr.is_empty(), "{args:?} says nothing");
    }
    let (code, stdout, _) = output(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("switchover") && stdout.contains("64 usage"), "{stdout}");
    assert!(!stdout.contains("\n  agent"), "the hidden command shows: {stdout}");
}

#[test]
fn version_has_all_forms() {
    let (code, stdout, _) = output(&["version"]);
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("howdah "), "{stdout}");
    let (_, json, _) = output(&["version", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["howdah"], env!("CARGO_PKG_VERSION"));
    let (_, yaml, _) = output(&["version", "-o", "yaml"]);
    assert!(yaml.contains("howdah: "), "{yaml}");
}

#[test]
fn nobody_answers_exits_2_with_where_and_what_to_do() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    for command in ["list", "history", "explain", "events"] {
        let (code, _, stderr) = output(&[command, "--endpoint", &address]);
        assert_eq!(code, Some(2), "{command}: {stderr}");
        assert!(stderr.contains(&address) && stderr.contains("check --endpoint"), "{stderr}");
    }
}

#[test]
fn a_bad_configuration_exits_64_for_every_command_that_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("howdah.yml");
    std::fs::write(&file, "scope: demo\nnmae: n1\n").unwrap();
    let file = file.to_str().unwrap();
    for args in [&["run", "-c", file][..], &["agent", "-c", file], &["list", "-c", file]] {
        let (code, _, stderr) = output(args);
        assert_eq!(code, Some(64), "{args:?}: {stderr}");
        assert!(stderr.contains("did you mean `name`?"), "{args:?}: {stderr}");
    }
    let (code, stdout, _) = output(&["config", "check", file]);
    assert_eq!(code, Some(64));
    assert!(stdout.contains(&format!("error: {file}:2:1: nmae")), "{stdout}");
    let (code, json, _) = output(&["config", "check", file, "-o", "json"]);
    assert_eq!(code, Some(64));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["fine"], false);
}

#[test]
fn the_tour_needs_somebody_to_take_over() {
    let (code, _, stderr) = output(&["demo", "--tour", "--members", "2"]);
    assert_eq!(code, Some(64), "{stderr}");
    let (code, _, stderr) = output(&["demo", "--ttl", "1"]);
    assert_eq!(code, Some(64), "{stderr}");
    assert!(stderr.contains("2000ms"), "{stderr}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child =
        howdah(&["version"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Closed before anything is written, or right after: both must end well.
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert_eq!(stderr, "");
}
