//! kill -9 of random processes, one after the other, from a printed seed.
//!
//! `COUNT` kills (15 unless it is set; `make kills` does 200), `SEED` to repeat a run.

use std::time::Duration;

use anyhow::{Context, Result};
use howdah_tests::dice::{Dice, number};
use howdah_tests::{Cluster, Fault, Options};

const KINDS: [Fault; 4] = [Fault::Agent, Fault::Guard, Fault::Postmaster, Fault::Backend];

#[tokio::test]
async fn kills() -> Result<()> {
    let count = number("COUNT").unwrap_or(15);
    let seed = number("SEED").unwrap_or(u64::from(std::process::id()));
    println!("SEED={seed} COUNT={count}");
    let mut dice = Dice(seed);
    let mut cluster = Cluster::healthy("kills", Options::default()).await?;
    for round in 1..=count {
        let index = dice.throw(3);
        let kind = KINDS[dice.throw(KINDS.len())];
        println!("{round}: {kind:?} of {}", cluster.members[index].name);
        let healed = async {
            kind.befall(&mut cluster, None, index, Duration::ZERO, &mut dice).await?;
            cluster.settle(Duration::from_secs(30)).await
        };
        healed.await.with_context(|| format!("SEED={seed}, kill {round}"))?;
    }
    cluster.check_logs()
}
