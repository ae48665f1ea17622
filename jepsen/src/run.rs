//! One run: a cluster, its clients, one fault after the other, and what the checkers say at the end.
//!
//! Killed half way: the histories so far and the schedule stand in the run's directory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_tests::dice::Dice;
use howdah_tests::net::Net;
use howdah_tests::{Cluster, Disks, Haproxy, Machine, Options, wait_for};
use serde::{Deserialize, Serialize};

use crate::check::gaps::{Band, longest};
use crate::check::{Anomaly, Verdict, lost};
use crate::crew::{Crew, Histories, Seat, Seats, tables};
use crate::judge::judge;
use crate::nemesis::{Nemesis, Stage, Target, WHOLE};
use crate::progress::Progress;
use crate::schedule::{Cycle, Schedule};
use crate::{evidence, shrink, whole};

/// So many bytes may be lost where replication is asynchronous: `maximum_lag_on_failover`, and what these
/// clients write from the last renewal to the end of the lease, a switch to another segment included.
const LOST: u64 = (1 << 20) + (24 << 20);
/// Room for the data of a member, megabytes: a flood of WAL fits.
const VOLUME: u64 = 3072;
/// A run is expected to acknowledge so much a second in its quiet times, per client that can.
const LEAST_PER_SECOND: f64 = 20.0;

/// How a run is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Whence faults, their targets and their lengths follow.
    pub seed: u64,
    /// How long faults go on.
    pub length: Duration,
    /// `synchronous_mode`: off, on or quorum; strict where not off.
    pub mode: String,
    /// Members.
    pub members: u16,
    /// What it is let loose on: howdah, patroni or postgres.
    #[serde(default = "howdah")]
    pub against: String,
    /// A negative control: what keeps its members honest and is switched off, see [`WITHOUT`].
    #[serde(default)]
    pub without: Vec<String>,
    /// How clients reach it: direct, or through howdah's doors.
    #[serde(default = "direct")]
    pub through: String,
    /// What is done, where it is not drawn from the seed; then `length` is only what is shown.
    #[serde(default)]
    pub cycles: Option<Vec<Cycle>>,
}

impl Plan {
    /// What `howdah-storm` is told for such a run, but for its seed's fellows, schedule and directory.
    pub fn arguments(&self) -> Vec<String> {
        let minutes = self.length.as_secs_f64() / 60.0;
        let mut arguments = vec!["run".to_owned()];
        let mut add = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        add("--seed", self.seed.to_string());
        add("--mode", self.mode.clone());
        add("--members", self.members.to_string());
        add("--against", self.against.clone());
        add("--through", self.through.clone());
        add("--minutes", minutes.to_string());
        for what in &self.without {
            add("--without", what.clone());
        }
        arguments
    }
}

/// What can be switched off, and the variable of a member's environment that does it. All but the guard's
/// deadline takes a binary that is built with the feature `sabotage`.
pub const WITHOUT: [(&str, &str, &str); 4] = [
    ("guard", "HOWDAH_TEST_GUARD_DISABLED", "1"),
    ("store-sync", "HOWDAH_TEST_STORE_UNSYNCED", "1"),
    ("promise", "HOWDAH_TEST_RAIL_OFF", "promise"),
    ("barrier", "HOWDAH_TEST_RAIL_OFF", "barrier"),
];

fn direct() -> String {
    "direct".to_owned()
}

fn howdah() -> String {
    "howdah".to_owned()
}

/// One fault of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    pub fault: String,
    /// Another one at the same time, and whom that befell.
    pub beside: Option<String>,
    /// Whom it befell.
    pub member: String,
    /// Whether that member led.
    pub led: bool,
    /// When it began, nanoseconds since the run's begin.
    pub from: u64,
    /// When the cluster was whole again.
    pub to: u64,
    /// The longest time without an acknowledgement.
    pub outage: Duration,
}

