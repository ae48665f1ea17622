//! What this member knows of its own PostgreSQL and data.

use std::time::Duration;

use howdah_core::sync::Demand;
use howdah_core::view::{
    ClusterData, DataView, Failure, Job, LocalView, PgView, RunningPg, SyncView,
};
use howdah_core::{BootInstant, DataId, Epoch, Lsn, MemberName, Position};
use tokio::task::AbortHandle;

use crate::elephant::{Adopted, JobOutput, Observed, Seen, Sight};

/// A job under way.
#[derive(Debug)]
struct Running {
    number: u64,
    job: Job,
    abort: AbortHandle,
}

/// The server as it was last seen.
#[derive(Debug, Default)]
struct Server {
    pid: Option<i32>,
    seen: Option<Seen>,
    /// The last look found no stream where there had been one, and counts as one that did.
    forgiven: bool,
    /// Since when fresh connections get no answer.
    silent_since: Option<BootInstant>,
    authority: Option<Epoch>,
    following: Option<(MemberName, Epoch)>,
    open: bool,
    /// What was proven to be in force, and since which position.
    in_force: Option<(Demand, Lsn)>,
    /// Since when nobody streams from here.
    alone_since: Option<BootInstant>,
    /// Since when too few of those that commits wait for are here.
    waits_since: Option<BootInstant>,
}

/// What this member knows of its own PostgreSQL and data.
#[derive(Debug)]
pub struct Local {
    server: Server,
    server_known: bool,
    since: BootInstant,
    /// What the data directory holds.
    pub data: DataView,
    /// Contents id.
    pub data_id: DataId,
    /// Lowest epoch that is followed.
    pub promise: Epoch,
    promise_proven: Option<Epoch>,
    running: Option<Running>,
    numbers: u64,
    failed: Option<Failure>,
    /// Copies that failed since it streamed or served last, whatever else failed between them: each of
    /// them costs the leader a checkpoint.
    copies_failed: u32,
    bar_only: Option<Epoch>,
    /// An operator wants a fresh copy.
    pub reinit: bool,
    /// An operator wants a restart.
    pub restart: bool,
    primary_prepared: bool,
    checkpointed: bool,
    /// The data directory is to be looked at.
    pub inspect: bool,
    /// It could not be read; then it is looked at again.
    pub inspect_again: Option<BootInstant>,
    /// A stream has just begun: what a copy replaced can go.
    pub began_to_stream: bool,
    /// Generation of the last change of whom commits wait for, if this process brought it and has
    /// proposed none since.
    pub sync_settled: Option<u64>,
}

impl Local {
    /// Nothing known yet.
    pub fn new(now: BootInstant) -> Self {
        Self {
            server: Server::default(),
            server_known: false,
            since: now,
            data: DataView::Unknown,
            data_id: DataId::default(),
            promise: Epoch::default(),
            promise_proven: None,
            running: None,
            numbers: 0,
            failed: None,
            copies_failed: 0,
            bar_only: None,
            reinit: false,
            restart: false,
            primary_prepared: false,
            checkpointed: false,
            inspect: true,
            inspect_again: None,
            began_to_stream: false,
            sync_settled: None,
        }
    }

    /// Takes over what an earlier agent left.
    pub fn adopt(&mut self, adopted: &Adopted, now: BootInstant) {
        self.server = Server {
            pid: adopted.pid,
            authority: adopted.authority,
            open: adopted.open && adopted.pid.is_some(),
            in_force: adopted.in_force.clone(),
            ..Server::default()
        };
        (self.data_id, self.promise) = (adopted.data_id, adopted.promise);
        (self.server_known, self.since) = (true, now);
    }

    /// Process id of the postmaster.
    pub fn pid(&self) -> Option<i32> {
        self.server.pid
    }

    /// Whether it is known that no server runs.
    pub fn is_stopped(&self) -> bool {
        self.server_known && self.server.pid.is_none()
    }

    /// What was last seen of the server.
    pub fn seen(&self) -> Option<&Seen> {
        self.server.seen.as_ref()
    }

    /// The server ended.
    pub fn exited(&mut self, now: BootInstant) {
        if self.server.pid.is_some() || !self.server_known {
            self.since = now;
        }
        self.server = Server::default();
        self.server_known = true;
        self.data = DataView::Unknown;
        self.inspect = true;
        self.inspect_again = None;
        self.primary_prepared = false;
        self.checkpointed = false;
    }

