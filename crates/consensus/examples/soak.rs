//! Renews a lease so many times, and looks whether the store's directory stays bounded.
//!
//! `cargo run --example soak -p howdah-consensus -- 1000000 [AT_ONCE]`. Prints rate and sizes; exit
//! code 1 if the directory ever reached 64 MB, or if the state is not there after a restart.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use howdah_consensus::{Node, Options, Timings, directory_size};
use howdah_core::{Command, Epoch, Incarnation, Lsn, MemberName, Nonce, Settings};

const LIMIT_BYTES: u64 = 64 * 1024 * 1024;
const RENEWALS: u64 = 100_000;
/// Proposed at the same time, so that a slow disk does not decide how long this takes.
const AT_ONCE: u64 = 32;
const PATIENCE: Duration = Duration::from_secs(30);

type Failure = Box<dyn std::error::Error>;

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        scope: "soak".to_owned(),
        member: MemberName::from("n1"),
        self_addr: "127.0.0.1:24699".to_owned(),
        partner_addrs: Vec::new(),
        access: howdah_rpc::access::Access::Open,
        timings: Timings {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            rpc_timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_millis(150),
        },
        settings: Settings::default(),
        max_voters: 5,
    }
}

fn renewal(number: u64) -> Command {
    Command::Renew {
        epoch: Epoch(1),
        incarnation: Incarnation(0x1234_5678_9ABC_DEF0),
        nonce: Nonce(number),
        ttl_ms: 5000,
        wal_lsn: Lsn(number * 8192),
        paused: false,
        seen: 0,
    }
}

async fn begin(dir: &Path) -> Result<Node, Failure> {
    let node = Node::open(options(dir)).await?;
    node.start();
    let mut status = node.status_changes();
    tokio::time::timeout(PATIENCE, status.wait_for(|status| status.is_leader)).await??;
    let mut applied = node.applied();
    tokio::time::timeout(PATIENCE, applied.wait_for(|applied| applied.state.cluster_id.0 != 0))
        .await??;
    Ok(node)
}

async fn soak(dir: &Path, renewals: u64, at_once: u64) -> Result<u64, Failure> {
    let node = begin(dir).await?;
    let (began, mut largest, mut done, mut last) = (Instant::now(), 0, 0, 0);
    while done < renewals {
        let many = at_once.min(renewals - done);
        let proposals = (done..done + many).map(|number| node.propose(renewal(number), PATIENCE));
        for proposed in futures::future::join_all(proposals).await {
            last = last.max(proposed?.index);
        }
        done += many;
        if done % (at_once * 50) == 0 || done == renewals {
            largest = largest.max(directory_size(dir)?);
        }
        if done % (at_once * 1000) == 0 || done == renewals {
            let rate = done as f64 / began.elapsed().as_secs_f64();
            let size = directory_size(dir)?;
            println!("{done} renewals, {rate:.0}/s, {size} bytes, at most {largest}");
        }
    }
    node.shutdown().await?;
    drop(node);
    let again = begin(dir).await?;
    let index = again.applied().borrow().index;
    again.shutdown().await?;
    if index < last {
        return Err(format!("{last} entries were acknowledged, {index} are there").into());
    }
    Ok(largest)
}

#[tokio::main]
async fn main() -> ExitCode {
    let number = |at| std::env::args().nth(at).and_then(|text| text.parse::<u64>().ok());
    let (renewals, at_once) = (number(1).unwrap_or(RENEWALS), number(2).unwrap_or(AT_ONCE).max(1));
    let root = std::env::var("HOWDAH_TEST_ROOT").unwrap_or_else(|_| "/var/tmp/howdah-test".into());
    let dir = Path::new(&root).join(format!("soak-{}", std::process::id()));
    let result = soak(&dir, renewals, at_once).await;
    let removed = std::fs::remove_dir_all(&dir);
    match (result, removed) {
        (Ok(largest), _) if largest >= LIMIT_BYTES => {
            eprintln!("the store grew to {largest} bytes; the limit is {LIMIT_BYTES}");
            ExitCode::FAILURE
        }
        (Ok(_), Ok(())) => ExitCode::SUCCESS,
        (Ok(_), Err(error)) => {
            eprintln!("{}: {error}", dir.display());
            ExitCode::FAILURE
        }
        (Err(error), _) => {
            eprintln!("soak failed: {error}");
            ExitCode::FAILURE
        }
    }
}
