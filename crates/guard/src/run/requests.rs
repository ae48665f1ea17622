//! What the agent asks for. Authority is checked right before each effect.

use std::ffi::OsStr;
use std::os::fd::RawFd;
use std::path::PathBuf;

use howdah_core::Epoch;
use nix::sys::signal::Signal;

use super::Guard;
use super::kill::{Why, send};
use super::link::Link;
use crate::clock::{Reading, boottime_now};
use crate::lock_file;
use crate::log::log;
use crate::procfs::{self, Scan};
use crate::signal_file;
use crate::spawn::{self, Program};
use crate::vip::Keeper;
use crate::wire::{
    Armed, Postmaster, Refusal, Reply, Request, StartPostgres, Status, VERSION, VERSION_MIN,
};

/// Work on the disk that a child does, since a disk may hang.
#[derive(Debug)]
pub(super) struct Errand {
    /// The child, once it was sent.
    pub pid: Option<i32>,
    serial: u64,
    id: u64,
    what: What,
    data_dir: PathBuf,
}

#[derive(Clone, Copy, Debug)]
enum What {
    PutStandbySignal,
    Promote { epoch: Epoch },
}

impl Guard {
    /// Does what is asked; none: the reply comes later.
    pub(super) fn handle(&mut self, id: u64, request: Request) -> Option<Reply> {
        let done = |result: Result<(), Refusal>| match result {
            Ok(()) => Reply::Done,
            Err(why) => Reply::Refused(why),
        };
        Some(match request {
            Request::Hello { version } if version < VERSION_MIN => {
                Reply::Refused(Refusal::Version { version, least: VERSION_MIN })
            }
            Request::Hello { .. } | Request::Status => Reply::Status(self.status()),
            Request::Arm { epoch, renewals, deadline, cut } => {
                let armed = Armed { epoch, renewals, deadline };
                let result = self.lease.arm(armed, cut, Reading::take());
                if result.is_ok() {
                    self.prolong_vip(Some(armed));
                }
                done(result)
            }
            Request::Disarm { epoch, renewals } => {
                let result = self.lease.disarm(epoch, renewals, Reading::take());
                if result.is_ok() {
                    self.prolong_vip(None);
                }
                done(result)
            }
            Request::StartPostgres(start) => match self.start_postgres(start) {
                Ok(pid) => Reply::Started { pid },
                Err(why) => Reply::Refused(why),
            },
            Request::Signal { pid, signal, authority } => done(self.signal(pid, signal, authority)),
            Request::Promote { epoch, data_dir } => {
                let what = What::Promote { epoch };
                match self.may_promote(epoch, &data_dir) {
                    Ok(_) => {
                        return self.queue(Errand {
                            pid: None,
                            serial: self.serial,
                            id,
                            what,
                            data_dir,
                        });
                    }
                    Err(why) => Reply::Refused(why),
                }
            }
            Request::PutStandbySignal { data_dir } => {
                let what = What::PutStandbySignal;
                return self.queue(Errand { pid: None, serial: self.serial, id, what, data_dir });
            }
            Request::KillPostgres => {
                self.kill_postgres(Why::Asked { serial: self.serial, id }, boottime_now());
                return None;
            }
            Request::Processes => self.processes(),
            Request::HoldVip { epoch } => done(self.hold_vip(epoch)),
            Request::DropVip => {
                self.let_vip_go();
                Reply::Done
            }
            Request::Shutdown => {
                self.agent_shuts_down();
                Reply::Done
            }
        })
    }

    fn status(&self) -> Status {
        Status {
            version: VERSION,
            incarnation: self.incarnation,
            armed: self.lease.armed(),
            postmaster: self.postmaster.clone(),
            last_exit: self.last_exit.clone(),
            kill_path: self.kill_path(),
            agent_restarts: self.restarts,
        }
    }

