//! What a command asks where the configuration's keys cannot be used: the agent on this machine, or nobody.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

/// A member's configuration, whose certificates are not there.
fn configured(dir: &Path, partner: u16) {
    let root = dir.display();
    let text = format!(
        "scope: demo\nname: n1\ntls: {{ca: {root}/ca.crt, cert: {root}/tls.crt, key: {root}/tls.key}}\nraft:\n  \
         data_dir: {root}/raft\n  self_addr: 127.0.0.1:1\n  partner_addrs: ['127.0.0.1:{partner}']\npostgresql: \
         {{data_dir: {root}/data, bin_dir: /bin}}\n"
    );
    std::fs::write(dir.join("howdah.yml"), text).unwrap();
    std::fs::create_dir(dir.join("raft")).unwrap();
}

fn list(dir: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
    command.args(["-c", "howdah.yml", "list"]).current_dir(dir);
    for name in ["HOWDAH_ENDPOINT", "HOWDAH_KEYS", "HOWDAH_TOKEN_FILE", "HOWDAH_CA"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn without_keys_no_other_member_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let partner = TcpListener::bind("127.0.0.1:0").unwrap();
    partner.set_nonblocking(true).unwrap();
    configured(dir.path(), partner.local_addr().unwrap().port());
    let socket = dir.path().join("raft/control");
    let agent = UnixListener::bind(&socket).unwrap();
    // It listens, and hangs up on whoever comes.
    agent.set_nonblocking(true).unwrap();
    let hangs_up = std::thread::spawn(move || {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut came = 0;
        while came < 2 && std::time::Instant::now() < until {
            came += usize::from(agent.accept().is_ok());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        came
    });
    let (code, told) = list(dir.path());
    assert_eq!(code, Some(2), "{told}");
    assert!(partner.accept().is_err(), "the other member was asked without keys");
    assert_eq!(hangs_up.join().unwrap(), 2, "the agent was not asked: {told}");
    // The file outlives its agent: then what is wrong with the keys is told.
    let (code, told) = list(dir.path());
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("tls: ") && told.contains("ca.crt"), "{told}");
    assert!(socket.exists());
}
