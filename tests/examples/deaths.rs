//! `make deaths`: in the midst of a change of leader an agent dies, at each point between a decision and its effect
//! in turn. What holds after each: the cluster becomes whole, nothing acknowledged is lost, and every server
//! that left recovery had been granted its timeline.
//!
//! Needs a binary that is built with the feature `sabotage`; ends with 1 if a point was not reached. `POINT` does
//! one of them alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_tests::checks::{acks_again, first_acks, lost};
use howdah_tests::{Cluster, Options, Writer, wait_for};

const SETTLE: Duration = Duration::from_secs(90);
/// A point is reached within this time.
const REACHED: Duration = Duration::from_secs(30);

/// What brings members to a point.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// A planned hand-over.
    Switchover,
    /// The leader's machine dies.
    Failover,
}

/// In the order in which a change of leader comes by, as `howdah_agent::death` is told.
const POINTS: [(&str, Way); 31] = [
    ("HandOver begun", Way::Switchover),
    ("HandOver stopped", Way::Switchover),
    ("HandOver taken", Way::Switchover),
    ("HandOver done", Way::Switchover),
    ("open proposed", Way::Failover),
    ("open committed", Way::Failover),
    ("ballot begun", Way::Failover),
    ("ballot promised", Way::Failover),
    ("ballot committed", Way::Failover),
    ("close proposed", Way::Failover),
    ("close committed", Way::Failover),
    ("Promise begun", Way::Switchover),
    ("Promise on disk", Way::Failover),
    ("Promise done", Way::Switchover),
    ("Promote begun", Way::Failover),
    ("Promote barred", Way::Switchover),
    ("Promote reserved", Way::Failover),
    ("Promote reserved", Way::Switchover),
    ("Promote asked", Way::Failover),
    ("Promote left", Way::Switchover),
    ("Promote left", Way::Failover),
    ("Promote done", Way::Failover),
    ("timeline begun", Way::Switchover),
    ("timeline committed", Way::Failover),
    ("Sync begun", Way::Failover),
    ("Sync done", Way::Switchover),
    ("sync proposed", Way::Failover),
    ("sync committed", Way::Switchover),
    ("Doors begun", Way::Failover),
    ("Doors done", Way::Switchover),
    ("Prepare begun", Way::Failover),
];

/// The file that says where to die; whoever takes it away does.
struct Trap(PathBuf);

impl Trap {
    fn new(cluster: &mut Cluster) -> Result<Self> {
        let dir = cluster.ground.dir.join("trap");
        fs::create_dir_all(&dir)?;
        // Members run as another user.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
        let file = dir.join("point");
        for member in &mut cluster.members {
            member.env.insert("HOWDAH_TEST_DIE_AT".to_owned(), file.display().to_string());
        }
        Ok(Self(file))
    }

    fn set(&self, point: &str) -> Result<()> {
        let fresh = self.0.with_extension("fresh");
        fs::write(&fresh, point)?;
        Ok(fs::rename(&fresh, &self.0)?)
    }

    async fn sprung(&self) -> Result<()> {
        wait_for("the point is reached", REACHED, || async {
            ensure!(!self.0.exists(), "nobody came by");
            Ok(())
        })
        .await
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

/// One change of leader, in which somebody dies.
async fn one(cluster: &mut Cluster, trap: &Trap, writer: &Writer, at: (&str, Way)) -> Result<f64> {
    let (point, way) = at;
    let leader = cluster.settle(SETTLE).await?;
    let standbys: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    cluster.synchronous(&standbys, SETTLE).await?;
    trap.set(point)?;
    let began = Instant::now();
    match way {
        Way::Switchover => {
            // It may well be refused or broken off: somebody dies.
            let to = cluster.members[standbys[0]].name.clone();
            let _ = cluster.switchover(&to).await;
        }
        Way::Failover => cluster.members[leader].kill_node(),
    }
    trap.sprung().await?;
    if let Way::Failover = way {
        cluster.other_leader(leader, SETTLE).await?;
        cluster.start(leader)?;
    }
    cluster.settle(SETTLE).await?;
    acks_again(writer, Instant::now()).await?;
    let seconds = began.elapsed().as_secs_f64();
    let acks = writer.acks();
    let lost = lost(cluster, &acks).await?;
    ensure!(lost.is_empty(), "{} of {} acknowledged writes lost", lost.len(), acks.len());
    granted(cluster).await?;
    Ok(seconds)
}

/// Every timeline that a server is on is one that the log records, and the log's chain is PostgreSQL's own.
async fn granted(cluster: &Cluster) -> Result<()> {
    let leader = cluster.leader().await?;
    let log = cluster.client(leader)?.log(howdah_rpc::control::LogRequest {}).await?.into_inner();
    let recorded: Vec<u32> = log.timelines.iter().map(|one| one.timeline).collect();
    for member in &cluster.members {
        let at = member.psql("SELECT timeline_id FROM pg_control_checkpoint()")?;
        let at: u32 = at.parse().with_context(|| format!("{}: {at}", member.name))?;
        ensure!(
            recorded.contains(&at),
            "{} is on timeline {at}; granted: {recorded:?}",
            member.name
        );
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let alone = std::env::var("POINT").ok();
    let mut cluster = Cluster::new("deaths", Options::synchronous("quorum", true))?;
    let trap = Trap::new(&mut cluster)?;
    cluster.start_all().await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    let mut missed = 0;
    let points = POINTS.iter().filter(|(point, _)| alone.as_ref().is_none_or(|one| one == point));
    for (point, way) in points {
        let done = one(&mut cluster, &trap, &writer, (point, *way)).await;
        match done {
            Ok(seconds) => println!("{point:20} {way:?}: whole after {seconds:.1} s"),
            Err(why) if trap.path().exists() => {
                println!("{point:20} {way:?}: not reached: {why:#}");
                fs::remove_file(trap.path())?;
                missed += 1;
            }
            Err(why) => return Err(why.context(format!("{point}, {way:?}"))),
        }
    }
    println!("{} writes acknowledged, none lost; {missed} points not reached", writer.acks().len());
    cluster.check_logs()?;
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
