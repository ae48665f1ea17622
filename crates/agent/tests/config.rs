//! Golden tests of the configuration: each `config/NAME.yml`, and each directory `config/NAME.d`,
//! gives exactly `config/NAME.out`. `corpus` has wrong ones, `properties` random ones, `page` holds
//! docs/configuration.md and the list of keys together.
//!
//! `UPDATE_GOLDENFILES=1` writes the expected files anew; read the difference before keeping it.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

#[path = "config/corpus.rs"]
mod corpus;
#[path = "config/page.rs"]
mod page;
#[path = "config/properties.rs"]
mod properties;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use howdah_agent::config::{Config, ConfigError, Layer, Place, SourceFile, Sources, Warning};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// Lines `# env NAME=VALUE` at the head of a file set variables; `# mode 0644` sets the mode.
fn add_file(sources: &mut Sources, name: &str, text: &str) {
    let mut mode = 0o600;
    for line in text.lines().filter_map(|line| line.strip_prefix("# ")) {
        if let Some((key, value)) = line.strip_prefix("env ").and_then(|set| set.split_once('=')) {
            sources.variables.insert(key.to_owned(), value.to_owned());
        } else if let Some(octal) = line.strip_prefix("mode ") {
            mode = u32::from_str_radix(octal, 8).unwrap();
        }
    }
    sources.files.push(SourceFile { path: name.into(), text: text.to_owned(), mode });
}

/// Warnings and errors, each on its line.
fn told(verdict: &Result<(Config, Vec<Warning>), ConfigError>) -> String {
    let warnings: &[Warning] = match verdict {
        Ok((_, warnings)) | Err(ConfigError::Invalid { warnings, .. }) => warnings,
        Err(_) => &[],
    };
    let mut out = String::new();
    for warning in warnings {
        writeln!(out, "warning: {warning}").unwrap();
    }
    if let Err(error) = verdict {
        writeln!(out, "{error}").unwrap();
    }
    out
}

fn rendered(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut sources = Sources { named: name.into(), ..Sources::default() };
    if path.is_dir() {
        for file in files(path, "yml") {
            let inner = format!("{name}/{}", file.file_name().unwrap().to_str().unwrap());
            add_file(&mut sources, &inner, &std::fs::read_to_string(file).unwrap());
        }
    } else {
        add_file(&mut sources, name, &std::fs::read_to_string(path).unwrap());
    }
    let verdict = Config::from_sources(&sources);
    let mut out = told(&verdict);
    if let Ok((config, _)) = verdict {
        writeln!(out, "{config:#?}").unwrap();
    }
    out
}

/// The entries of a directory that end so, sorted.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

#[test]
fn every_fixture_gives_its_expected_output() {
    let mut paths = files(&fixtures(), "yml");
    paths.extend(files(&fixtures(), "d"));
    assert!(paths.len() >= 12, "fixtures are missing: {paths:?}");
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let actual = rendered(&path);
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
    let place = &findings[0].place;
    assert!(matches!(place, Place::Line { line: 28, .. }), "{place:?}");
    let mended = load("haproxy-mended.yml").unwrap();
    assert_eq!(mended.bootstrap.settings.parameters["checkpoint_timeout"], "15min");
}

#[test]
fn a_file_of_a_deployment_with_a_store_passes_with_warnings() {
    let text = std::fs::read_to_string(fixtures().join("store.yml")).unwrap();
    let (config, warnings) =
        Config::from_text(Path::new("store.yml"), &text, 0o600, &BTreeMap::new()).unwrap();
    let warned: Vec<&str> = warnings.iter().map(|warning| warning.key.as_str()).collect();
    for key in [
        "namespace",
        "bootstrap.dcs.loop_wait",
        "bootstrap.dcs.retry_timeout",
        "bootstrap.dcs.postgresql.parameters.wal_keep_segments",
        "bootstrap.pg_hba",
        "bootstrap.users",
        "postgresql.pgpass",
    ] {
        assert!(warned.contains(&key), "nothing is said of {key}: {warned:?}");
    }
    let hba = &config.bootstrap.settings.pg_hba;
    assert_eq!(hba[1], "host replication replicator shop-1 md5", "PostgreSQL refuses shop-1/32");
    assert!(warnings.iter().all(|warning| !warning.remedy.is_empty()));
}