    fn start_postgres(&mut self, start: StartPostgres) -> Result<i32, Refusal> {
        if self.ending.is_final() {
            return Err(Refusal::Ending);
        }
        if self.killing.is_some() {
            return Err(Refusal::Killing);
        }
        if let Some(postmaster) = &self.postmaster {
            return Err(Refusal::Running { pid: postmaster.pid });
        }
        // No server runs, so the disk may hold us up: the child checks the deadline once more.
        let system = |what: &str, error: &dyn std::fmt::Display| Refusal::System {
            what: what.to_owned(),
            error: error.to_string(),
        };
        match lock_file::remove_stale(&start.data_dir) {
            Ok(None) => {}
            Ok(Some(pid)) => log!("postmaster.pid named process {pid}, which is no server of it"),
            // It is PostgreSQL's to say what is wrong with the directory.
            Err(error) => log!("cannot look at postmaster.pid: {error}"),
        }
        let mut not_after = None;
        if let Some(epoch) = start.authority {
            self.lease.authority(epoch, Reading::take())?;
            not_after = self.lease.armed().map(|armed| armed.deadline);
            signal_file::remove_standby(&start.data_dir)
                .map_err(|error| system("remove standby.signal", &error))?;
        } else if !signal_file::standby(&start.data_dir).exists() {
            return Err(Refusal::NoStandbySignal { data_dir: start.data_dir });
        }
        let started = match start.authority {
            Some(epoch) => self.lease.authority(epoch, Reading::take()),
            None => Ok(()),
        };
        let started = started.and_then(|()| {
            let start_instant = boottime_now();
            let pid = self.fork_postmaster(&start, not_after);
            let pid = pid.map_err(|error| system("start PostgreSQL", &error))?;
            Ok((pid, start_instant))
        });
        match started {
            Ok((pid, start_instant)) => {
                let (data_dir, authority) = (start.data_dir, start.authority);
                self.postmaster = Some(Postmaster { pid, start_instant, data_dir, authority });
                Ok(pid)
            }
            Err(why) => {
                if start.authority.is_some()
                    && let Err(error) = signal_file::put_standby(&start.data_dir)
                {
                    log!("cannot put standby.signal back: {error}");
                }
                Err(why)
            }
        }
    }

    fn fork_postmaster(
        &self,
        start: &StartPostgres,
        not_after: Option<howdah_core::BootInstant>,
    ) -> Result<i32, spawn::SpawnError> {
        let env = self.postgres_env.iter().chain(&start.env);
        spawn::spawn(&Program {
            program: &start.program,
            args: start.args.iter().map(OsStr::new).collect(),
            env: env.map(|(name, value)| (name.into(), value.into())).collect(),
            cwd: Some(&start.cwd),
            pass: None,
            close: self.link.iter().map(|link| link.raw()).collect(),
            cgroup: self.cgroup.as_ref(),
            death_signal: Some(Signal::SIGQUIT),
            log: start.log.as_deref(),
            not_after,
        })
    }

    fn signal(&mut self, pid: i32, number: i32, authority: Option<Epoch>) -> Result<(), Refusal> {
        let bad = Refusal::BadSignal { signal: number };
        let signal = Signal::try_from(number).map_err(|_| bad.clone())?;
        let postmaster = self.postmaster.as_ref().ok_or(Refusal::NoPostmaster)?.pid;
        // With the right file beside it this one promotes.
        if pid == postmaster && signal == Signal::SIGUSR1 {
            return Err(bad);
        }
        if pid != postmaster {
            let scan = Scan::take().map_err(|error| Refusal::System {
                what: "list processes".into(),
                error: error.to_string(),
            })?;
            if pid <= 0 || !scan.below(postmaster).contains(&pid) {
                return Err(Refusal::NotOurs { pid });
            }
        }
        if let Some(epoch) = authority {
            self.lease.authority(epoch, Reading::take())?;
        }
        let sent = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        sent.map_err(|error| Refusal::System {
            what: format!("send {signal} to process {pid}"),
            error: error.to_string(),
        })
    }

