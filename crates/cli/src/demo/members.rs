//! Starts, restarts and stops the members: the demo's service manager.
//!
//! Children are started by the demo's only thread with `--die-with-parent`. A member that exits is
//! started again after a moment; one that a tour killed, after the pause that the tour asks for.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::layout::{Layout, MemberLayout};
use super::process::{Table, kill_tree, send};
use super::{POLL, Stop};
use crate::failure::Failure;

const RESTART_AFTER: Duration = Duration::from_secs(1);
/// An orderly stop may take this long before everything is killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Exit codes after which a service manager must not restart.
const FINAL: [i32; 2] = [64, 78];

/// The members of the demo.
pub(crate) struct Members {
    program: PathBuf,
    members: Vec<Running>,
}

struct Running {
    layout: MemberLayout,
    child: Option<Child>,
    start_at: Instant,
    /// A tour wants it down for this long from its end on.
    down_for: Duration,
    started_once: bool,
}

impl Members {
    /// Nothing is started yet.
    pub(crate) fn new(layout: &Layout) -> Result<Members, Failure> {
        let program =
            std::env::current_exe().map_err(Failure::io("the path of howdah is unknown"))?;
        let running = |layout: &MemberLayout| Running {
            layout: layout.clone(),
            child: None,
            start_at: Instant::now(),
            down_for: RESTART_AFTER,
            started_once: false,
        };
        Ok(Members { program, members: layout.members.iter().map(running).collect() })
    }

    /// Starts all of them.
    pub(crate) fn start_all(&mut self) -> Result<(), Failure> {
        for member in &mut self.members {
            member.start(&self.program)?;
        }
        Ok(())
    }

    /// Notices what ended and starts what is due. Returns what is worth saying.
    pub(crate) fn tend(&mut self) -> Result<Vec<String>, Failure> {
        let mut news = Vec::new();
        for member in &mut self.members {
            if let Some(ended) = member.reap()? {
                news.push(ended);
            }
            if member.child.is_none() && Instant::now() >= member.start_at {
                member.start(&self.program)?;
                news.push(format!("{} is started again", member.layout.name));
            }
        }
        Ok(news)
    }

    /// Pid of a member's guard.
    pub(crate) fn guard(&self, name: &str) -> Result<i32, Failure> {
        let member = self.members.iter().find(|member| member.layout.name == name);
        let child = member.and_then(|member| member.child.as_ref());
        child
            .and_then(|child| i32::try_from(child.id()).ok())
            .ok_or_else(|| Failure::Error(format!("{name} is not running")))
    }

    /// Kills everything of a member, and leaves it down for a while.
    pub(crate) fn kill_node(&mut self, name: &str, down_for: Duration) -> Result<(), Failure> {
        let guard = self.guard(name)?;
        for member in self.members.iter_mut().filter(|member| member.layout.name == name) {
            member.down_for = down_for;
        }
        // The guard first, so that it cannot answer; then what was below it at that moment.
        let below = Table::read().tree(guard);
        for pid in below {
            send(pid, Signal::SIGKILL);
        }
        Ok(())
    }

    /// Stops all: orderly first, then by force, at once when asked once more.
    pub(crate) async fn stop(&mut self, stop: &mut Stop) {
        for pid in self.pids() {
            send(pid, Signal::SIGINT);
        }
        let deadline = Instant::now() + STOP_LIMIT;
        let mut by_force = false;
        while !self.all_ended() {
            if by_force || Instant::now() >= deadline {
                for pid in self.pids() {
                    kill_tree(pid);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = stop.asked() => by_force = true,
            }
        }
    }

    fn pids(&self) -> Vec<i32> {
        let children = self.members.iter().filter_map(|member| member.child.as_ref());
        children.filter_map(|child| i32::try_from(child.id()).ok()).collect()
    }

    fn all_ended(&mut self) -> bool {
        for member in &mut self.members {
            // An error means that there is no such child any more.
            if let Some(child) = &mut member.child
                && !matches!(child.try_wait(), Ok(None))
            {
                member.child = None;
            }
        }
        self.members.iter().all(|member| member.child.is_none())
    }

    /// The last lines of each log, for an error message.
    pub(crate) fn log_tails(&self) -> String {
        let tail = |member: &Running| {
            let text = std::fs::read_to_string(&member.layout.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(3).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            format!("{}: {}", member.layout.name, lines.join(" | "))
        };
        self.members.iter().map(tail).collect::<Vec<_>>().join("\n")
    }
}

impl Running {
    fn start(&mut self, program: &PathBuf) -> Result<(), Failure> {
        let path = &self.layout.log;
        let log =
            OpenOptions::new().append(true).open(path).map_err(Failure::io(path.display()))?;
        let copy = log.try_clone().map_err(Failure::io(path.display()))?;
        let child = Command::new(program)
            .arg("run")
            .arg("-c")
            .arg(&self.layout.config)
            .arg("--die-with-parent")
            .env_remove("HOWDAH_ENDPOINT")
            .env_remove("HOWDAH_CONFIG")
            .current_dir(&self.layout.dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy)
            // An own group: Ctrl-C in the terminal is for the demo, which stops them in order.
            .process_group(0)
            .spawn()
            .map_err(Failure::io(format!("{} cannot be started", program.display())))?;
        self.child = Some(child);
        self.started_once = true;
        Ok(())
    }

    fn reap(&mut self) -> Result<Option<String>, Failure> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait().map_err(Failure::io("a member cannot be waited for"))?;
        let Some(status) = status else { return Ok(None) };
        let name = &self.layout.name;
        self.child = None;
        if status.code().is_some_and(|code| FINAL.contains(&code)) {
            return Err(Failure::Error(format!(
                "{name} ended for good ({status}); its log: {}",
                self.layout.log.display()
            )));
        }
        self.start_at = Instant::now() + self.down_for;
        let text = format!("{name} ended ({status}), starts again in {:.1?}", self.down_for);
        self.down_for = RESTART_AFTER;
        Ok(Some(text))
    }
}