    /// Takes in a look at the server; one at an earlier server means nothing.
    pub fn observed(&mut self, observed: Observed, now: BootInstant) {
        if self.server.pid != Some(observed.pid) {
            return;
        }
        match observed.sight {
            Sight::Answer(mut seen) => {
                // Without a walreceiver a standby names the timeline of its last restart point; it
                // never goes back to an older one than its disk was seen to hold.
                let known = self.cluster().and_then(|data| data.disk_end).unwrap_or_default();
                if seen.in_recovery && seen.timeline < known.timeline {
                    seen.timeline = known.timeline;
                    seen.history = self.cluster().map(|d| d.history.clone()).unwrap_or_default();
                }
                // A walsender that is ended so that it takes a new setting is back within a moment: one look
                // in vain is no loss of the stream, and no reason to refuse a switchover.
                let streamed = self.server.seen.as_ref().is_some_and(|old| old.streaming);
                let forgiven =
                    seen.in_recovery && streamed && !seen.streaming && !self.server.forgiven;
                self.server.forgiven = forgiven;
                seen.streaming |= forgiven;
                if self.server.seen.is_none() {
                    self.since = now;
                }
                let fresh = self.server.seen.as_ref().is_some_and(|old| {
                    old.streaming != seen.streaming || old.received < seen.received
                });
                if fresh {
                    // Something comes: the patience for a stream begins anew.
                    self.since = now;
                }
                if let DataView::Cluster(data) = &mut self.data {
                    let known = data.disk_end.unwrap_or_default();
                    let end = Position { timeline: seen.timeline, lsn: seen.received };
                    // A standby that has just been started reports less than its disk holds.
                    let newer = end.timeline > known.timeline
                        || (end.timeline == known.timeline && end.lsn > known.lsn);
                    if newer {
                        data.disk_end = Some(end);
                        data.history.clone_from(&seen.history);
                    }
                }
                self.server.silent_since = None;
                if seen.streaming || !seen.in_recovery {
                    // It streams or serves: what failed before is over.
                    self.copies_failed = 0;
                    self.failed = self.failed.take().filter(|failed| {
                        !matches!(failed.job, Job::Start | Job::StartInPlace | Job::Follow)
                    });
                }
                self.began_to_stream |=
                    seen.streaming && self.server.seen.as_ref().is_none_or(|old| !old.streaming);
                self.saw(*seen, now);
            }
            Sight::StartingUp => self.server.silent_since = None,
            Sight::Alive => self.server.silent_since = None,
            Sight::Silent => {
                self.server.silent_since.get_or_insert(observed.asked);
            }
        }
    }

    fn saw(&mut self, seen: Seen, now: BootInstant) {
        let server = &mut self.server;
        server.alone_since = seen.standbys.is_empty().then(|| server.alone_since.unwrap_or(now));
        let waits = short_of(&seen).is_some();
        server.waits_since = waits.then(|| server.waits_since.unwrap_or(now));
        // Whoever set something else, by hand even: nothing is proven any more.
        let same = |(demand, _): &(Demand, Lsn)| seen.demand.as_ref() == Some(demand);
        server.in_force = server.in_force.take().filter(same);
        server.seen = Some(seen);
    }

    /// Why commits wait now, and what would end that.
    pub fn writes_wait(&self) -> Option<String> {
        let seen = self.server.seen.as_ref().filter(|_| self.server.pid.is_some())?;
        let short = short_of(seen)?;
        Some(if short.is_empty() {
            "commits wait: no standby streams that they could wait for".to_owned()
        } else {
            format!("commits wait until one of {short} streams again")
        })
    }

    /// For how long they have waited, milliseconds; to a second, so that it does not change all the
    /// time.
    pub fn writes_wait_ms(&self, now: BootInstant) -> u64 {
        self.server.waits_since.map_or(0, |since| now.since(since).as_secs() * 1000)
    }

    /// What `decide` sees.
    pub fn view(&self, now: BootInstant, probe_timeout: Duration) -> LocalView {
        LocalView {
            data: self.data.clone(),
            data_id: self.data_id,
            promise: self.promise,
            promise_proven: self.promise_proven,
            pg: self.pg(now, probe_timeout),
            pg_since: self.since,
            job: self.job(),
            failed: self.failed.clone(),
            bar_only: self.bar_only,
            reinit: self.reinit,
            restart: self.restart,
            primary_prepared: self.primary_prepared,
            checkpointed: self.checkpointed,
            sync_settled: self.sync_settled,
        }
    }

