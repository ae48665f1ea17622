//! Machines that lose their power: what an answer was given for had been written through.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use howdah_tests::checks::{acks_again, first_acks, lost};
use howdah_tests::{Cluster, Machine, Options, Writer};

const SETTLE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn when_all_machines_lose_power_at_once_no_acknowledged_write_is_lost() -> Result<()> {
    let mut cluster = Cluster::new("blackout", Options::synchronous("quorum", true))?;
    let machines = Machine::prepare(&mut cluster, 600)?;
    if machines.is_empty() {
        return Ok(());
    }
    cluster.start_all().await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    let all: Vec<usize> = (0..cluster.members.len()).collect();
    for time in 1..=3 {
        let epoch = cluster.status().await?.epoch;
        Machine::lose_power(&mut cluster, &machines, &all)?;
        let acks = writer.acks();
        for index in &all {
            cluster.start(*index)?;
        }
        cluster.settle(SETTLE).await?;
        let now = cluster.status().await?.epoch;
        ensure!(now >= epoch, "time {time}: the log went back, from epoch {epoch} to {now}");
        let lost = lost(&cluster, &acks).await?;
        ensure!(lost.is_empty(), "time {time}: {} of {} lost: {lost:?}", lost.len(), acks.len());
        acks_again(&writer, Instant::now()).await?;
    }
    cluster.check_logs()
}
