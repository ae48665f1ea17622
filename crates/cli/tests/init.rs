//! `howdah init` as a person uses it: a directory with everything in it, once, and commands that a shell can run.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Exit code, stdout, stderr.
fn howdah(dir: &Path, words: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
    for name in ["HOWDAH_CONFIG", "HOWDAH_ENDPOINT", "HOWDAH_KEYS"] {
        command.env_remove(name);
    }
    // The programs are on the members.
    command.env("HOWDAH_POSTGRESQL_BIN_DIR", "/bin");
    let output = command.args(words.split_whitespace()).current_dir(dir).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn done(dir: &Path, words: &str) -> String {
    let (code, told, why) = howdah(dir, words);
    assert_eq!(code, 0, "{words}: {told}{why}");
    told
}

/// Everything below a directory with its mode, in order.
fn tree(dir: &Path) -> Vec<(String, u32)> {
    let (mut found, mut left) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(path) = left.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let name = path.strip_prefix(dir).unwrap().display().to_string();
        found.push((name, meta.permissions().mode() & 0o777));
    }
    found.sort();
    found
}

const THREE: &str = "init --scope main n1=10.0.0.1 n2=10.0.0.2 n3=10.0.0.3";

#[test]
fn everything_is_there_closed_and_passes_its_checks() {
    let dir = tempfile::tempdir().unwrap();
    let told = done(dir.path(), THREE);
    let main = dir.path().join("main");
    let mut expected: Vec<(String, u32)> = vec![(String::new(), 0o700)];
    for (name, mode) in [
        ("admin", 0o700),
        ("admin/ca.crt", 0o644),
        ("admin/tls.crt", 0o644),
        ("admin/tls.key", 0o600),
        ("pki", 0o700),
        ("pki/ca.crt", 0o644),
        ("pki/ca.key", 0o600),
    ] {
        expected.push((name.to_owned(), mode));
    }
    for name in ["n1", "n2", "n3"] {
        for (file, mode) in [
            ("", 0o700),
            ("/howdah.yml", 0o600),
            ("/tls", 0o700),
            ("/tls/ca.crt", 0o644),
            ("/tls/ca.key", 0o600),
            ("/tls/tls.crt", 0o644),
            ("/tls/tls.key", 0o600),
        ] {
            expected.push((format!("{name}{file}"), mode));
        }
        let said = done(dir.path(), &format!("config check --static main/{name}/howdah.yml"));
        assert!(!said.contains("warning"), "{said}");
    }
    expected.sort();
    assert_eq!(tree(&main), expected);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something lies beside it");
    done(dir.path(), "pki status main/admin main/n1/tls main/n2/tls main/n3/tls main/pki");
    let status = done(dir.path(), "pki status main/n2/tls/tls.crt main/admin/tls.crt -o json");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status[0]["holder"], "member n2 of main");
    assert_eq!(status[0]["hosts"], serde_json::json!(["10.0.0.2"]));
    assert_eq!(status[1]["holder"], "admin admin of main");
    // One command for each, and one to look; no secret.
    let commands: Vec<&str> = told.lines().filter(|line| line.starts_with("tar ")).collect();
    assert_eq!(commands.len(), 3, "{told}");
    assert!(commands[1].starts_with("tar -C main -cf - n2 | ssh root@10.0.0.2 'set -e;"), "{told}");
    let look = "howdah --keys main/admin --endpoint 10.0.0.1:7432,10.0.0.2:7432,10.0.0.3:7432 list";
    assert!(told.lines().any(|line| line == look), "{told}");
    for key in ["pki/ca.key", "admin/tls.key", "n1/tls/tls.key"] {
        let text = std::fs::read_to_string(main.join(key)).unwrap();
        let line = text.lines().nth(1).unwrap();
        assert!(!told.contains(line), "{key} is printed");
    }
    // What the members' keyrings are for.
    let (code, _, why) = howdah(dir.path(), "list --endpoint 127.0.0.1:1 --keys main/admin");
    assert_eq!(code, 2, "{why}");
}

#[test]
fn nothing_that_is_there_is_overwritten_and_nothing_is_left_half_made() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), THREE);
    let before = tree(dir.path());
    let ca = std::fs::read(dir.path().join("main/pki/ca.crt")).unwrap();
    let (code, _, why) = howdah(dir.path(), THREE);
    assert_eq!(code, 1, "{why}");
    assert!(why.contains("main is there already"), "{why}");
    // An empty directory may be somebody's too.
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let (code, _, why) = howdah(dir.path(), &format!("{THREE} --dir empty"));
    assert_eq!((code, why.contains("empty is there already")), (1, true), "{why}");
    std::fs::remove_dir(dir.path().join("empty")).unwrap();
    for (words, code, said) in [
        ("init --scope main", 64, "NAME=HOST"),
        ("init n1=10.0.0.1", 64, "--scope"),
        ("init --scope main --dir x n1=10.0.0.1 n2=10.0.0.1", 64, "howdah demo"),
        ("init --scope main --dir x n1=10.0.0.1 n2", 64, "as n1=10.0.0.1"),
        ("init --scope main --dir x --raft-dir /var/lib/howdah/data/raft n1=10.0.0.1", 64, "apart"),
        ("init --scope main --dir x --control-port 0 n1=10.0.0.1", 64, "self_addr"),
        ("init --scope main --dir x --rest-port 70000 n1=10.0.0.1", 64, "70000"),
        ("init --scope main --dir nowhere/x n1=10.0.0.1", 2, "nowhere"),
    ] {
        let (found, told, why) = howdah(dir.path(), words);
        assert_eq!(found, code, "{words}: {why}");
        assert!(why.contains(said), "{words}: {why}");
        assert!(told.is_empty(), "{words}: prints though it is refused");
    }
    assert_eq!(tree(dir.path()), before);
    assert_eq!(std::fs::read(dir.path().join("main/pki/ca.crt")).unwrap(), ca);
}

