//! The parts of guard and agent. The agent hands requests from a socket of the test on to the
//! guard, and writes down what the guard says unasked.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use howdah_guard::client::GuardClient;
use howdah_guard::wire::{Event, FD_VARIABLE, Reply, Request};
use howdah_guard::{AgentCommand, CgroupMode, GuardOptions, disabled_by_environment, orphans};
use nix::unistd::{Uid, User};

const LIMIT: Duration = Duration::from_secs(20);

fn dir() -> PathBuf {
    std::env::var_os("TEST_DIR").expect("the test names a directory").into()
}

pub fn play_guard() -> ExitCode {
    let asked = std::env::var("TEST_OPTIONS").unwrap_or_default();
    let root = Uid::effective().is_root();
    let user = User::from_name("postgres").unwrap().expect("there is a user postgres");
    let options = GuardOptions {
        agent_restart: !asked.contains("no-restart"),
        drop_to: root.then(|| (user.uid.as_raw(), user.gid.as_raw(), user.name)),
        use_cgroup: if asked.contains("cgroup") { CgroupMode::Auto } else { CgroupMode::Off },
        stop_grace: Duration::from_secs(30),
        agent_silence: Duration::from_secs(if asked.contains("silence") { 2 } else { 600 }),
        parent_death: true,
        disabled_deadline: disabled_by_environment(),
        vip: None,
    };
    match howdah_guard::run(options, AgentCommand::own_executable(vec!["play-agent".into()])) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap()),
        Err(error) => {
            eprintln!("no guard: {error}");
            ExitCode::from(99)
        }
    }
}

pub fn play_agent() -> ! {
    let dir = dir();
    let number = std::env::var(FD_VARIABLE).unwrap().parse().unwrap();
    // SAFETY: the guard passed this descriptor open; it is only copied here.
    let raw = unsafe { OwnedFd::from_raw_fd(libc::dup(number)) };
    assert!(raw.as_raw_fd() > 2, "the guard passed no socket");
    let (client, events) = GuardClient::from_env().unwrap();
    let (listener, asking) = (dir.join("agent.new"), client.clone());
    let _ = std::fs::remove_file(&listener);
    let socket = UnixListener::bind(&listener).unwrap();
    std::fs::write(dir.join("agent.pid"), std::process::id().to_string()).unwrap();
    std::fs::rename(&listener, dir.join("agent.sock")).unwrap();
    std::thread::spawn(move || {
        for stream in socket.incoming() {
            serve(stream.unwrap(), &asking, &raw);
        }
    });
    for event in events {
        write_down(&dir, &event);
        match event {
            Event::Terminate { .. } => stop_postgres(&client),
            Event::PostmasterExited { .. } if dir.join("terminating").exists() => finish(&client),
            Event::GuardGone => {
                if !dir.join("no-orphans").exists() {
                    let killed = orphans::kill_postgres_of(&dir.join("data")).unwrap();
                    std::fs::write(dir.join("orphans"), killed.to_string()).unwrap();
                }
                std::process::exit(70);
            }
            _ => {}
        }
    }
    unreachable!("GuardGone comes last")
}

fn write_down(dir: &Path, event: &Event) {
    let mut file = OpenOptions::new().append(true).create(true).open(dir.join("events")).unwrap();
    if *event != Event::GuardGone {
        let line = serde_json::to_string(event).unwrap() + "\n";
        file.write_all(line.as_bytes()).unwrap();
    }
}

fn stop_postgres(client: &GuardClient) {
    std::fs::write(dir().join("terminating"), "").unwrap();
    let Reply::Status(status) = client.call(Request::Status, LIMIT).unwrap() else { panic!() };
    match status.postmaster {
        None => finish(client),
        Some(postmaster) => {
            let (pid, signal) = (postmaster.pid, libc::SIGINT);
            let request = Request::Signal { pid, signal, authority: None };
            assert_eq!(client.call(request, LIMIT).unwrap(), Reply::Done);
        }
    }
}

fn finish(client: &GuardClient) {
    assert_eq!(client.call(Request::Shutdown, LIMIT).unwrap(), Reply::Done);
    std::process::exit(0);
}

/// One line asks, one line answers.
fn serve(mut stream: UnixStream, client: &GuardClient, raw: &OwnedFd) {
    let mut line = String::new();
    if BufReader::new(&stream).read_line(&mut line).is_err() {
        return;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let answer = match words.as_slice() {
        ["exit", code] => std::process::exit(code.parse().unwrap()),
        ["garbage"] => {
            let copy = raw.try_clone().unwrap();
            let _ = UnixStream::from(copy).write_all(&[0xff; 64]);
            String::new()
        }
        ["helper"] => {
            // Its parent ends at once, so that it comes to the guard when this agent dies.
            let shell = Command::new("sh")
                .args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $!"])
                .output()
                .unwrap();
            String::from_utf8(shell.stdout).unwrap().trim().to_owned()
        }
        _ => match client.call(serde_json::from_str(&line).unwrap(), LIMIT) {
            Ok(reply) => serde_json::to_string(&reply).unwrap(),
            Err(error) => error.to_string(),
        },
    };
    // The test may have given up.
    let _ = stream.write_all((answer + "\n").as_bytes());
}