/// What came of a run.
pub struct Outcome {
    /// How it was made.
    pub plan: Plan,
    /// Its faults.
    pub faults: Vec<Done>,
    /// What each checker says.
    pub verdicts: Vec<(String, Verdict)>,
    /// All histories.
    pub histories: Histories,
    /// What could not be done on this machine.
    pub skipped: Vec<String>,
    /// Of what ran.
    pub versions: String,
}

/// What the storm is let loose on.
pub trait System {
    /// Its members.
    fn names(&self) -> Vec<String>;

    /// After a fault it is whole again within this time, or something is wrong.
    fn patience(&self) -> Duration;

    /// Waits until it is whole; who leads.
    fn settle(&self) -> impl Future<Output = Result<usize>>;

    /// Who can be handed the leadership: `wanted`, where it is up to nobody.
    fn candidate(&self, wanted: usize) -> impl Future<Output = Result<usize>>;

    /// Does a fault to a member, and undoes it; beside it another one, now and then, whose name is given.
    fn befall(
        &mut self,
        fault: Nemesis,
        index: usize,
        length: Duration,
        dice: &mut Dice,
    ) -> impl Future<Output = Result<Option<String>>>;
}

/// Runs it on clusters of howdah; everything is written into `dir`.
///
/// # Errors
/// If the cluster did not come up, or cannot be asked at the end.
pub async fn run(plan: Plan, dir: &Path) -> Result<Outcome> {
    prepare(&plan, dir)?;
    let net = if Net::possible() { Some(Net::new(plan.members)?) } else { None };
    let options = options(&plan);
    let mut cluster = match &net {
        Some(net) => Cluster::in_network("storm", options, net)?,
        None => Cluster::new("storm", options)?,
    };
    let machines = Machine::prepare(&mut cluster, VOLUME)?;
    let disks = Disks::prepare(&mut cluster)?;
    let can = [net.is_some(), !machines.is_empty(), disks.is_some()];
    let (kinds, mut skipped) = kinds(can, &plan.mode);
    for one in &skipped {
        println!("SKIPPED {one}");
    }
    cluster.start_all().await?;
    let leader = cluster.leader().await?;
    cluster.members[leader].psql(&tables())?;
    let clients = net.as_ref().map(|net| net.name(Net::CLIENTS));
    let through_doors = plan.through == "doors";
    let balancer = match through_doors {
        true => None,
        false => Haproxy::start(&cluster, clients.as_deref())?,
    };
    if balancer.is_none() && !through_doors {
        skipped.push("clients of a load balancer: haproxy is not installed".to_owned());
    }
    let balancer = balancer.as_ref().map(|balancer| balancer.write);
    let crew = Crew::start(
        &Seats { balancer, through_doors, ..seats(&cluster, clients) },
        dir,
        plan.seed,
    )?;
    let mut stage = Stage {
        cluster: &mut cluster,
        net: net.as_ref(),
        machines: &machines,
        disks: disks.as_ref(),
    };
    let weathered = weather(&plan, &kinds, &mut stage, crew, dir).await?;
    let mut verdicts = weathered.verdicts;
    let versions = versions(&cluster)?;
    if weathered.whole {
        let whole = whole::look(&cluster, &weathered.faults, WHOLE).await?;
        verdicts.extend(whole.verdicts);
        if plan.mode == "off" {
            let kept = whole::kept(&cluster).await?;
            let verdict = lost::check(&weathered.histories.set, &kept, LOST);
            verdicts.push(("lost, and listed".to_owned(), verdict));
        }
        skipped.extend(whole.skipped);
    }
    if verdicts.iter().all(|(_, verdict)| verdict.is_good()) {
        cluster.passed();
    } else {
        evidence::keep(&cluster, dir)?;
    }
    let (faults, histories) = (weathered.faults, weathered.histories);
    Ok(Outcome { plan, faults, verdicts, histories, skipped, versions })
}

/// Makes the run's directory, and writes down what will be done.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn prepare(plan: &Plan, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(std::fs::write(dir.join("plan.json"), serde_json::to_string_pretty(plan)?)?)
}

