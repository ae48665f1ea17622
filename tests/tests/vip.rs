//! The virtual address, on a wire that members and clients share.

use std::time::Duration;

use anyhow::{Result, ensure};
use howdah_tests::cluster::PASSWORD;
use howdah_tests::net::Net;
use howdah_tests::visitor::session;
use howdah_tests::{Cluster, Options, wait_for};
use nix::sys::signal::Signal;

const SETTLE: Duration = Duration::from_secs(60);
const ADDRESS: &str = "10.78.0.200";
/// The same door at each member, or the address would not be enough.
const DOOR: u16 = 5000;

/// A cluster whose doors listen on the address as well, wherever it is.
async fn cluster(test: &str, net: &Net) -> Result<Cluster> {
    let lan = Net::LAN;
    let extra = format!("vip: {{ address: {ADDRESS}/24, interface: {lan} }}\n");
    let mut cluster = Cluster::in_network(test, Options { extra, ..Options::default() }, net)?;
    for member in &cluster.members {
        let file = member.dir.join("howdah.yml");
        let own = format!("read_write: '{}:{}'", member.host, member.write_port);
        let text = std::fs::read_to_string(&file)?;
        ensure!(text.contains(&own), "{text}");
        std::fs::write(&file, text.replace(&own, &format!("read_write: '0.0.0.0:{DOOR}'")))?;
    }
    cluster.start_all().await?;
    Ok(cluster)
}

/// Clients reach this member by the address, and nobody else has it.
async fn leads_to(cluster: &Cluster, net: &Net, index: usize) -> Result<()> {
    let node = u16::try_from(index)? + 1;
    let wanted = cluster.members[index].pg_port.to_string();
    wait_for("the address leads to the primary", Duration::from_secs(15), || async {
        let holders = net.holders(ADDRESS)?;
        ensure!(holders == [node], "nodes {holders:?} have it, {node} leads");
        let mut config = tokio_postgres::Config::new();
        config.host(ADDRESS).port(DOOR).user("tester").password(PASSWORD).dbname("postgres");
        config.connect_timeout(Duration::from_secs(1));
        let row = session(&config).await?.query_one("SELECT current_setting('port')", &[]).await?;
        let port: String = row.get(0);
        ensure!(port == wanted, "it leads to {port}, {wanted} leads");
        Ok(())
    })
    .await
}

/// Nobody but these nodes has the address.
async fn gone_from(net: &Net, node: u16, limit: Duration) -> Result<()> {
    wait_for("the address is gone", limit, || async {
        let holders = net.holders(ADDRESS)?;
        ensure!(!holders.contains(&node), "node {node} has it");
        Ok(())
    })
    .await
}

fn node(index: usize) -> Result<u16> {
    Ok(u16::try_from(index)? + 1)
}

#[tokio::test]
async fn the_virtual_address_moves_with_the_primary() -> Result<()> {
    let Some(net) = Net::or_skip()? else { return Ok(()) };
    let net = net.with_lan()?;
    let mut cluster = cluster("vip", &net).await?;
    let first = cluster.leader().await?;
    leads_to(&cluster, &net, first).await?;

    // An operator's wish.
    let second = (first + 1) % 3;
    cluster.switchover(&cluster.members[second].name).await?;
    leads_to(&cluster, &net, second).await?;
    cluster.settle(SETTLE).await?;

    // An agent's death is none of its business.
    let agent = cluster.members[second].agent()?;
    cluster.members[second].signal(agent, Signal::SIGKILL)?;
    wait_for("another agent", SETTLE, || async {
        ensure!(net.holders(ADDRESS)? == [node(second)?], "it was let go with the agent");
        ensure!(cluster.members[second].agent()? != agent, "the old one");
        Ok(())
    })
    .await?;
    ensure!(cluster.settle(SETTLE).await? == second, "leadership moved");
    leads_to(&cluster, &net, second).await?;

    // In maintenance there is no deadline, and it stays.
    cluster.pause(true).await?;
    leads_to(&cluster, &net, second).await?;
    cluster.pause(false).await?;
    leads_to(&cluster, &net, second).await?;

    // The machine dies: the kernel alone is left, and knows when it ends.
    cluster.members[second].kill_node();
    let third = cluster.other_leader(second, SETTLE).await?;
    leads_to(&cluster, &net, third).await?;
    cluster.start(second)?;
    cluster.settle(SETTLE).await?;

    for member in &mut cluster.members {
        member.signal(member.guard()?, Signal::SIGTERM)?;
    }
    for index in 0..3 {
        ensure!(cluster.members[index].ended(SETTLE).await? == Some(0), "it did not end well");
        gone_from(&net, node(index)?, Duration::ZERO).await?;
    }
    cluster.passed();
    Ok(())
}

#[tokio::test]
async fn a_frozen_node_loses_the_virtual_address_and_has_none_when_it_thaws() -> Result<()> {
    let Some(net) = Net::or_skip()? else { return Ok(()) };
    let net = net.with_lan()?;
    let cluster = cluster("vip-frozen", &net).await?;
    let old = cluster.leader().await?;
    leads_to(&cluster, &net, old).await?;
    let frozen = cluster.members[old].processes();
    ensure!(frozen.iter().filter(|one| is_keeper(one.pid)).count() == 1, "no keeper");
    for process in &frozen {
        let _ = cluster.members[old].signal(process.pid, Signal::SIGSTOP);
    }
    let new = cluster.other_leader(old, SETTLE).await?;
    // Nobody runs there who could take it away.
    leads_to(&cluster, &net, new).await?;
    for process in frozen.iter().rev() {
        let _ = cluster.members[old].signal(process.pid, Signal::SIGCONT);
    }
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < until {
        let holders = net.holders(ADDRESS)?;
        ensure!(holders == [node(new)?], "nodes {holders:?} have it after the thaw");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved back");
    leads_to(&cluster, &net, new).await?;
    cluster.passed();
    Ok(())
}

#[tokio::test]
async fn an_address_that_somebody_configured_is_not_touched() -> Result<()> {
    let Some(net) = Net::or_skip()? else { return Ok(()) };
    let net = net.with_lan()?;
    let words = |node: u16| {
        let ns = net.name(node);
        format!("-n {ns} addr add {ADDRESS}/24 dev {}", Net::LAN)
    };
    for node in 1..=3 {
        let done = std::process::Command::new("ip").args(words(node).split(' ')).status()?;
        ensure!(done.success(), "{}", words(node));
    }
    let mut cluster = cluster("vip-taken", &net).await?;
    let leader = cluster.leader().await?;
    wait_for("it is told", SETTLE, || async {
        let log = cluster.members[leader].log();
        ensure!(log.contains("somebody else configured it"), "nothing is said");
        Ok(())
    })
    .await?;
    cluster.members[leader].kill_node();
    ensure!(net.holders(ADDRESS)? == [1, 2, 3], "it was taken away");
    cluster.passed();
    Ok(())
}

fn is_keeper(pid: i32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim() == "howdah-vip"
}
