//! Wrong command lines: each ends with 64, names the place, leads on, and does nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::process::{Command, Stdio};

/// A command line, split at blanks (`''` is an empty word), and what its error must name.
const WRONG: [(&str, &str); 74] = [
    ("", "Usage"),
    ("frobnicate", "frobnicate"),
    ("lst", "'list'"),
    ("switch-over", "switchover"),
    ("List", "List"),
    ("--no-such", "--no-such"),
    ("-o", "--output"),
    ("-o xml list", "xml"),
    ("-o JSON list", "JSON"),
    ("-o json -o yaml list", "--output"),
    ("list -o", "--output"),
    ("list --output=", "--output"),
    ("list n1", "n1"),
    ("list -w", "SECONDS"),
    ("list -w soon", "soon"),
    ("list -w -1", "-1"),
    ("list -w inf", "inf"),
    ("list -w 1e300", "1e300"),
    ("list --watch=yes", "--watch"),
    ("list --endpoint", "--endpoint"),
    ("list --endpoint ''", "--endpoint"),
    ("list --endpoint ,", "--endpoint"),
    ("list --endpoint nonsense", "HOST:PORT"),
    ("list --endpoint host:", "HOST:PORT"),
    ("list --endpoint host:port", "HOST:PORT"),
    ("list --endpoint host:0", "HOST:PORT"),
    ("list --endpoint host:65536", "HOST:PORT"),
    ("list --endpoint :7432", "HOST:PORT"),
    ("list --endpoint http://host:7432/x", "HOST:PORT"),
    ("list --endpoint 127.0.0.1:7432,b", "HOST:PORT"),
    ("list -c", "--config"),
    ("list -c /nowhere/howdah.yml", "/nowhere/howdah.yml"),
    ("list -c /dev/null", "/dev/null"),
    ("topology --follow", "--follow"),
    ("history 7", "7"),
    ("explain x", "x"),
    ("explain -1", "-1"),
    ("explain 1 2", "2"),
    ("explain 99999999999999999999", "99999999999999999999"),
    ("events --since", "--since"),
    ("switchover n2", "n2"),
    ("switchover --candidate", "--candidate"),
    ("switchover --leader", "--leader"),
    ("switchover --scheduled 2030-01-01", "--scheduled"),
    ("switchover --dry-run=maybe", "--dry-run"),
    ("failover --candidate", "--candidate"),
    ("failover --allow-dataloss", "--allow-data-loss"),
    ("failover --holder-is-stopped=1", "--holder-is-stopped"),
    ("reinit", "MEMBER"),
    ("reinit n1 n2", "n2"),
    ("restart --role king", "king"),
    ("restart --role", "--role"),
    ("restart --timeout soon n1", "soon"),
    ("restart --pg-version", "--pg-version"),
    ("restart --rolling --role replica n1 --what", "--what"),
    ("reload --all", "--all"),
    ("pause n1", "n1"),
    ("pause --wait=1", "--wait"),
    ("resume n1", "n1"),
    ("fence", "MEMBER"),
    ("fence n1 n2", "n2"),
    ("unfence", "MEMBER"),
    ("show-config x", "x"),
    ("switchover main --candidate n2", "no name of a cluster"),
    ("list main", "no name of a cluster"),
    ("psql -r king", "king"),
    ("dsn -r king", "king"),
    ("dsn --format xml", "xml"),
    ("config", "check"),
    ("config chekc", "check"),
    ("config explain", "KEY"),
    ("config check --static --running", "--running"),
    ("completions tcsh", "tcsh"),
    ("demo --members 0", "0"),
];

#[test]
fn each_wrong_command_line_gets_one_clear_error_and_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bad = Vec::new();
    for (line, names) in WRONG {
        let args = line.split_whitespace().map(|word| if word == "''" { "" } else { word });
        let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
        command.args(args).current_dir(dir.path()).stdin(Stdio::null());
        for name in ["HOWDAH_CONFIG", "HOWDAH_ENDPOINT"] {
            command.env_remove(name);
        }
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code();
        if code != Some(64) || !told.contains(names) || told.contains("panicked") {
            bad.push(format!("howdah {line}: {code:?}, {names:?} is not in: {told}"));
        }
        if !output.stdout.is_empty() {
            bad.push(format!("howdah {line}: prints though it is refused"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "something was written");
}