    /// The postmaster to promote, if that is allowed now.
    fn may_promote(&self, epoch: Epoch, data_dir: &PathBuf) -> Result<i32, Refusal> {
        let postmaster = self.postmaster.as_ref().ok_or(Refusal::NoPostmaster)?;
        if self.killing.is_some() {
            return Err(Refusal::Killing);
        }
        if self.data_dir() != Some(data_dir) {
            return Err(Refusal::WrongDirectory { running: postmaster.data_dir.clone() });
        }
        self.lease.authority(epoch, Reading::take())?;
        Ok(postmaster.pid)
    }

    fn processes(&self) -> Reply {
        let Some(postmaster) = &self.postmaster else {
            return Reply::Refused(Refusal::NoPostmaster);
        };
        match Scan::take() {
            Ok(scan) => {
                let mut pids = scan.below(postmaster.pid);
                pids.sort_unstable();
                pids.insert(0, postmaster.pid);
                Reply::Processes(
                    pids.into_iter().filter_map(|pid| procfs::info(&scan, pid)).collect(),
                )
            }
            Err(error) => Reply::Refused(Refusal::System {
                what: "list processes".into(),
                error: error.to_string(),
            }),
        }
    }

    fn queue(&mut self, errand: Errand) -> Option<Reply> {
        self.errands.push_back(errand);
        self.run_errands();
        None
    }

    /// What would live on in a child that hangs at the disk.
    fn closed_in_errands(&self) -> Vec<RawFd> {
        let keeper = self.address.keeper.as_ref().map(Keeper::raw);
        self.link.iter().map(Link::raw).chain(keeper).collect()
    }

    /// Sends out the next errand if none is under way.
    pub(super) fn run_errands(&mut self) {
        let close = self.closed_in_errands();
        while let Some(errand) = self.errands.front_mut() {
            if errand.pid.is_some() {
                return;
            }
            let data_dir = &errand.data_dir;
            let sent = match errand.what {
                What::PutStandbySignal => {
                    spawn::errand(&close, || signal_file::put_standby(data_dir))
                }
                What::Promote { .. } => {
                    spawn::errand(&close, || signal_file::put_promote(data_dir))
                }
            };
            match sent {
                Ok(pid) => errand.pid = Some(pid),
                Err(error) => {
                    let why = Refusal::System { what: "fork".into(), error: error.to_string() };
                    self.answer_errand(Err(why));
                }
            }
        }
    }

    /// The child of the first errand ended.
    pub(super) fn errand_ended(&mut self, code: Option<i32>) {
        let Some(errand) = self.errands.front() else { return };
        let (what, data_dir) = (errand.what, errand.data_dir.clone());
        let written = match code {
            Some(0) => Ok(()),
            other => Err(Refusal::System {
                what: format!("write into {}", data_dir.display()),
                error: match other {
                    Some(number) => std::io::Error::from_raw_os_error(number).to_string(),
                    None => "the child that wrote was killed".into(),
                },
            }),
        };
        let result = written.and_then(|()| match what {
            What::PutStandbySignal => Ok(()),
            What::Promote { epoch } => self.promote(epoch, &data_dir),
        });
        if result.is_err() && matches!(what, What::Promote { .. }) {
            // A postmaster that starts removes it as well; this is for one that goes on.
            let close = self.closed_in_errands();
            if let Err(error) = spawn::errand(&close, || signal_file::remove_promote(&data_dir)) {
                log!("cannot take the promotion back: {error}");
            }
        }
        self.answer_errand(result);
    }

    fn promote(&mut self, epoch: Epoch, data_dir: &PathBuf) -> Result<(), Refusal> {
        let pid = self.may_promote(epoch, data_dir)?;
        send(pid, Signal::SIGUSR1);
        if let Some(postmaster) = self.postmaster.as_mut() {
            postmaster.authority = Some(epoch);
        }
        Ok(())
    }

    fn answer_errand(&mut self, result: Result<(), Refusal>) {
        if let Some(errand) = self.errands.pop_front() {
            let reply = match result {
                Ok(()) => Reply::Done,
                Err(why) => Reply::Refused(why),
            };
            self.reply(errand.serial, errand.id, reply);
        }
    }
}