#[test]
fn a_directory_is_read_in_order_and_names_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let error = Config::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("no file in this directory ends in .yml"), "{error}");
    write("20-own.yml", "name: n1\npostgresql: {listen: '127.0.0.1:5433'}\n");
    write("10-base.yml", &format!("{HEAD}postgresql: {{data_dir: /d, bin_dir: /b}}\n"));
    write("30-notes.txt", "no: [yaml");
    write(".40-draft.yml", "no: [yaml");
    let (config, _) = Config::load(dir.path()).unwrap();
    assert_eq!((config.postgresql.port, config.files.len()), (5433, 2));
    assert_eq!(config.postgresql.data_dir, Path::new("/d"), "the other keys stay");
    write("50-wrong.yml", "\npostgresql:\n  listen: nowhere:x\n");
    let error = Config::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("50-wrong.yml:3:11: postgresql.listen"), "{error}");
}

#[test]
fn a_file_without_an_end_and_a_variable_without_text_are_refused() {
    let error = Config::load(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(error.starts_with("/dev/zero: "), "{error}");
    let error = Config::load(Path::new("/nowhere/at/all.yml")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all.yml: cannot be read"), "{error}");
    let mut sources = Sources { named: "t.yml".into(), ..Sources::default() };
    let bytes = <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(vec![0xff]);
    sources.take_variables([("HOWDAH_SCOPE".into(), bytes)].into_iter());
    let error = Config::from_sources(&sources).unwrap_err().to_string();
    assert!(error.contains("environment variable HOWDAH_SCOPE: its value is no UTF-8"), "{error}");
}

fn explained(key: &str) -> (Layer, Option<String>) {
    let mut sources = Sources { named: "full.yml".into(), ..Sources::default() };
    let text = std::fs::read_to_string(fixtures().join("full.yml")).unwrap();
    add_file(&mut sources, "full.yml", &text);
    let found = Config::explain(&sources, key).unwrap().unwrap_or_else(|| panic!("no key {key}"));
    (found.layer, found.value)
}

#[test]
fn explain_names_the_layer_and_shows_no_secret() {
    let line = |layer: &Layer| matches!(layer, Layer::Written(Place::Line { .. }));
    let (layer, value) = explained("name");
    assert_eq!(layer, Layer::Written(Place::Env("HOWDAH_NAME".to_owned())));
    assert_eq!(value.as_deref(), Some("n7"));
    let (layer, value) = explained("ttl");
    assert!(line(&layer), "{layer:?}");
    assert_eq!(value.as_deref(), Some("2500ms"));
    let (layer, value) = explained("postgresql.parameters.pg_stat_statements.max");
    assert!(line(&layer), "{layer:?}");
    assert_eq!(value.as_deref(), Some("5000"));
    assert_eq!(explained("postgresql.parameters.wal_buffers"), (Layer::Default, None));
    let (layer, value) = explained("postgresql.authentication.rewind.password");
    assert!(line(&layer), "{layer:?}");
    assert_eq!(value.as_deref(), Some("(set; not shown)"));
    let (layer, value) = explained("raft.bind_addr");
    assert_eq!((layer, value.as_deref()), (Layer::Default, Some("0.0.0.0:7432")));
}

const HEAD: &str = "scope: demo\nname: n1\nraft: {data_dir: /r, self_addr: '127.0.0.1:7432', \
                    partner_addrs: ['127.0.0.1:7433', '127.0.0.1:7434']}\n\
                    tls: {ca: /t/ca.crt, cert: /t/tls.crt, key: /t/tls.key}\n";

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
fn a_file_with_a_password_must_be_closed_to_others() {
    let text = format!(
        "{HEAD}postgresql:\n  data_dir: /d\n  bin_dir: /b\n  authentication:\n    replication: \
         {{password: s3cret}}\n"
    );
    let read = |mode| Config::from_text(Path::new("t.yml"), &text, mode, &BTreeMap::new());
    for (mode, taken) in [(0o600, true), (0o640, true), (0o644, false), (0o604, false)] {
        match read(mode) {
            Ok(_) => assert!(taken, "{mode:o} is taken"),
            Err(why) => {
                let why = why.to_string();
                assert!(!taken && why.contains("chmod o-r") && !why.contains("s3cret"), "{why}");
            }
        }
    }
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
    assert!(all.contains("tls: cannot read /t/ca.crt"), "{all}");
}