fn seats(cluster: &Cluster, clients: Option<String>) -> Seats {
    let seat = |member: &howdah_tests::Member| Seat {
        name: member.name.clone(),
        host: member.host.clone(),
        port: member.pg_port,
        door: Some(member.write_port),
        netns: member.netns.clone(),
    };
    Seats {
        members: cluster.members.iter().map(seat).collect(),
        clients,
        balancer: None,
        through_doors: false,
    }
}

/// What came of the faults.
pub(crate) struct Weathered {
    pub faults: Vec<Done>,
    pub verdicts: Vec<(String, Verdict)>,
    pub histories: Histories,
    /// It was whole at the end.
    pub whole: bool,
}

impl Weathered {
    /// Where nothing else is looked at.
    pub fn outcome(self, plan: Plan, versions: String) -> Outcome {
        let Self { faults, verdicts, histories, .. } = self;
        Outcome { plan, faults, verdicts, histories, skipped: Vec::new(), versions }
    }
}

/// One fault after the other, and what clients saw. A system that does not become whole again is judged by
/// what was seen until then.
pub(crate) async fn weather(
    plan: &Plan,
    kinds: &[Nemesis],
    system: &mut impl System,
    crew: Crew,
    dir: &Path,
) -> Result<Weathered> {
    let mut schedule = match &plan.cycles {
        Some(cycles) => Schedule::given(cycles, kinds).map_err(anyhow::Error::msg)?,
        None => Schedule::drawn(plan.seed, kinds),
    };
    let quiet = quiet_rate(&crew).await?;
    println!("{quiet:.0} acknowledgements a second without faults");
    let mut done = Vec::new();
    let file = dir.join(shrink::SCHEDULE);
    let ended = faults(plan, &mut schedule, &file, system, &crew, &mut done).await;
    let ended = match ended {
        Ok(()) => system.settle().await.map(|_| ()),
        Err(why) => Err(why),
    };
    let began = crew.began;
    let histories = crew.finish(ended.is_ok()).await?;
    let expected = quiet * began.elapsed().as_secs_f64() / 4.0;
    let mut verdicts = judge(&histories, expected as usize, &plan.mode);
    let whole = ended.is_ok();
    verdicts.push(("whole after each fault".to_owned(), was_whole(ended, done.len())));
    Ok(Weathered { faults: done, verdicts, histories, whole })
}

fn was_whole(ended: Result<()>, faults: usize) -> Verdict {
    match ended {
        Ok(()) => Verdict::Good(format!("{faults} faults")),
        Err(why) => {
            let text = format!("{why:#}");
            Verdict::Bad(vec![Anomaly { kind: "not-whole", text, events: Vec::new() }])
        }
    }
}

