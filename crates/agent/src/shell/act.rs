//! Hands actions out, and takes news in.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use howdah_core::view::{DataView, Job, Stopping};
use howdah_core::{
    Action, BootInstant, ClusterState, Command, Decision, Epoch, LeaderRecord, Nonce, Outcome,
    Reason, Timings,
};
use howdah_guard::wire::Event;

use super::{Arming, Context, End, ForGuard, News, Proposal, Shell};
use crate::death;
use crate::elephant::{JobError, JobOutput};
use crate::jobs;
use crate::troubles::Kind;

/// Pause after a refused proposal.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause between two looks at data that could not be read.
const INSPECT_AGAIN: Duration = Duration::from_secs(5);

impl Shell {
    /// Takes in the applied state: the lease's clock, and what the guard must be told.
    pub(super) fn take_in(&mut self, state: &Arc<ClusterState>) {
        let now = self.context.clock.boot();
        let profile = self.context.config.profile;
        let fallback = self.context.timings;
        let limit = |record: &LeaderRecord| {
            let ttl = Duration::from_millis(record.ttl_ms);
            Timings::for_profile(profile, ttl).unwrap_or(fallback).holder
        };
        let arming = self.lease.take_in(state, &self.context.me, limit, now);
        self.context.elephant.set_state(state.clone());
        // The receiver's last WAL is waited for. Once it holds the lease its jobs see for themselves,
        // and looks would only take processor time from them.
        let holds = state.held().is_some_and(|record| record.holder == self.context.me);
        let receives = state.switchover.as_ref().is_some_and(|s| s.to == self.context.me);
        let flushes =
            matches!(self.last_reason, Some(Reason::AwaitsFlush(_) | Reason::AwaitsStandbys));
        self.context.elephant.hurry(receives && !holds || state.election.is_some() || flushes);
        let (context, outbox) = (self.context.clone(), self.outbox.clone());
        let arming = match arming {
            None => return,
            Some(ForGuard::Arm(arming)) => arming,
            Some(ForGuard::Disarm { epoch, renewals }) => {
                tokio::spawn(async move {
                    if let Err(why) = context.elephant.disarm_for(epoch, renewals).await {
                        tracing::warn!(why, "the guard keeps a deadline in maintenance mode");
                    }
                });
                return;
            }
        };
        tokio::spawn(async move {
            let result = context.elephant.arm(arming).await;
            let (epoch, deadline, sent) = (arming.epoch, arming.deadline, arming.sent);
            let _ = outbox.send(News::Armed { epoch, deadline, sent, result });
        });
    }

    /// Begins one action.
    pub(super) fn act(&mut self, state: &ClusterState, action: &Action) {
        if let Some(job) = job_of(action)
            && job != Job::Kill
            && self.local.job().is_some()
        {
            return;
        }
        match action.clone() {
            Action::Renew { epoch, paused } => self.renew(state, epoch, paused),
            Action::Propose(command) => self.propose(*command),
            Action::Vote { epoch, barred, bar_only } => self.vote(epoch, barred, bar_only),
            Action::RecordTimeline { epoch, timeline } => self.record(epoch, timeline),
            Action::End => self.end = Some(End::Orderly),
            Action::Kill if self.local.job() == Some(Job::Kill) => {}
            Action::HandOver { epoch, to } => {
                self.begin(Job::HandOver, move |context, outbox| async move {
                    jobs::hand_over::run(&context, &outbox, epoch, to).await
                });
            }
            other => {
                if let Action::Promote { epoch, .. } = other {
                    self.local.may_become_primary(epoch);
                }
                let job = job_of(&other).unwrap_or(Job::Kill);
                self.begin(job, move |context, _| async move { jobs::run(&context, other).await });
            }
        }
    }

    pub(super) fn begin<F, T>(&mut self, job: Job, work: F)
    where
        F: FnOnce(Arc<Context>, tokio::sync::mpsc::UnboundedSender<News>) -> T,
        T: Future<Output = Result<JobOutput, JobError>> + Send + 'static,
    {
        let (context, outbox) = (self.context.clone(), self.outbox.clone());
        let work = work(context, outbox.clone());
        tracing::debug!(%job, "begins");
        self.local.begin(job, |number| {
            let task = tokio::spawn(async move {
                death::of_job(job, "begun");
                let result = work.await;
                death::of_job(job, "done");
                let _ = outbox.send(News::JobEnded { number, job, result });
            });
            task.abort_handle()
        });
    }

