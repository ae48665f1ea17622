//! `local`: what a member knows of itself, as a script sets it.

use std::collections::BTreeMap;
use std::error::Error;

use howdah_core::sync::{Demand, Standby};
use howdah_core::view::{
    ClusterData, DataView, Failure, Job, LeaseView, PgView, RunningPg, Stopping, SyncView,
};
use howdah_core::{DataId, Epoch, Incarnation, Lsn};

use super::commands::{SYSTEM, data_at, fork};
use super::parse::Args;
use super::world::{MemberWorld, World};

type Output = Result<String, Box<dyn Error>>;

impl World {
    /// `n2:0/4000000,n3`: who streams, and what they have flushed.
    fn standbys(&self, text: Option<&str>) -> Result<BTreeMap<Standby, Lsn>, Box<dyn Error>> {
        let mut standbys = BTreeMap::new();
        for one in text.unwrap_or_default().split(',').filter(|one| !one.is_empty()) {
            let (name, lsn) = one.split_once(':').unwrap_or((one, "0/3000000"));
            let (_, standby) = self.some_of(&format!("0/{name}"))?;
            standbys.extend(standby.into_iter().zip([lsn.parse::<Lsn>()?]));
        }
        Ok(standbys)
    }

    /// `[standbys=n2:0/4000000] [demand=1/n2,n3] [proven=0/3000000]`, for a primary.
    fn replication(
        &self,
        args: &mut Args<'_>,
    ) -> Result<(BTreeMap<Standby, Lsn>, SyncView), Box<dyn Error>> {
        let standbys = self.standbys(args.text("standbys"))?;
        let demand = match args.text("demand") {
            None => Demand::nobody(),
            Some("blocked") => Demand::blocked(),
            Some(text) => {
                let (acks, standbys) = self.some_of(text)?;
                Demand { acks, standbys }
            }
        };
        let alone_since = standbys.is_empty().then_some(self.now);
        let in_force_at = args.lsn("proven")?;
        Ok((standbys, SyncView { demand: Some(demand), in_force_at, alone_since }))
    }

    /// `local n2 [standby|primary|stopped|starting|hung|unknown] [key=value ...]`
    pub(super) fn local(&mut self, args: &mut Args<'_>) -> Output {
        let name = args.member()?;
        let (now, system) = (self.now, args.number("system")?.unwrap_or(SYSTEM));
        let mut pg = RunningPg { open: true, has_upstream: true, ..RunningPg::default() };
        (pg.standbys, pg.sync) = self.replication(args)?;
        // Unless a script says otherwise, nothing is on its way.
        let settled = args.number("settled")?.unwrap_or(self.state.sync.generation());
        let world = self.member(&name)?;
        world.local.sync_settled = Some(settled);
        let mut running = false;
        while let Some(word) = args.word() {
            match word {
                "standby" => (running, pg.in_recovery) = (true, true),
                "primary" => (running, pg.has_upstream) = (true, false),
                "stopped" => world.local.pg = PgView::Stopped,
                "starting" => world.local.pg = PgView::Starting,
                "hung" => world.local.pg = PgView::Hung,
                "unknown" => world.local.pg = PgView::Unknown,
                "streaming" => pg.streaming = true,
                "isolated" => (pg.has_upstream, pg.open) = (false, false),
                "barred" => pg.open = false,
                "reinit" => world.local.reinit = true,
                "restart" => world.local.restart = true,
                "restarted-pg" => world.local.restart = false,
                "unprepared" => world.local.primary_prepared = false,
                "unchecked" => world.local.checkpointed = false,
                "prepared" => {
                    (world.local.primary_prepared, world.local.checkpointed) = (true, true)
                }
                "unanswered" => {
                    (world.lease.renewal_sent, world.lease.renewing) = (Some(now), false);
                }
                "renewing" => world.lease.renewing = true,
                "restarted" => {
                    world.lease = LeaseView { record_seen: now, ..LeaseView::default() };
                    world.node.started = now;
                    world.local.promise_proven = None;
                }
                "well" => world.local.failed = None,
                other => return Err(format!("no state `{other}`").into()),
            }
        }
        if let Some(life) = args.number("life")? {
            world.node.incarnation = Incarnation(life);
            world.lease.own_renewal = false;
            world.lease.deadline = None;
            world.lease.armed = None;
            world.lease.record_seen = now;
            world.node.started = now;
        }
        if let Some(id) = args.number("id")? {
            world.local.data_id = DataId(id);
        }
        world.oldest_wal = args.lsn("oldest")?.or(world.oldest_wal);
        fill(world, args, now, system)?;
        if running {
            if let Some(text) = args.text("following") {
                let (leader, epoch) = text.split_once('/').ok_or("following=MEMBER/EPOCH")?;
                pg.following = Some((leader.into(), Epoch(epoch.parse()?)));
            }
            pg.authority = args.epoch("authority")?;
            if let DataView::Cluster(ClusterData { disk_end: Some(end), .. }) = &world.local.data {
                (pg.timeline, pg.received, pg.replayed) = (end.timeline, end.lsn, end.lsn);
            }
            world.local.pg = PgView::Running(pg);
        }
        world.local.pg_since = now;
        Ok(String::new())
    }
}

