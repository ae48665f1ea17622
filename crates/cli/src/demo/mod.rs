//! `howdah demo`: a cluster of real servers on this machine, to look at and to break.
//!
//! Place: a command; plays the service manager for its members. Its directory holds everything and
//! is removed at the end, unless `--dir` or `--keep`. Members are children with a death signal, so that they
//! end when the demo dies in whatever way; what is left behind then is the directory.

mod layout;
mod members;
mod process;
mod report;
mod roles;
mod tour;
mod writer;

use std::time::{Duration, Instant};

use howdah_core::Timings;
use howdah_rpc::control::ClusterStatus;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{DemoArgs, Format, SyncArg};
use crate::client;
use crate::failure::{DONE, Failure, REFUSED};
use crate::output::{self, status};
use layout::Layout;
use members::Members;

/// How long the first start may take: initdb, two base backups, on a slow disk.
const START_LIMIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(100);

/// Says what goes on: on stdout for people, on stderr when stdout is for programs.
#[derive(Clone, Copy)]
pub(crate) struct Console {
    format: Format,
}

impl Console {
    pub(crate) fn say(self, text: &str) -> Result<(), Failure> {
        if self.format == Format::Table {
            return output::print(&format!("{text}\n"));
        }
        use std::io::Write;
        // Progress is a courtesy; losing it does not matter.
        let _ = writeln!(std::io::stderr(), "{text}");
        Ok(())
    }
}

/// What a program needs to use the demo.
#[derive(Serialize)]
struct Access {
    directory: String,
    endpoint: String,
    /// Directory of an administrator's certificate.
    keys: String,
    rest: Vec<String>,
    dsn: String,
    write_dsn: String,
    read_dsn: String,
    members: Vec<MemberAccess>,
}

#[derive(Serialize)]
struct MemberAccess {
    name: String,
    config: String,
    log: String,
}

/// Runs the demo until Ctrl-C, or the tour to its end.
///
/// # Errors
/// `Failure` if the cluster cannot be set up; everything is stopped before it returns.
pub async fn run(args: &DemoArgs, format: Format) -> Result<u8, Failure> {
    let console = Console { format };
    let profile = match args.profile {
        crate::args::ProfileArg::Default => howdah_core::Profile::Default,
        crate::args::ProfileArg::Fast => howdah_core::Profile::Fast,
    };
    let ttl = args.ttl.unwrap_or(profile.ttl());
    Timings::for_profile(profile, ttl)
        .map_err(|error| Failure::Usage(format!("--ttl: {error}")))?;
    if args.tour && args.members < 3 {
        let text = "--tour fails members; it needs --members 3 or more to have somebody take over";
        return Err(Failure::Usage(text.to_owned()));
    }
    let mut stop = Stop::new()?;
    let layout = Layout::create(args, profile, ttl)?;
    console.say(&format!("Demo in {}", layout.dir.display()))?;
    let mut members = Members::new(&layout)?;
    let result = tokio::select! {
        result = live(args, console, &layout, &mut members) => Some(result),
        () = stop.asked() => None,
    };
    if result.is_none() {
        // Printing may fail here when the terminal is gone; stopping goes on.
        let _ = console.say("Stopping; once more to be quick about it");
    }
    members.stop(&mut stop).await;
    let removed = if args.keep || args.dir.is_some() {
        let _ = console.say(&format!("Kept: {}", layout.dir.display()));
        Ok(())
    } else {
        layout.remove()
    };
    match result {
        Some(result) => result.and_then(|code| removed.map(|()| code)),
        None => removed.map(|()| DONE),
    }
}

