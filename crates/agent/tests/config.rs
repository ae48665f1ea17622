//! Golden tests of the configuration: each `config/NAME.yml` gives exactly `config/NAME.out`.
//!
//! `UPDATE_GOLDENFILES=1` writes the expected files anew; read the difference before keeping it.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use howdah_agent::config::{Config, ConfigError, Place};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// Lines `# env NAME=VALUE` at the head of a fixture set variables; `# mode 0644` sets the mode.
fn rendered(name: &str, text: &str) -> String {
    let mut variables = BTreeMap::new();
    let mut mode = 0o600;
    for line in text.lines().filter_map(|line| line.strip_prefix("# ")) {
        if let Some((key, value)) = line.strip_prefix("env ").and_then(|set| set.split_once('=')) {
            variables.insert(key.to_owned(), value.to_owned());
        } else if let Some(octal) = line.strip_prefix("mode ") {
            mode = u32::from_str_radix(octal, 8).unwrap();
        }
    }
    let mut out = String::new();
    match Config::from_text(Path::new(name), text, mode, &variables) {
        Ok((config, warnings)) => {
            for warning in warnings {
                writeln!(out, "warning: {warning}").unwrap();
            }
            writeln!(out, "{config:#?}").unwrap();
        }
        Err(error) => {
            if let ConfigError::Invalid { warnings, .. } = &error {
                for warning in warnings {
                    writeln!(out, "warning: {warning}").unwrap();
                }
            }
            writeln!(out, "{error}").unwrap();
        }
    }
    out
}

#[test]
fn every_fixture_gives_its_expected_output() {
    let mut names: Vec<PathBuf> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "yml"))
        .collect();
    names.sort();
    assert!(names.len() >= 8, "fixtures are missing: {names:?}");
    let mut wrong = Vec::new();
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let actual = rendered(name, &std::fs::read_to_string(&path).unwrap());
        let expected_path = path.with_extension("out");
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            std::fs::write(&expected_path, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if actual != expected {
            wrong.push(format!("{name}: expected\n{expected}\nbut got\n{actual}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn load(name: &str) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(fixtures().join(name)).unwrap();
    Config::from_text(Path::new(name), &text, 0o600, &BTreeMap::new()).map(|(config, _)| config)
}

#[test]
fn a_minimal_file_gives_the_documented_defaults() {
    let config = load("minimal.yml").unwrap();
    assert_eq!(config.bootstrap.settings.ttl(), Duration::from_secs(5));
    assert_eq!(config.handover_timeout, Duration::from_secs(10));
    assert_eq!(config.stop_timeout, Duration::from_secs(60));
    assert_eq!(config.bootstrap.settings.maximum_lag_on_failover_bytes, 1_048_576);
    assert!(config.bootstrap.settings.use_pg_rewind);
    assert_eq!(config.bootstrap.initdb, ["--encoding=UTF8", "--data-checksums"]);
    assert_eq!(config.timings().renew_every, Duration::from_secs(1));
    assert_eq!(config.user, "postgres");
    assert_eq!(config.control_addresses().len(), 3);
}

#[test]
fn too_short_a_checkpoint_timeout_is_refused_at_its_line_and_passes_when_mended() {
    let ConfigError::Invalid { findings, .. } = load("haproxy-refused.yml").unwrap_err() else {
        panic!("refused for another reason");
    };
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].key, "bootstrap.dcs.postgresql.parameters.checkpoint_timeout");
    assert!(matches!(findings[0].place, Place::Line(28, _)), "{:?}", findings[0].place);
    let mended = load("haproxy-mended.yml").unwrap();
    assert_eq!(mended.bootstrap.settings.parameters["checkpoint_timeout"], "15min");
}

const HEAD: &str = "scope: demo\nname: n1\nraft: {data_dir: /r, self_addr: '127.0.0.1:7432', \
                    partner_addrs: ['127.0.0.1:7433', '127.0.0.1:7434']}\n";

fn with_password_file(path: &Path) -> Result<Config, ConfigError> {
    let text = format!(
        "{HEAD}postgresql:\n  data_dir: /d\n  bin_dir: /b\n  authentication:\n    replication: \
         {{username: rep, password_file: {}}}\n",
        path.display()
    );
    Config::from_text(Path::new("t.yml"), &text, 0o600, &BTreeMap::new()).map(|(config, _)| config)
}

#[test]
fn a_password_file_must_be_closed_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    assert!(with_password_file(&path).unwrap_err().to_string().contains("cannot be read"));
    std::fs::write(&path, "s3cret\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(with_password_file(&path).unwrap_err().to_string().contains("open to everybody"));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let config = with_password_file(&path).unwrap();
    let password = config.postgresql.authentication.replication.password.clone().unwrap();
    assert_eq!(password.reveal(), "s3cret");
    assert!(!format!("{config:?}").contains("s3cret"), "a password shows in debug output");
}

#[test]
fn check_reports_missing_programs_and_a_foreign_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("holiday.jpg"), "x").unwrap();
    let file = dir.path().join("howdah.yml");
    let text = format!(
        "{HEAD}user: nobody-of-this-name\npostgresql:\n  data_dir: {}\n  bin_dir: {}\n",
        data.display(),
        dir.path().join("bin").display()
    );
    std::fs::write(&file, text).unwrap();
    let (config, _) = Config::load(&file).unwrap();
    let findings: Vec<String> = config.check().iter().map(ToString::to_string).collect();
    let all = findings.join("\n");
    assert!(all.contains("bin/postgres is missing"), "{all}");
    assert!(all.contains("holds files, but no PostgreSQL"), "{all}");
}