fn fill(
    world: &mut MemberWorld,
    args: &mut Args<'_>,
    now: howdah_core::BootInstant,
    system: u64,
) -> Result<(), Box<dyn Error>> {
    if let Some(promise) = args.epoch("promise")? {
        world.local.promise = promise;
        world.local.promise_proven = Some(promise);
    }
    if let Some(end) = args.position("at")? {
        let data = ClusterData { history: fork(args)?, ..data_at(end) };
        world.local.data = DataView::Cluster(ClusterData { system_identifier: system, ..data });
    }
    match args.text("data") {
        Some("empty") => world.local.data = DataView::Empty,
        Some("half") => world.local.data = DataView::HalfDone,
        Some("unknown") => world.local.data = DataView::Unknown,
        Some("no-hints") => {
            if let DataView::Cluster(data) = &mut world.local.data {
                data.can_rewind = false;
            }
        }
        Some("shut-down") => {
            if let DataView::Cluster(data) = &mut world.local.data {
                data.shutdown_end = data.disk_end.map(|end| end.lsn);
            }
        }
        Some("unreadable") => {
            if let DataView::Cluster(data) = &mut world.local.data {
                data.disk_end = None;
            }
        }
        Some(other) => world.local.data = DataView::Unusable(other.to_owned()),
        None => {}
    }
    world.local.job = args.text("job").map(job).transpose()?;
    if let Some(text) = args.text("failed") {
        let (name, count) = text.split_once('/').unwrap_or((text, "1"));
        let why = "the script says so".to_owned();
        world.local.failed = Some(Failure { job: job(name)?, at: now, count: count.parse()?, why });
    }
    match args.text("stopping") {
        Some("orderly") => world.node.stopping = Stopping::Orderly,
        Some("fast") => world.node.stopping = Stopping::Fast,
        Some(other) => return Err(format!("stopping={other}?").into()),
        None => {}
    }
    if world.node.stopping != Stopping::No && world.node.stopping_since.0 == 0 {
        world.node.stopping_since = now;
    }
    if let Some(epoch) = args.epoch("fell")? {
        world.local.bar_only = Some(epoch);
    }
    Ok(())
}

fn job(name: &str) -> Result<Job, String> {
    Ok(match name {
        "start" => Job::Start,
        "in-place" => Job::StartInPlace,
        "initdb" => Job::Initdb,
        "promise" => Job::Promise,
        "promote" => Job::Promote,
        "follow" => Job::Follow,
        "rewind" => Job::Rewind,
        "clone" => Job::Clone,
        "doors" => Job::Doors,
        "prepare" => Job::Prepare,
        "hand-over" => Job::HandOver,
        "sync" => Job::Sync,
        other => return Err(format!("no job `{other}`")),
    })
}
