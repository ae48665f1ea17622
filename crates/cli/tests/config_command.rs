//! `howdah config` and the configuration of `howdah run`, through the binary: exit codes, what is
//! told, and that nothing on disk is created or changed.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use nix::unistd::{Uid, User};

/// A member's machine: a configuration, directories, and programs that say which version they are.
struct Machine {
    root: tempfile::TempDir,
    ports: [u16; 3],
    user: User,
}

const PROGRAMS: &[&str] = &["postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_controldata"];

impl Machine {
    fn new() -> Self {
        // Others must be able to enter: PostgreSQL does not run as root.
        let root =
            tempfile::Builder::new().prefix("howdah-config-").tempdir_in("/var/tmp").unwrap();
        let name = if Uid::effective().is_root() { "postgres" } else { "" };
        let user = match name {
            "" => User::from_uid(Uid::effective()).unwrap().unwrap(),
            name => User::from_name(name).unwrap().unwrap(),
        };
        // Held together, so that the three differ; free again when the listeners are dropped.
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = held.each_ref().map(|listener| listener.local_addr().unwrap().port());
        let machine = Machine { root, ports, user };
        machine.own(machine.root.path());
        std::fs::create_dir(machine.path("bin")).unwrap();
        for program in PROGRAMS {
            machine.program(program, "15.7");
        }
        machine.write("howdah.yml", &machine.yaml());
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn own(&self, path: &Path) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(path, Some(self.user.uid.as_raw()), None).unwrap();
    }

    fn program(&self, name: &str, version: &str) {
        let text = format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n");
        let path = self.path("bin").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        self.own(&self.path(name));
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o640)).unwrap();
    }

    fn yaml(&self) -> String {
        let (root, [raft, rest, pg]) = (self.root.path().display(), self.ports);
        format!(
            "scope: demo\nname: n1\ninsecure: true\nuser: {user}\nraft:\n  data_dir: {root}/raft\n  \
             self_addr: 127.0.0.1:{raft}\nrestapi: {{listen: '127.0.0.1:{rest}'}}\npostgresql:\n  \
             listen: 127.0.0.1:{pg}\n  data_dir: {root}/data\n  bin_dir: {root}/bin\n",
            user = self.user.name
        )
    }

    fn howdah(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
        command.args(args).stdin(Stdio::null()).current_dir(self.root.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOWDAH_") {
                command.env_remove(name);
            }
        }
        command
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        said(&mut self.howdah(args))
    }

    /// Everything on this disk: path, length, permissions, time of the last change.
    fn disk(&self) -> BTreeMap<PathBuf, (u64, u32, SystemTime)> {
        let (mut found, mut left) = (BTreeMap::new(), vec![self.root.path().to_owned()]);
        while let Some(path) = left.pop() {
            let meta = std::fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            let mode = meta.permissions().mode();
            found.insert(path, (meta.len(), mode, meta.modified().unwrap()));
        }
        found
    }
}

fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}

/// Name, text of the file, variables, what must be told.
type Wrong<'a> = (&'a str, String, &'a [(&'a str, &'a str)], &'a str);

/// What is wrong in each of these is told by `check` and by `run`, and neither touches the disk.
#[test]
fn wrong_configurations_exit_64_and_change_nothing() {
    let machine = Machine::new();
    let good = machine.yaml();
    let with = |text: &str| format!("{good}{text}\n");
    let cases: &[Wrong<'_>] = &[
        ("no YAML", "scope: [".to_owned(), &[], ":1:8: unclosed bracket"),
        ("nothing", String::new(), &[], "scope: is missing"),
        ("an unknown key", with("nmae: n1"), &[], "did you mean `name`?"),
        ("a key twice", with("scope: x"), &[], "duplicate mapping key: scope"),
        ("an old store alone", "etcd: {hosts: a}".to_owned(), &[], "write `raft:` with data_dir"),
        ("a wrong type", with("tags: [nofailover]"), &[], "tags: a list stands where"),
        ("a wrong ttl", with("bootstrap: {dcs: {ttl: 1}}"), &[], "below the least, 2000ms"),
        (
            "a parameter out of range",
            with("bootstrap: {dcs: {postgresql: {parameters: {checkpoint_timeout: 15}}}}"),
            &[],
            "out of range (30 s to 86400 s); write 30 or more",
        ),
        ("a line of pg_hba", with("bootstrap: {pg_hba: [host all all]}"), &[], "is too short"),
        ("half of the certificates", with("tls: {cert: /a}"), &[], "tls.key: is missing"),
        ("no certificates", good.replace("insecure: true", ""), &[], "tls: is missing"),
        (
            "a variable of nothing",
            good.clone(),
            &[("HOWDAH_RAFT_SELF_ADR", "x")],
            "did you mean HOWDAH_RAFT_SELF_ADDR?",
        ),
        (
            "a variable with a wrong value",
            good.clone(),
            &[("HOWDAH_STOP_TIMEOUT", "soon")],
            "is no duration",
        ),
        (
            "a password file that is not there",
            good.clone(),
            &[("HOWDAH_REWIND_PASSWORD_FILE", "/nowhere/at/all")],
            "/nowhere/at/all cannot be read",
        ),
    ];
    for (name, text, variables, expected) in cases {
        machine.write("howdah.yml", text);
        let before = machine.disk();
        for args in [&["config", "check", "howdah.yml"][..], &["run", "-c", "howdah.yml"]] {
            let mut command = machine.howdah(args);
            command.envs(variables.iter().copied());
            let (code, told) = said(&mut command);
            assert_eq!(code, Some(64), "{name}: {args:?}: {told}");
            assert!(told.contains(expected), "{name}: {args:?}: {told}");
        }
        assert_eq!(machine.disk(), before, "{name}: something changed on disk");
    }
}