    fn renew(&mut self, state: &ClusterState, epoch: Epoch, paused: bool) {
        let nonce = Nonce(rand::random());
        let now = self.context.clock.boot();
        self.lease.sending(nonce, now);
        let written = self.local.seen().filter(|seen| !seen.in_recovery).map(|seen| seen.received);
        let command = Command::Renew {
            epoch,
            incarnation: self.lease.incarnation,
            nonce,
            ttl_ms: state.settings.ttl_ms,
            wal_lsn: written.unwrap_or_default(),
            paused,
            seen: state.held().map_or(0, |record| record.renewals),
        };
        // Out of maintenance mode: the guard has its deadline before anybody may count on it.
        let first = state.held().filter(|record| record.paused && !paused).map(|record| Arming {
            epoch,
            renewals: record.renewals + 1,
            sent: now,
            deadline: now + self.context.timings.holder,
        });
        let (context, outbox) = (self.context.clone(), self.outbox.clone());
        let limit = self.context.timings.renew_every;
        tokio::spawn(async move {
            let armed = match first {
                Some(arming) => context.elephant.arm_first(arming).await,
                None => Ok(()),
            };
            let result = match armed {
                Ok(()) => put(&context, command, limit).await,
                Err(why) => Err(format!("the guard took no deadline: {why}")),
            };
            if result.is_ok() {
                context.counters.renewals.observe(context.clock.boot().since(now));
            }
            let _ = outbox.send(News::RenewalEnded(result));
        });
    }

    /// Puts a command into the log, one of each kind at a time.
    fn propose(&mut self, command: Command) {
        let kind = kind(&command);
        let now = self.context.clock.boot();
        match self.proposals.get(kind) {
            Some(Proposal::UnderWay) => return,
            Some(Proposal::NotBefore(instant)) if now < *instant => return,
            Some(Proposal::NotBefore(_)) | None => {}
        }
        let gives_up = matches!(command, Command::Release { .. } | Command::TakeBack { .. });
        if gives_up {
            self.lease.withhold(now);
        }
        if let (Command::Release { epoch, .. }, Some(Reason::GivesUp { .. })) =
            (&command, &self.last_reason)
        {
            self.local.fell_under(*epoch);
        }
        let brings = command.brings_generation();
        if brings.is_some() {
            self.local.sync_settled = None;
        }
        self.proposals.insert(kind, Proposal::UnderWay);
        let (context, outbox) = (self.context.clone(), self.outbox.clone());
        let limit = self.context.timings.ttl / 2;
        let command = command.stamped(self.context.clock.wall());
        tokio::spawn(async move {
            death::point(kind, "proposed");
            let result = put(&context, command, limit).await;
            death::point(kind, "committed");
            if let (Ok(()), Some(generation)) = (&result, brings) {
                let _ = outbox.send(News::SyncSettled(generation));
            }
            let _ = outbox.send(News::Proposed { kind, result });
        });
    }

    /// Votes with the end of the WAL on disk, read now.
    fn vote(&mut self, epoch: Epoch, barred: Option<String>, bar_only: bool) {
        if !self.free("ballot") {
            return;
        }
        let (context, outbox) = (self.context.clone(), self.outbox.clone());
        let incarnation = self.lease.incarnation;
        tokio::spawn(async move {
            let vote = jobs::vote::Vote { epoch, barred, bar_only, incarnation };
            death::point("ballot", "begun");
            let result = jobs::vote::cast(&context, vote).await;
            death::point("ballot", "committed");
            let _ = outbox.send(News::Proposed { kind: "ballot", result });
        });
    }

    fn record(&mut self, epoch: Epoch, timeline: howdah_core::Timeline) {
        if !self.free("timeline") {
            return;
        }
        let (context, outbox) = (self.context.clone(), self.outbox.clone());
        let incarnation = self.lease.incarnation;
        tokio::spawn(async move {
            death::point("timeline", "begun");
            let result = jobs::promote::record(&context, epoch, incarnation, timeline).await;
            death::point("timeline", "committed");
            let _ = outbox.send(News::Proposed { kind: "timeline", result });
        });
    }

