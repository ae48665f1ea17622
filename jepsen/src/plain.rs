//! A control: the same clients and checkers on one plain PostgreSQL, which is killed, stopped and bothered.
//! It has one copy of everything and nobody to agree with, so that whatever is found there is a fault of
//! clients or checkers.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use howdah_tests::dice::Dice;
use howdah_tests::member::all_processes;
use howdah_tests::{Fault, Ground, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::crew::{Crew, Seat, Seats, tables};
use crate::nemesis::{Nemesis, bother};
use crate::run::{Outcome, Plan, System, prepare, weather};

const WHOLE: Duration = Duration::from_secs(60);
/// What clients do goes on for at most this long, and so does a stop.
const SHORT: Duration = Duration::from_secs(5);

/// What there is to be struck.
const KINDS: [Nemesis; 6] = [
    Nemesis::Member(Fault::Postmaster),
    Nemesis::Member(Fault::Backend),
    Nemesis::Member(Fault::PostmasterStopped),
    Nemesis::Cancel,
    Nemesis::Checkpoints,
    Nemesis::Flood,
];

struct Plain {
    ground: Ground,
    server: Option<Child>,
}

/// Runs it; everything is written into `dir`.
///
/// # Errors
/// If PostgreSQL cannot be set up.
pub async fn run(plan: Plan, dir: &Path) -> Result<Outcome> {
    prepare(&plan, dir)?;
    let mut plain = Plain { ground: Ground::new("storm-plain")?, server: None };
    plain.make()?;
    plain.start()?;
    plain.settle().await?;
    plain.psql(&format!(
        "CREATE ROLE tester LOGIN PASSWORD '{}'; {}",
        howdah_tests::cluster::PASSWORD,
        tables()
    ))?;
    let seat = Seat {
        name: "plain".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: plain.ground.port,
        door: None,
        netns: None,
    };
    let crew = Crew::start(
        &Seats { members: vec![seat], clients: None, balancer: None, through_doors: false },
        dir,
        plan.seed,
    )?;
    let weathered = weather(&plan, &KINDS, &mut plain, crew, dir).await?;
    let versions = plain.psql("SELECT 'PostgreSQL ' || current_setting('server_version')")?;
    if weathered.whole {
        plain.kill();
        // Backends of the killed server still write while they end.
        wait_for("its directory is gone", WHOLE, || async {
            Ok(std::fs::remove_dir_all(&plain.ground.dir)?)
        })
        .await?;
    }
    Ok(weathered.outcome(plan, versions))
}

impl Plain {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.ground.bin_dir.join(program));
        if let Some((uid, gid)) = self.ground.user {
            command.uid(uid).gid(gid);
        }
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn make(&self) -> Result<()> {
        let output = self
            .command("initdb")
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--data-checksums", "-D"])
            .arg(self.ground.dir.join("data"))
            .output()
            .context("initdb")?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.ground.dir.join("log"))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.ground.dir.join("data"));
        command.args(["-p", &self.ground.port.to_string(), "-k"]).arg(&self.ground.dir);
        command.stdout(log.try_clone()?).stderr(log);
        self.server = Some(command.spawn().context("start postgres")?);
        Ok(())
    }

    fn postmaster(&self) -> Result<i32> {
        Ok(i32::try_from(self.server.as_ref().context("it is down")?.id())?)
    }

    fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// It refuses to start while backends of its last life are there, which end by themselves.
    async fn start_again(&mut self) -> Result<()> {
        let end = std::time::Instant::now() + WHOLE;
        while std::time::Instant::now() < end {
            self.start()?;
            let began = wait_for("it answers", SHORT, || async { self.psql("SELECT 1") }).await;
            if began.is_ok() {
                return Ok(());
            }
            self.kill();
        }
        bail!("it does not start; see {}", self.ground.dir.join("log").display())
    }

    fn psql_command(&self, sql: &str) -> Command {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]);
        command.args(["-d", "postgres", "-p", &self.ground.port.to_string(), "-c", sql, "-h"]);
        command.arg(&self.ground.dir).env("PGCONNECT_TIMEOUT", "3");
        command
    }

    fn psql(&self, sql: &str) -> Result<String> {
        let output = self.psql_command(sql).output().context("psql")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl System for Plain {
    fn names(&self) -> Vec<String> {
        vec!["plain".to_owned()]
    }

    fn patience(&self) -> Duration {
        WHOLE
    }

    async fn settle(&self) -> Result<usize> {
        wait_for("it answers", WHOLE, || async { self.psql("SELECT 1") }).await.map(|_| 0)
    }

    async fn candidate(&self, _: usize) -> Result<usize> {
        bail!("there is nobody to hand over to")
    }

    async fn befall(
        &mut self,
        fault: Nemesis,
        _: usize,
        length: Duration,
        dice: &mut Dice,
    ) -> Result<Option<String>> {
        let postmaster = self.postmaster()?;
        match fault {
            Nemesis::Member(Fault::Postmaster) => {
                self.kill();
                self.start_again().await?;
            }
            Nemesis::Member(Fault::PostmasterStopped) => {
                kill(Pid::from_raw(postmaster), Signal::SIGSTOP)?;
                tokio::time::sleep(length.min(SHORT)).await;
                kill(Pid::from_raw(postmaster), Signal::SIGCONT)?;
            }
            Nemesis::Member(Fault::Backend) => {
                let all = all_processes();
                let below: Vec<i32> =
                    all.iter().filter(|one| one.parent == postmaster).map(|one| one.pid).collect();
                let victim = below.get(dice.throw(below.len().max(1))).context("no backend")?;
                // It may have ended by itself meanwhile.
                let _ = kill(Pid::from_raw(*victim), Signal::SIGKILL);
            }
            _ => bother(fault, |sql| self.psql_command(sql), length.min(SHORT)).await?,
        }
        Ok(None)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.kill();
    }
}