#[test]
fn files_that_cannot_be_read_exit_64() {
    let machine = Machine::new();
    std::fs::create_dir(machine.path("empty.d")).unwrap();
    for (file, expected) in [
        ("missing.yml", "missing.yml: cannot be read"),
        ("empty.d", "no file in this directory ends in .yml"),
        ("/dev/zero", "is no configuration"),
    ] {
        for args in [
            &["config", "check", file][..],
            &["run", "-c", file],
            &["config", "explain", "scope", "-c", file],
        ] {
            let (code, told) = machine.run(args);
            assert_eq!(code, Some(64), "{args:?}: {told}");
            assert!(told.contains(expected), "{args:?}: {told}");
        }
    }
    let (code, told) = machine.run(&["config", "check", "--static", "--running"]);
    assert_eq!(code, Some(64), "{told}");
}

#[test]
fn a_good_configuration_of_this_machine_is_fine_and_untouched() {
    let machine = Machine::new();
    let before = machine.disk();
    let (code, told) = machine.run(&["config", "check", "howdah.yml"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("howdah.yml: fine"), "{told}");
    let mut command = machine.howdah(&["config", "check"]);
    let (code, told) = said(command.env("HOWDAH_CONFIG", "howdah.yml"));
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(machine.disk(), before);
}

#[test]
fn a_taken_port_is_named_unless_the_member_runs() {
    let machine = Machine::new();
    let [raft, rest, pg] = machine.ports;
    for (key, port) in
        [("raft.bind_addr", raft), ("restapi.listen", rest), ("postgresql.listen", pg)]
    {
        let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (code, told) = machine.run(&["config", "check", "howdah.yml"]);
        assert_eq!(code, Some(64), "{told}");
        assert!(told.contains(&format!("{key}: 127.0.0.1:{port} is taken")), "{told}");
        for flag in ["--running", "--static"] {
            let (code, told) = machine.run(&["config", "check", "howdah.yml", flag]);
            assert_eq!(code, Some(0), "{told}");
        }
        drop(taken);
    }
    let elsewhere = machine.yaml().replace(
        &format!("'127.0.0.1:{rest}'"),
        // TEST-NET-1: no machine has it.
        &format!("'192.0.2.1:{rest}'"),
    );
    machine.write("howdah.yml", &elsewhere);
    let (code, told) = machine.run(&["config", "check", "howdah.yml"]);
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("192.0.2.1 is no address of this machine"), "{told}");
}

#[test]
fn programs_of_another_version_and_parameters_it_does_not_have_are_named() {
    let machine = Machine::new();
    let check = |expected: &str| {
        let (code, told) = machine.run(&["config", "check", "howdah.yml"]);
        assert_eq!(code, Some(64), "{told}");
        assert!(told.contains(expected), "{told}");
    };
    machine.program("pg_rewind", "16.2");
    check("postgres is of PostgreSQL 15, pg_rewind of 16");
    std::fs::remove_file(machine.path("bin/pg_rewind")).unwrap();
    check("bin/pg_rewind is missing or no program");
    for program in PROGRAMS {
        machine.program(program, "13.1");
    }
    check("install one of the versions 14 to 18");
    for program in PROGRAMS {
        machine.program(program, "18beta1");
    }
    machine.write(
        "howdah.yml",
        &format!("{}  parameters: {{force_parallel_mode: on}}\n", machine.yaml()),
    );
    check("PostgreSQL 18 does not have it; 15 was the last that did");
}