/// By their programs: a cluster that does not become whole may have no server to ask.
fn versions(cluster: &Cluster) -> Result<String> {
    let first = |program: &Path| -> Result<String> {
        let output = std::process::Command::new(program).arg("--version").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let ground = &cluster.ground;
    Ok(format!("{}, {}", first(&ground.howdah)?, first(&ground.bin_dir.join("postgres"))?))
}

/// What this machine can do, and what it cannot, with why.
fn kinds([net, volumes, disks]: [bool; 3], mode: &str) -> (Vec<Nemesis>, Vec<String>) {
    let (mut kinds, mut skipped) = (Vec::new(), Vec::new());
    for one in Nemesis::all() {
        match one.lacks(net, volumes, disks) {
            None if mode == "off" && one == Nemesis::Wiped => {
                skipped
                    .push(format!("{}: nobody could list what went with the machine", one.name()));
            }
            None => kinds.push(one),
            Some(lacks) => skipped.push(format!("{}: no {lacks}", one.name())),
        }
    }
    if mode == "off" {
        let why = "where replication is asynchronous a failover may take writes back";
        skipped.push(format!("append, register, bank, counter: {why}"));
    }
    (kinds, skipped)
}

fn options(plan: &Plan) -> Options {
    let mut options = match plan.mode.as_str() {
        "off" => Options::default(),
        mode => Options::synchronous(mode, true),
    };
    options.members = plan.members;
    for (what, variable, value) in WITHOUT {
        if plan.without.iter().any(|one| one == what) {
            options.env.insert(variable.to_owned(), value.to_owned());
        }
    }
    options
}

/// Acknowledgements a second while nothing is broken.
async fn quiet_rate(crew: &Crew) -> Result<f64> {
    const WATCHED: Duration = Duration::from_secs(5);
    wait_for("clients are served", Duration::from_secs(20), || async {
        ensure!(crew.acks() > 100, "{} acknowledgements so far", crew.acks());
        Ok(())
    })
    .await?;
    let (before, began) = (crew.acks(), Instant::now());
    tokio::time::sleep(WATCHED).await;
    let rate = (crew.acks() - before) as f64 / began.elapsed().as_secs_f64();
    ensure!(rate >= LEAST_PER_SECOND, "only {rate:.0} acknowledgements a second without any fault");
    Ok(rate)
}

async fn faults(
    plan: &Plan,
    schedule: &mut Schedule,
    file: &Path,
    system: &mut impl System,
    crew: &Crew,
    done: &mut Vec<Done>,
) -> Result<()> {
    let (end, progress) = (Instant::now() + plan.length, Progress::new(plan.length));
    let (endless, mut begun) = (!schedule.ends(), Vec::new());
    while !endless || Instant::now() < end {
        let Some(cycle) = schedule.next() else { break };
        begun.push(cycle.clone());
        // Before it begins: the one that a run breaks off in is the one that is looked for.
        std::fs::write(file, serde_json::to_string_pretty(&begun)?)?;
        let nth = done.len() + 1;
        let counted = || format!("fault {nth}, {} acknowledgements", crew.acks());
        let one = progress.during(one_fault(system, crew, &cycle), counted).await;
        let one = one
            .with_context(|| format!("fault {nth}: {}; seed {}", cycle.fault.name(), plan.seed))?;
        println!("{}", told(&one, crew.began.elapsed()));
        done.push(one);
    }
    Ok(())
}

/// One line about a fault that is over.
fn told(one: &Done, at: Duration) -> String {
    let beside = one.beside.as_ref().map_or_else(String::new, |other| format!(", beside {other}"));
    format!(
        "{:4.0} s  {:17} {}{}{beside}: {} ms without an acknowledgement",
        at.as_secs_f64(),
        one.fault,
        one.member,
        if one.led { ", who led" } else { "" },
        one.outage.as_millis()
    )
}

async fn one_fault(system: &mut impl System, crew: &Crew, cycle: &Cycle) -> Result<Done> {
    let (fault, mut dice) = (cycle.fault, Dice(cycle.number));
    let (names, leader) = (system.names(), system.settle().await?);
    let other = (leader + 1 + dice.throw(names.len().max(2) - 1)) % names.len();
    let index = match fault.target() {
        Target::Candidate => system.candidate(other).await?,
        Target::Standby => other,
        Target::Leader => leader,
        Target::Anybody if dice.throw(2) == 0 => other,
        Target::Anybody => leader,
    };
    let now = || u64::try_from(crew.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let from = now();
    let beside = system.befall(fault, index, cycle.length(), &mut dice).await?;
    system.settle().await?;
    let served = now();
    wait_for("clients are served again", system.patience(), || async {
        ensure!(crew.acked_since(served).last().is_some_and(|last| *last > served), "nobody is");
        Ok(())
    })
    .await?;
    let band = Band { fault: fault.name(), from, to: now() };
    Ok(Done {
        member: names[index].clone(),
        led: index == leader,
        beside,
        outage: longest(&crew.acked_since(from), &band),
        fault: band.fault,
        from,
        to: band.to,
    })
}

/// Directory of a run that was not given one.
pub fn default_dir(seed: u64) -> PathBuf {
    PathBuf::from("/var/tmp").join(format!("howdah-storm-{seed}"))
}