    /// Whether a proposal of this kind may go out now; marks it as under way.
    fn free(&mut self, kind: &'static str) -> bool {
        let now = self.context.clock.boot();
        let free = match self.proposals.get(kind) {
            Some(Proposal::UnderWay) => false,
            Some(Proposal::NotBefore(instant)) => now >= *instant,
            None => true,
        };
        if free {
            self.proposals.insert(kind, Proposal::UnderWay);
        }
        free
    }

    /// Takes one piece of news in.
    pub(super) fn take(&mut self, news: News) {
        let now = self.context.clock.boot();
        match news {
            News::Guard(event) => self.guard_says(event),
            News::Observed(observed) => {
                self.local.observed(observed, now);
                if std::mem::take(&mut self.local.began_to_stream) {
                    let context = self.context.clone();
                    tokio::spawn(async move {
                        if let Err(why) = jobs::data::forget_old(&context).await {
                            tracing::warn!(%why, "what a copy replaced cannot be removed");
                        }
                    });
                }
            }
            News::Inspected(data) => {
                if self.local.job().is_none() {
                    self.inspected(data, now);
                }
            }
            News::JobEnded { number, job: _, result } => self.job_ended(number, result),
            News::Proposed { kind, result } => {
                self.proposals.remove(kind);
                if let Err(why) = result {
                    tracing::debug!(kind, why, "refused");
                    self.proposals.insert(kind, Proposal::NotBefore(now + PAUSE));
                }
            }
            News::SyncSettled(generation) => self.local.sync_settled = Some(generation),
            News::RenewalEnded(result) => {
                self.lease.renewing = false;
                if let Err(why) = result {
                    tracing::warn!(why, "a renewal was not committed");
                }
            }
            News::Withhold => {
                self.lease.withhold(now);
                // The hand-over has proven that the server is gone; its exit may be told later than
                // the transfer is applied, and would look like one that writes without the lease.
                self.local.exited(now);
            }
            News::Armed { epoch, deadline, sent, result } => match result {
                Ok(()) => self.lease.armed(epoch, deadline, sent),
                Err(why) => tracing::warn!(why, "the guard refused a deadline"),
            },
        }
    }

    /// Has the data directory looked at, if that is due and nothing is being done to it.
    pub(super) fn inspect_if_due(&mut self) {
        let now = self.context.clock.boot();
        let again = self.local.inspect_again.is_some_and(|at| at <= now);
        if !(self.local.inspect || again) || self.local.job().is_some() {
            return;
        }
        self.local.inspect = false;
        if again {
            self.local.inspect_again = Some(now + INSPECT_AGAIN);
        }
        let (context, outbox) = (self.context.clone(), self.outbox.clone());
        let running = self.local.pid().is_some();
        tokio::spawn(async move {
            let data = context.elephant.inspect(running).await;
            let _ = outbox.send(News::Inspected(data));
        });
    }

    /// What cannot be read is nobody's to touch, and whoever holds a lease over it steps down; but the
    /// agent stays, and takes up again what a person mends.
    fn inspected(&mut self, data: Result<DataView, JobError>, now: BootInstant) {
        self.local.inspect_again = data.is_err().then(|| now + INSPECT_AGAIN);
        self.local.data = data.unwrap_or_else(|why| DataView::Unusable(why.to_string()));
    }

    fn job_ended(&mut self, number: u64, result: Result<JobOutput, JobError>) {
        let now = self.context.clock.boot();
        let result = result.map_err(|err| err.to_string());
        self.context.elephant.troubles.set(Kind::Promotion, None);
        match self.local.ended(number, result, now) {
            Some((job, Err(why))) => tracing::warn!(%job, why, "failed"),
            Some((Job::Rewind, Ok(()))) => self.context.counters.rewound(),
            Some((Job::Clone, Ok(()))) => self.context.counters.cloned(),
            Some((job, Ok(()))) => tracing::debug!(%job, "done"),
            None => {}
        }
        self.context.elephant.look_soon();
    }