#[test]
fn without_the_cas_key_it_is_on_no_member_and_renewal_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = done(dir.path(), &format!("{THREE} --without-ca-key --dir other"));
    assert!(told.contains("`howdah pki renew other/NAME/tls --dir other/pki`"), "{told}");
    let keys = |name: &str| tree(&dir.path().join("other").join(name));
    assert!(!keys("n1").iter().any(|(name, _)| name.ends_with("ca.key")), "{:?}", keys("n1"));
    let text = std::fs::read_to_string(dir.path().join("other/n1/howdah.yml")).unwrap();
    assert!(!text.contains("ca_key"), "{text}");
    done(dir.path(), "config check --static other/n1/howdah.yml");
    // As it was told.
    let before = std::fs::read(dir.path().join("other/n1/tls/tls.crt")).unwrap();
    done(dir.path(), "pki renew other/n1/tls --dir other/pki");
    assert_ne!(std::fs::read(dir.path().join("other/n1/tls/tls.crt")).unwrap(), before);
}

#[test]
fn programs_get_it_as_json_and_clusters_of_other_sizes_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let told = done(dir.path(), &format!("{THREE} -o json"));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["scope"], &told["keys"]), (&"main".into(), &"main/admin".into()));
    assert_eq!((&told["renews"], &told["warnings"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(told["members"].as_array().unwrap().len(), 3);
    done(dir.path(), &format!("{THREE} n4=10.0.0.4 n5=10.0.0.5 --dir five -o yaml"));
    for (count, members, said) in
        [(1, "n1=10.0.0.1", "stands alone"), (2, "n1=10.0.0.1 n2=10.0.0.2", "cannot spare either")]
    {
        let words = format!("init --scope main --dir of{count} {members}");
        let (code, told, why) = howdah(dir.path(), &words);
        assert_eq!(code, 0, "{why}");
        assert!(why.starts_with("howdah: warning: ") && why.contains(said), "{why}");
        assert_eq!(told.lines().filter(|line| line.starts_with("tar ")).count(), count);
    }
}

/// Programs in whose place others stand that show what would be done on the member's machine.
fn programs(dir: &Path) -> PathBuf {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    // Instead of the machine's directories those below $ROOT.
    let ssh = "#!/bin/sh\n[ \"$1\" = root@10.0.0.2 ] || exit 9\ncommand=$(printf %s \"$2\" | \
               sed \"s,/etc/howdah,$ROOT/etc/howdah,g; s,/var/lib/howdah,$ROOT/var/lib/howdah,g\")\n\
               exec sh -c \"$command\"\n";
    let told = "#!/bin/sh\necho \"$(basename \"$0\") $*\" >> \"$ROOT/told\"\n";
    for (name, text) in [
        ("ssh", ssh),
        ("howdah", told),
        ("systemctl", told),
        ("chown", told),
        ("chmod", told),
        ("install", "#!/bin/sh\nfor last; do :; done\nmkdir -p \"$last\"\n"),
    ] {
        let path = bin.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    bin
}

#[test]
fn the_printed_command_puts_the_files_where_they_belong_and_may_be_pasted_again() {
    let dir = tempfile::tempdir().unwrap();
    let told = done(dir.path(), THREE);
    let command = told.lines().find(|line| line.contains("root@10.0.0.2")).unwrap();
    let bin = programs(dir.path());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for time in 1..=2 {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).current_dir(dir.path());
        let output = shell.env("PATH", &path).env("ROOT", dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let home = dir.path().join("etc/howdah");
        let mut there = tree(&home);
        let mut made = tree(&dir.path().join("main/n2"));
        // The directory itself is the machine's.
        there.remove(0);
        made.remove(0);
        assert_eq!(there, made);
        assert!(dir.path().join("var/lib/howdah").is_dir());
        let told = std::fs::read_to_string(dir.path().join("told")).unwrap();
        let words: Vec<&str> = told.lines().collect();
        assert_eq!(words.len(), 5 * time);
        let home = home.display();
        assert_eq!(words[0], format!("chown root:postgres {home}/howdah.yml"));
        assert_eq!(words[1], format!("chmod 0640 {home}/howdah.yml"));
        assert_eq!(words[2], format!("chown -R postgres: {home}/tls"));
        assert_eq!(words[3..5], ["howdah config check", "systemctl enable --now howdah"]);
    }
}
