//! Faults of the network: packets vanish, nobody is told.

use std::time::{Duration, Instant};

use anyhow::Result;
use howdah_tests::net::{Net, Silence};

use super::Nemesis;

/// Pause between the moments of a flapping link.
const FLAP: Duration = Duration::from_millis(250);

/// Where a system listens: the same ports on every member, or one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// The members' own talk, first and last.
    pub peers: (u16, u16),
    /// PostgreSQL's.
    pub postgres: (u16, u16),
    /// How many members there are.
    pub members: u16,
}

/// Cuts for `length`, and mends.
///
/// # Errors
/// If the network cannot be changed.
pub(crate) async fn cut(
    fault: Nemesis,
    net: &Net,
    ports: &Ports,
    index: usize,
    length: Duration,
) -> Result<()> {
    let silence = silence(fault, net, ports, index)?;
    if fault == Nemesis::Flapping {
        return flap(net, &silence, length).await;
    }
    net.cut(&silence)?;
    tokio::time::sleep(length).await;
    net.mend(&silence)
}

/// What vanishes.
pub(super) fn silence(fault: Nemesis, net: &Net, ports: &Ports, index: usize) -> Result<Silence> {
    let node = u16::try_from(index + 1)?;
    Ok(match fault {
        Nemesis::Deaf => Silence::towards(net, node),
        Nemesis::Mute => Silence::away_from(net, node),
        Nemesis::Apart => Silence::between(net, node, node % ports.members + 1),
        Nemesis::PeersCut => Silence::on_ports(net, node, ports.peers),
        Nemesis::PostgresCut => Silence::on_ports(net, node, ports.postgres),
        _ => Silence::of(net, node),
    })
}

async fn flap(net: &Net, silence: &Silence, length: Duration) -> Result<()> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        net.cut(silence)?;
        tokio::time::sleep(FLAP).await;
        net.mend(silence)?;
        tokio::time::sleep(FLAP).await;
    }
    Ok(())
}