    /// Once may be chance; what fails again needs a person's eye.
    pub(super) fn tell_what_fails(&self) {
        let failed = self.local.failed().filter(|failed| failed.count >= 2);
        let text = failed
            .map(|failed| format!("{} failed {} times: {}", failed.job, failed.count, failed.why));
        self.context.elephant.troubles.set(Kind::Failing, text);
    }

    /// Commits that wait for somebody who is not there, and commits that wait for nobody though they
    /// should, are no errors, and yet a person wants to know of them.
    pub(super) fn tell_of_sync(&self, decision: &Decision) {
        let alone = matches!(decision.reason, Reason::LeadsAlone(_)).then(|| {
            "commits wait for nobody, since no standby streams: what is written now would be lost \
             with this member (synchronous_mode_strict would have writes wait instead)"
                .to_owned()
        });
        let waits = self.local.writes_wait().filter(|_| self.local.open());
        self.context.elephant.troubles.set(Kind::Sync, waits.or(alone));
    }

    fn guard_says(&mut self, event: Event) {
        let now = self.context.clock.boot();
        match event {
            Event::PostmasterExited { pid, status, .. } => {
                if self.local.pid().is_none_or(|known| known == pid) {
                    tracing::info!(pid, status, "PostgreSQL ended");
                    self.local.exited(now);
                }
            }
            Event::DeadlineFired { epoch, new_incarnation, .. } => {
                tracing::error!(%epoch, "the lease ran out: the guard killed PostgreSQL");
                self.lease.incarnation = new_incarnation;
                self.lease.lose();
                self.local.abort_job();
                self.local.exited(now);
            }
            Event::Vip { held, trouble } => {
                self.context.counters.vip_held(held);
                self.context.elephant.troubles.set(Kind::Vip, trouble);
            }
            Event::Terminate { fast } => {
                if self.stopping == Stopping::No {
                    self.stopping_since = now;
                }
                self.stopping = if fast { Stopping::Fast } else { Stopping::Orderly };
            }
            Event::GuardGone => self.end = Some(End::GuardGone),
            Event::Reload => self.reload(None),
            Event::Reexec => {
                tracing::info!("restart howdah to use another program file");
            }
        }
    }
}

/// Which job an action is; none: it is done beside jobs.
fn job_of(action: &Action) -> Option<Job> {
    Some(match action {
        Action::Renew { .. }
        | Action::Propose(_)
        | Action::Vote { .. }
        | Action::RecordTimeline { .. }
        | Action::End => return None,
        Action::Kill => Job::Kill,
        Action::Stop => Job::Stop,
        Action::StopToRestart => Job::Restart,
        Action::StartIsolated => Job::Start,
        Action::StartInPlace { .. } => Job::StartInPlace,
        Action::Initdb { .. } => Job::Initdb,
        Action::Promise { .. } => Job::Promise,
        Action::Promote { .. } => Job::Promote,
        Action::Follow { .. } => Job::Follow,
        Action::Rewind { .. } => Job::Rewind,
        Action::Clone { .. } => Job::Clone,
        Action::PreparePrimary { .. } => Job::Prepare,
        Action::Open { .. } => Job::Doors,
        Action::SetDemand { .. } => Job::Sync,
        Action::HandOver { .. } => Job::HandOver,
    })
}

/// Puts a command into the log and says why it was not applied.
pub(crate) async fn put(
    context: &Context,
    command: Command,
    limit: Duration,
) -> Result<(), String> {
    match context.node.propose(command, limit).await {
        Ok(proposed) => match proposed.outcome {
            Outcome::Applied => Ok(()),
            Outcome::Rejected(why) => Err(why.to_string()),
        },
        Err(why) => Err(why.to_string()),
    }
}

fn kind(command: &Command) -> &'static str {
    match command {
        Command::Release { .. } => "release",
        Command::OpenElection { .. } => "open",
        Command::CloseElection { .. } => "close",
        Command::GrantBootstrap { .. } => "grant-bootstrap",
        Command::FinishBootstrap { .. } => "finish-bootstrap",
        Command::RequestSwitchover { .. } => "switchover",
        Command::CancelSwitchover { .. } => "cancel-switchover",
        Command::TakeBack { .. } => "take-back",
        Command::ChangeSync { .. } | Command::Barrier { .. } => "sync",
        Command::SetPause { .. } => "pause",
        Command::SetFence { .. } => "fence",
        _ => "other",
    }
}