#[test]
fn directories_of_others_are_named() {
    let machine = Machine::new();
    let data = machine.path("data");
    std::fs::create_dir(&data).unwrap();
    machine.own(&data);
    std::fs::write(data.join("PG_VERSION"), "14\n").unwrap();
    let (code, told) = machine.run(&["config", "check", "howdah.yml"]);
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("has mode 0755, PostgreSQL wants 0700 or 0750"), "{told}");
    assert!(told.contains("is of PostgreSQL 14, the programs are 15"), "{told}");
    std::fs::write(machine.path("raft"), "").unwrap();
    let (_, told) = machine.run(&["config", "check", "howdah.yml"]);
    assert!(told.contains("raft is no directory"), "{told}");
    if Uid::effective().is_root() {
        std::os::unix::fs::chown(machine.root.path(), Some(0), Some(0)).unwrap();
        let (code, told) = machine.run(&["config", "check", "howdah.yml"]);
        assert_eq!(code, Some(64), "{told}");
        assert!(told.contains("postgres may not write to"), "{told}");
    }
}

#[test]
fn a_partner_that_does_not_answer_is_a_warning() {
    let machine = Machine::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let partner = closed.local_addr().unwrap();
    drop(closed);
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let answers = open.local_addr().unwrap();
    let text = machine.yaml().replace(
        "restapi:",
        &format!(
            "  partner_addrs: ['{partner}', '{answers}', 'no-such-host.invalid:7432']\nrestapi:"
        ),
    );
    machine.write("howdah.yml", &text);
    let (code, told) = machine.run(&["config", "check", "howdah.yml"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("`{partner}` does not answer")), "{told}");
    assert!(told.contains("`no-such-host.invalid` has no address"), "{told}");
    assert!(!told.contains(&answers.to_string()), "{told}");
}

#[test]
fn the_answer_for_programs_has_its_shape() {
    let machine = Machine::new();
    std::fs::create_dir(machine.path("conf.d")).unwrap();
    machine.write("conf.d/10-base.yml", &machine.yaml());
    machine.write("conf.d/20-more.yml", "postgresql:\n  listen: nowhere:x\n  pgpass: /p\n");
    let mut command = machine.howdah(&["config", "check", "conf.d", "-o", "json"]);
    let output = command.env("HOWDAH_STOP_TIMEOUT", "0").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["file"], &json["fine"]), (&"conf.d".into(), &false.into()));
    assert_eq!(json["checked"], "machine");
    let errors = json["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2, "{json:#}");
    assert_eq!(errors[0]["file"], "conf.d/20-more.yml");
    assert_eq!((&errors[0]["line"], &errors[0]["column"]), (&2.into(), &11.into()));
    assert_eq!(errors[0]["key"], "postgresql.listen");
    assert_eq!(errors[1]["variable"], "HOWDAH_STOP_TIMEOUT");
    assert_eq!(errors[1]["line"], serde_json::Value::Null);
    for error in errors.iter().chain(json["warnings"].as_array().unwrap()) {
        for field in ["what", "remedy"] {
            assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{error}");
        }
    }
    assert!(json["warnings"].to_string().contains("postgresql.pgpass"), "{json:#}");
}

#[test]
fn explain_names_the_layer() {
    let machine = Machine::new();
    let text = machine.yaml()
        + "  authentication: {rewind: {password: hunter2}}\n  parameters: {work_mem: 8MB}\n";
    machine.write("howdah.yml", &text);
    let explain = |key: &str| {
        let mut command = machine.howdah(&["config", "explain", key, "-c", "howdah.yml"]);
        let (code, told) = said(command.env("HOWDAH_HANDOVER_TIMEOUT", "7500ms"));
        assert_eq!(code, Some(0), "{told}");
        told
    };
    let told = explain("scope");
    assert!(told.starts_with("scope = demo\n  set by:   file howdah.yml:1:8\n"), "{told}");
    let told = explain("handover_timeout");
    assert!(
        told.contains("= 7500ms\n  set by:   environment variable HOWDAH_HANDOVER_TIMEOUT\n"),
        "{told}"
    );
    let told = explain("postgresql.authentication.rewind.password");
    assert!(told.contains("(set; not shown)") && !told.contains("hunter2"), "{told}");
    let told = explain("postgresql.parameters.work_mem");
    assert!(told.contains("= 8MB") && told.contains("takes a reload\n"), "{told}");
    let told = explain("profile");
    assert!(told.contains("profile = default\n  set by:   default"), "{told}");
    // Nobody runs there; what the log has is told to be unknown.
    let told = explain("ttl");
    assert!(
        told.contains("bootstrap.dcs.ttl = 5s") && told.contains("the cluster was not asked"),
        "{told}"
    );
    let (code, told) = machine.run(&["config", "explain", "lsiten", "-c", "howdah.yml"]);
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("there is no key `lsiten`; did you mean"), "{told}");
    let (_, json) = machine.run(&["config", "explain", "scope", "-c", "howdah.yml", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["layer"], &json["line"]), (&"file".into(), &1.into()), "{json}");
}