/// The demo's life, from the first start on. It ends by itself only after a tour or by an error.
async fn live(
    args: &DemoArgs,
    console: Console,
    layout: &Layout,
    members: &mut Members,
) -> Result<u8, Failure> {
    members.start_all()?;
    let status = first_start(console, layout, members).await?;
    roles::create(layout, &status, members).await?;
    // A tour for programs prints one document: its report.
    if !args.tour || console.format == Format::Table {
        introduce(console, layout, &status)?;
    }
    if args.tour {
        let report = tour::run(console, layout, members).await?;
        let text = output::render(console.format, &report, || report.table())?;
        output::print(&text)?;
        return Ok(if report.held() { DONE } else { REFUSED });
    }
    loop {
        for news in members.tend()? {
            console.say(&news)?;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// One leader that can be written to, everybody else streaming from it, and so many of them waited for
/// by commits.
pub(crate) fn healthy(status: &ClusterStatus, size: usize, mode: SyncArg) -> bool {
    let leaders = status.members.iter().filter(|m| m.role == "Leader" && m.state == "running");
    let streaming = status.members.iter().filter(|m| m.role != "Leader" && m.state == "streaming");
    let waited_for = status.members.iter().filter(|m| m.role.ends_with(" Standby")).count();
    status.quorum
        && waited_for == mode.waited_for(size - 1)
        && status.not_writable_because.is_empty()
        && leaders.count() == 1
        && streaming.count() + 1 == size
}

async fn first_start(
    console: Console,
    layout: &Layout,
    members: &mut Members,
) -> Result<ClusterStatus, Failure> {
    let (endpoints, size) = (layout.endpoints(), layout.members.len());
    let began = Instant::now();
    let mut shown = String::new();
    while began.elapsed() < START_LIMIT {
        for news in members.tend()? {
            console.say(&news)?;
        }
        if let Ok(reached) = client::reach(&endpoints).await {
            let states: Vec<String> = reached
                .status
                .members
                .iter()
                .map(|member| format!("{}: {} {}", member.name, member.role, member.state))
                .collect();
            let states = states.join(", ");
            if states != shown {
                console.say(&format!("{:5.1} s  {states}", began.elapsed().as_secs_f64()))?;
                shown = states;
            }
            if healthy(&reached.status, size, layout.mode) {
                return Ok(reached.status);
            }
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Failure::Error(format!(
        "the cluster is not complete after {} s ({shown}); the logs: {}; use --keep to keep them",
        START_LIMIT.as_secs(),
        members.log_tails()
    )))
}

fn introduce(console: Console, layout: &Layout, status: &ClusterStatus) -> Result<(), Failure> {
    let (endpoint, keys) = (layout.endpoints().addresses.join(","), layout.keys());
    let keys = keys.display();
    if console.format == Format::Table {
        output::print(&status::list(status, false))?;
        return console.say(&format!(
            "\nexport HOWDAH_ENDPOINT={endpoint} HOWDAH_KEYS={keys}\npsql '{}'    # the primary, whoever that is\n\
             psql '{}'    # a standby\nLogs: {}/n*/howdah.log   Ctrl-C ends the demo",
            layout.write_dsn(),
            layout.read_dsn(),
            layout.dir.display()
        ));
    }
    let access = Access {
        directory: layout.dir.display().to_string(),
        endpoint,
        keys: keys.to_string(),
        rest: layout.members.iter().map(|m| format!("http://127.0.0.1:{}", m.rest_port)).collect(),
        dsn: layout.dsn(),
        write_dsn: layout.write_dsn(),
        read_dsn: layout.read_dsn(),
        members: layout
            .members
            .iter()
            .map(|member| MemberAccess {
                name: member.name.clone(),
                config: member.config.display().to_string(),
                log: member.log.display().to_string(),
            })
            .collect(),
    };
    output::print(&output::render(console.format, &access, String::new)?)
}

/// Ctrl-C, SIGTERM or SIGHUP.
pub(crate) struct Stop {
    signals: [Signal; 3],
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        let take = |kind| signal(kind).map_err(Failure::io("signals cannot be watched"));
        Ok(Stop {
            signals: [
                take(SignalKind::interrupt())?,
                take(SignalKind::terminate())?,
                take(SignalKind::hangup())?,
            ],
        })
    }

    /// Returns when one comes.
    pub(crate) async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use howdah_rpc::control::Member;

    use super::*;

    fn member(role: &str, state: &str) -> Member {
        Member { role: role.to_owned(), state: state.to_owned(), ..Member::default() }
    }

    #[test]
    fn a_cluster_is_healthy_when_all_follow_one_writable_leader() {
        let members = vec![
            member("Leader", "running"),
            member("Replica", "streaming"),
            member("Replica", "streaming"),
        ];
        let good = ClusterStatus { quorum: true, members, ..ClusterStatus::default() };
        assert!(healthy(&good, 3, SyncArg::Off));
        assert!(!healthy(&good, 4, SyncArg::Off), "a member is missing");
        let mut bad = good.clone();
        bad.not_writable_because = "no lease".to_owned();
        assert!(!healthy(&bad, 3, SyncArg::Off));
        let mut bad = good.clone();
        bad.members[2].state = "starting".to_owned();
        assert!(!healthy(&bad, 3, SyncArg::Off));
        let mut bad = good;
        bad.members[1].role = "Leader".to_owned();
        assert!(!healthy(&bad, 3, SyncArg::Off));
    }
}
