//! Synchronous replication under one fault after the other, with a checker over every write: nothing that
//! was acknowledged is lost, appended twice or out of order.
//!
//! `FAULTS` or `MINUTES` (6 faults unless set; `make durable` runs for an hour), `SEED` to repeat a run, `MODE`
//! (`quorum`, or `on`; always strict). With root, in network namespaces, so that members can be cut off.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_tests::checks::{acks_again, first_acks, lost, misplaced};
use howdah_tests::dice::{Dice, number};
use howdah_tests::net::Net;
use howdah_tests::writer::longest_gap;
use howdah_tests::{Ack, Cluster, Fault, Options, Writer, wait_for};

const SETTLE: Duration = Duration::from_secs(90);
/// Shorter and longer than a lease of 5 s, and than three of them.
const LENGTHS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(16));

/// How long the run goes on.
struct Limit {
    faults: u64,
    end: Option<Instant>,
}

impl Limit {
    fn from_environment() -> Self {
        let end =
            number("MINUTES").map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
        let faults = number("FAULTS").unwrap_or(if end.is_some() { u64::MAX } else { 6 });
        Self { faults, end }
    }

    fn goes_on(&self, done: u64) -> bool {
        done < self.faults && self.end.is_none_or(|end| Instant::now() < end)
    }
}

/// Both workloads.
struct Writers {
    rows: Writer,
    lists: Writer,
}

impl Writers {
    fn start(cluster: &Cluster) -> Self {
        Self { rows: Writer::start(cluster), lists: Writer::appending(cluster) }
    }

    fn acks(&self) -> Vec<Ack> {
        [self.rows.acks(), self.lists.acks()].concat()
    }

    async fn nothing_is_wrong(&self, cluster: &Cluster) -> Result<()> {
        // What is acknowledged from here on need not be there yet.
        let (rows, lists) = (self.rows.acks(), self.lists.acks());
        let lost = lost(cluster, &rows).await?;
        ensure!(lost.is_empty(), "{} acknowledged writes are missing: {lost:?}", lost.len());
        let wrong = misplaced(cluster, &lists).await?;
        ensure!(wrong.is_empty(), "{} of the lists' elements: {wrong:?}", wrong.len());
        Ok(())
    }
}

/// One fault, of who leads half of the time; the longest time without an acknowledgement.
async fn one_fault(
    cluster: &mut Cluster,
    net: Option<&Net>,
    writers: &Writers,
    fault: Fault,
    dice: &mut Dice,
) -> Result<Duration> {
    let leader = cluster.settle(SETTLE).await?;
    // Nobody else may take over.
    let standbys = wait_for("commits wait for somebody", SETTLE, || async {
        let standbys = cluster.waited_for().await?;
        ensure!(!standbys.is_empty(), "for nobody");
        Ok(standbys)
    })
    .await?;
    let index = match fault {
        Fault::Switchover | Fault::ReceiverStopped => standbys[dice.throw(standbys.len())],
        _ if dice.throw(2) == 0 => (leader + 1 + dice.throw(2)) % 3,
        _ => leader,
    };
    let length = dice.between(LENGTHS.0, LENGTHS.1);
    let (name, seconds) = (cluster.members[index].name.clone(), length.as_secs_f64());
    let leads = if index == leader { ", who leads" } else { "" };
    println!("{fault:?} of {name}{leads}, {seconds:.1} s where it takes time");
    let began = Instant::now();
    fault.befall(cluster, net, index, length, dice).await?;
    cluster.settle(SETTLE).await?;
    acks_again(&writers.rows, Instant::now()).await?;
    acks_again(&writers.lists, Instant::now()).await?;
    Ok(longest_gap(&writers.acks(), began, Instant::now()))
}

fn tell(gaps: &mut BTreeMap<Fault, Vec<Duration>>) {
    for (fault, gaps) in gaps {
        gaps.sort();
        let (median, worst) = (gaps[gaps.len() / 2].as_millis(), gaps[gaps.len() - 1].as_millis());
        println!("{fault:?}: {} times, {median} ms without a write, {worst} at worst", gaps.len());
    }
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_whatever_happens() -> Result<()> {
    let seed = number("SEED").unwrap_or(u64::from(std::process::id()));
    let mode = std::env::var("MODE").unwrap_or_else(|_| "quorum".into());
    println!("SEED={seed} MODE={mode}");
    let (mut dice, limit, options) =
        (Dice(seed), Limit::from_environment(), Options::synchronous(&mode, true));
    let net = if Net::possible() { Some(Net::new(3)?) } else { None };
    let mut cluster = match &net {
        Some(net) => Cluster::in_network("durable", options, net)?,
        None => Cluster::new("durable", options)?,
    };
    cluster.start_all().await?;
    let leader = cluster.leader().await?;
    cluster.members[leader].psql(
        "CREATE TABLE lists (k bigint PRIMARY KEY, v bigint[] NOT NULL); GRANT ALL ON lists TO tester",
    )?;
    let writers = Writers::start(&cluster);
    first_acks(&writers.rows, 50).await?;
    first_acks(&writers.lists, 50).await?;
    let mut gaps: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
    let kinds: Vec<Fault> =
        Fault::ALL.into_iter().filter(|fault| net.is_some() || *fault != Fault::Cut).collect();
    let mut done = 0;
    while limit.goes_on(done) {
        done += 1;
        let fault = kinds[dice.throw(kinds.len())];
        let gap = one_fault(&mut cluster, net.as_ref(), &writers, fault, &mut dice)
            .await
            .with_context(|| format!("SEED={seed}, fault {done}: {fault:?}"))?;
        gaps.entry(fault).or_default().push(gap);
        println!("{done}: {} ms without a write, {} in all", gap.as_millis(), writers.acks().len());
        if done % 10 == 0 {
            writers.nothing_is_wrong(&cluster).await.with_context(|| format!("SEED={seed}"))?;
        }
    }
    let acks = writers.acks().len();
    writers.nothing_is_wrong(&cluster).await.with_context(|| format!("SEED={seed}"))?;
    tell(&mut gaps);
    println!("{done} faults of {} kinds, {acks} acknowledged writes, none lost", gaps.len());
    ensure!(acks > 100, "only {acks} writes were acknowledged");
    cluster.check_logs()
}
