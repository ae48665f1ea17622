//! kill -9 of random processes, one after the other, from a printed seed.
//!
//! `COUNT` kills (15 unless it is set; `make kills` does 200), `SEED` to repeat a run.

use std::time::Duration;

use anyhow::{Context, Result};
use howdah_tests::{Cluster, Member, Options, wait_for};
use nix::sys::signal::Signal;

/// A small generator: the same seed gives the same victims.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap_or(0) % sides
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Process id of the victim.
fn pick(member: &Member, kind: &str, dice: &mut Dice) -> Result<i32> {
    match kind {
        "agent" => member.agent(),
        "guard" => member.guard(),
        "postmaster" => member.postmaster(),
        _ => {
            let postmaster = member.postmaster()?;
            let processes = member.processes();
            let below: Vec<i32> =
                processes.iter().filter(|p| p.parent == postmaster).map(|p| p.pid).collect();
            below.get(dice.throw(below.len().max(1))).copied().context("no backend")
        }
    }
}

#[tokio::test]
async fn kills() -> Result<()> {
    let count = number("COUNT").unwrap_or(15);
    let seed = number("SEED").unwrap_or(u64::from(std::process::id()));
    println!("SEED={seed} COUNT={count}");
    let mut dice = Dice(seed);
    let mut cluster = Cluster::healthy("kills", Options::default()).await?;
    for round in 1..=count {
        let index = dice.throw(3);
        let kind = ["agent", "guard", "postmaster", "backend"][dice.throw(4)];
        let member = &cluster.members[index];
        // What was killed before may be on its way back: the picture that was whole was a moment old.
        // And a session may have ended by itself between the look and the signal: then another one.
        let victim = wait_for("a victim was killed", Duration::from_secs(30), || async {
            let victim = pick(member, kind, &mut Dice(dice.0))?;
            member.signal(victim, Signal::SIGKILL)?;
            Ok(victim)
        })
        .await?;
        dice.throw(1);
        println!("{round}: kill -9 of {}'s {kind} ({victim})", member.name);
        if kind == "guard" {
            // The service manager's part: what is left ends by itself, then it is started again.
            let member = &mut cluster.members[index];
            member.ended(Duration::from_secs(5)).await?;
            wait_for("its ports are free", Duration::from_secs(10), || async {
                let address = member.control();
                std::net::TcpListener::bind(&address).map(drop).context(address)
            })
            .await?;
            cluster.start(index)?;
        }
        cluster
            .settle(Duration::from_secs(30))
            .await
            .with_context(|| format!("SEED={seed}, after kill {round}"))?;
    }
    cluster.check_logs()
}