    fn pg(&self, now: BootInstant, probe_timeout: Duration) -> PgView {
        let server = &self.server;
        if !self.server_known {
            return PgView::Unknown;
        }
        if server.pid.is_none() {
            return PgView::Stopped;
        }
        let silent = server.silent_since.is_some_and(|at| now.since(at) >= probe_timeout);
        match &server.seen {
            Some(_) if silent => PgView::Hung,
            None => PgView::Starting,
            Some(seen) => PgView::Running(RunningPg {
                in_recovery: seen.in_recovery,
                following: server.following.clone(),
                has_upstream: seen.has_upstream,
                streaming: seen.streaming,
                timeline: seen.timeline,
                received: seen.received,
                replayed: seen.replayed,
                open: server.open,
                authority: server.authority,
                standbys: seen.standbys.clone(),
                sync: SyncView {
                    demand: seen.demand.clone(),
                    in_force_at: server.in_force.as_ref().map(|(_, since)| *since),
                    alone_since: server.alone_since,
                },
            }),
        }
    }

    /// The server is about to leave recovery under this epoch; it may be seen read-write before the
    /// job says that it is done.
    pub fn may_become_primary(&mut self, epoch: Epoch) {
        self.server.authority = Some(epoch);
    }

    /// The job under way.
    pub fn job(&self) -> Option<Job> {
        self.running.as_ref().map(|running| running.job)
    }

    /// A job begins; the number that its end must carry.
    pub fn begin(&mut self, job: Job, abort: impl FnOnce(u64) -> AbortHandle) {
        self.abort_job();
        self.numbers += 1;
        let number = self.numbers;
        self.running = Some(Running { number, job, abort: abort(number) });
        if matches!(job, Job::Kill | Job::Stop | Job::Restart) {
            return;
        }
        match job {
            Job::Promote | Job::StartInPlace => self.primary_prepared = false,
            Job::Clone | Job::Rewind | Job::Initdb => self.data = DataView::Unknown,
            _ => {}
        }
    }

    /// Ends the job under way, whatever it does.
    pub fn abort_job(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort.abort();
            if matches!(running.job, Job::Clone | Job::Rewind | Job::Initdb) {
                self.inspect = true;
            }
        }
    }

    /// A job ended; an older one's end means nothing.
    pub fn ended(
        &mut self,
        number: u64,
        result: Result<JobOutput, String>,
        now: BootInstant,
    ) -> Option<(Job, Result<(), String>)> {
        let running = self.running.take_if(|running| running.number == number)?;
        let job = running.job;
        if matches!(job, Job::Clone | Job::Rewind | Job::Initdb) {
            self.inspect = true;
            self.data = DataView::Unknown;
        }
        match result {
            Ok(output) => {
                self.succeeded(job, output, now);
                Some((job, Ok(())))
            }
            Err(why) => {
                let count = match &self.failed {
                    _ if job == Job::Clone => self.copies_failed + 1,
                    Some(failed) if failed.job == job => failed.count + 1,
                    _ => 1,
                };
                if job == Job::Clone {
                    self.copies_failed = count;
                }
                self.failed = Some(Failure { job, at: now, count, why: why.clone() });
                Some((job, Err(why)))
            }
        }
    }

    fn succeeded(&mut self, job: Job, output: JobOutput, now: BootInstant) {
        // A server that merely starts has proven nothing yet: its failures are kept until it
        // streams or serves, so that an endless start-and-fall is noticed.
        let keeps = matches!(
            job,
            Job::Start
                | Job::Kill
                | Job::Stop
                | Job::Restart
                | Job::Promise
                | Job::Follow
                | Job::Reload
        );
        if !keeps {
            self.failed = None;
        }
        match output {
            JobOutput::Done => {}
            JobOutput::Started { pid, authority, open, following } => {
                if let Some((_, epoch)) = &following {
                    self.promise = self.promise.max(*epoch);
                }
                self.server =
                    Server { pid: Some(pid), authority, open, following, ..Server::default() };
                (self.server_known, self.since) = (true, now);
                self.promise_proven = None;
                self.restart = false;
            }
            JobOutput::Promised(epoch) => {
                self.promise = self.promise.max(epoch);
                self.promise_proven = Some(epoch);
                self.server.following = None;
                if let Some(seen) = &mut self.server.seen {
                    (seen.has_upstream, seen.streaming) = (false, false);
                }
            }
            JobOutput::Promoted { epoch, seen } => {
                self.server.authority = Some(epoch);
                self.server.open = false;
                self.saw(*seen, now);
                self.since = now;
            }
            JobOutput::DemandInForce { demand, since, seen } => {
                self.server.in_force = Some((demand, since));
                self.saw(*seen, now);
            }
            JobOutput::Followed { leader, epoch } => {
                self.promise = self.promise.max(epoch);
                self.promise_proven = None;
                self.server.following = Some((leader, epoch));
                self.since = now;
                if let Some(seen) = &mut self.server.seen {
                    // What streamed was the former upstream.
                    (seen.has_upstream, seen.streaming) = (true, false);
                }
            }
            JobOutput::Opened => self.server.open = true,
            JobOutput::Prepared => (self.primary_prepared, self.checkpointed) = (true, true),
            JobOutput::FreshData(data_id) => {
                self.data_id = data_id;
                self.reinit = false;
            }
            JobOutput::Stopped => self.exited(now),
        }
    }

    /// What failed last, if nothing better came since.
    pub fn failed(&self) -> Option<&Failure> {
        self.failed.as_ref()
    }

    /// It fell, or could not be started, under its own lease.
    pub fn fell_under(&mut self, epoch: Epoch) {
        self.bar_only = Some(epoch);
    }

    /// What is known of a data directory that holds a cluster.
    pub fn cluster(&self) -> Option<&ClusterData> {
        match &self.data {
            DataView::Cluster(data) => Some(data),
            _ => None,
        }
    }

    /// As whom it streams, and from whom.
    pub fn streaming_epoch(&self) -> Epoch {
        let streams = self.server.seen.as_ref().is_some_and(|seen| seen.streaming);
        let following = self.server.following.as_ref().filter(|_| streams);
        following.map(|(_, epoch)| *epoch).unwrap_or_default()
    }

    /// Clients are admitted.
    pub fn open(&self) -> bool {
        self.server.open
    }

    /// The checkpoint after the promotion is through.
    pub fn checkpointed(&self) -> bool {
        self.checkpointed
    }
}

/// Those that commits wait for and that do not stream, where too few do; none: enough are here.
fn short_of(seen: &Seen) -> Option<String> {
    let demand = seen.demand.as_ref().filter(|_| !seen.in_recovery)?;
    let here = |one: &&howdah_core::sync::Standby| seen.standbys.contains_key(one);
    let missing = || demand.standbys.iter().filter(|one| !here(one));
    let short = demand.standbys.len() - missing().count() < demand.acks;
    short.then(|| howdah_core::sync::names(missing()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: i32 = 4711;

    fn standby() -> Local {
        let mut local = Local::new(BootInstant(0));
        let adopted = Adopted {
            incarnation: Default::default(),
            pid: Some(PID),
            authority: None,
            open: true,
            data_id: DataId::default(),
            promise: Epoch::default(),
            in_force: None,
        };
        local.adopt(&adopted, BootInstant(0));
        local
    }

    /// Whether it counts as streaming after a look that found it so or not.
    fn look(local: &mut Local, streaming: bool) -> bool {
        let seen = Seen { in_recovery: true, streaming, ..Seen::default() };
        let (asked, sight) = (BootInstant(0), Sight::Answer(Box::new(seen)));
        local.observed(Observed { pid: PID, asked, sight }, BootInstant(0));
        local.seen().is_some_and(|seen| seen.streaming)
    }

    #[test]
    fn one_look_in_vain_is_no_loss_of_the_stream_and_two_are() {
        let mut local = standby();
        assert!(!look(&mut local, false), "it never streamed");
        assert!(look(&mut local, true));
        assert!(look(&mut local, false), "forgiven");
        assert!(!look(&mut local, false), "not twice");
        assert!(look(&mut local, true) && look(&mut local, false), "forgiven again");
    }

    #[test]
    fn what_streamed_from_the_former_upstream_says_nothing_of_the_new_one() {
        let mut local = standby();
        assert!(look(&mut local, true));
        let followed = JobOutput::Followed { leader: MemberName::from("n2"), epoch: Epoch(2) };
        local.succeeded(Job::Follow, followed, BootInstant(0));
        assert_eq!(local.streaming_epoch(), Epoch::default());
        assert!(!look(&mut local, false), "nothing came from it yet");
        assert!(look(&mut local, true));
        assert_eq!(local.streaming_epoch(), Epoch(2));
    }
}
