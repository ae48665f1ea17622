//! What is done to a cluster, and undone: the faults that end-to-end tests know, faults of the network's
//! finer kinds, of disks and of phases, and what operators and clients do at the wrong moment.

mod bother;
mod company;
mod cut;
mod data;
mod phase;

use std::time::Duration;

use anyhow::{Context, Result};
use howdah_rpc::control::RestartRequest;
use howdah_tests::dice::Dice;
use howdah_tests::net::Net;
use howdah_tests::{Cluster, Disks, Fault, Machine, wait_for};
use serde::{Deserialize, Serialize};

use crate::run::System;
pub(crate) use bother::bother;
pub(crate) use company::Company;
pub(crate) use cut::{Ports, cut};

/// The cluster is whole again after a fault within this time, or something is wrong.
pub const WHOLE: Duration = Duration::from_secs(90);
/// What an operator or a client does in a bad moment goes on for at most this long.
const SHORT: Duration = Duration::from_secs(5);
/// How long an order is given again.
const PATIENCE: Duration = Duration::from_secs(30);

/// One way to break things. In files it goes by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Nemesis {
    /// One that is done to a member's processes, or to its network as a whole.
    Member(Fault),
    /// The member hears nobody, and is heard.
    Deaf,
    /// The member hears, and is not heard.
    Mute,
    /// The member and one other do not hear each other; both hear the third.
    Apart,
    /// The members' own talk with it is cut, PostgreSQL's is not.
    PeersCut,
    /// PostgreSQL's talk with it is cut, the members' own is not.
    PostgresCut,
    /// It is cut off and back again, several times a second.
    Flapping,
    /// The volume of its data is full.
    Full,
    /// The volume of its replicated log is full.
    LogFull,
    /// Its machine loses power: what was not written through is gone.
    PowerLost,
    /// All machines lose power.
    Blackout,
    /// Its disk takes long to write through.
    SyncSlow,
    /// Its disk refuses to write through.
    SyncFails,
    /// It dies, and comes back without its replicated log.
    LogWiped,
    /// It dies, and comes back with an older copy of its replicated log.
    LogOlder,
    /// It dies, and comes back with nothing.
    Wiped,
    /// The leader's machine dies, and its successor is struck while it takes over.
    Successor,
    /// A planned hand-over, in the midst of which one side's agent or PostgreSQL dies.
    HandOverBroken,
    /// A copy, in the midst of which the agent dies.
    CopyBroken,
    /// A standby is copied anew.
    Reinit,
    /// An operator's restart.
    Restart,
    /// Maintenance mode, and its end.
    Pause,
    /// A member's PostgreSQL is kept stopped for a while.
    Fence,
    /// Backends that wait for standbys are cancelled.
    Cancel,
    /// Checkpoints and switches of WAL, one after the other.
    Checkpoints,
    /// More sessions than the server takes.
    Flood,
    /// Long reads on a standby.
    LongReads,
}

/// Whom a fault befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The leader, half of the time.
    Anybody,
    /// A standby.
    Standby,
    /// A standby that may lead next.
    Candidate,
    /// The leader.
    Leader,
}

/// A cluster, and what it stands on.
pub struct Stage<'a> {
    /// The cluster.
    pub cluster: &'a mut Cluster,
    /// Its network, where it has one of its own.
    pub net: Option<&'a Net>,
    /// The volumes of its members, where they have some of their own.
    pub machines: &'a [Machine],
    /// How its members' disks write through, where that can be changed.
    pub disks: Option<&'a Disks>,
}

impl Stage<'_> {
    fn network(&self) -> Result<&Net> {
        self.net.context("there is no network of its own")
    }

    fn disks(&self) -> Result<Disks> {
        self.disks.cloned().context("nothing stands before fsync")
    }

    fn ports(&self) -> Ports {
        let first = &self.cluster.members[0];
        let last = u16::try_from(self.cluster.members.len()).unwrap_or(u16::MAX) - 1;
        Ports {
            peers: (first.control_port, first.control_port + last),
            postgres: (first.pg_port, first.pg_port + last),
            members: last + 1,
        }
    }
}

impl System for Stage<'_> {
    fn names(&self) -> Vec<String> {
        self.cluster.members.iter().map(|member| member.name.clone()).collect()
    }

    fn patience(&self) -> Duration {
        WHOLE
    }

    async fn settle(&self) -> Result<usize> {
        self.cluster.whole(WHOLE).await
    }

    async fn candidate(&self, wanted: usize) -> Result<usize> {
        candidate(self.cluster, wanted).await
    }

    async fn befall(
        &mut self,
        fault: Nemesis,
        index: usize,
        length: Duration,
        dice: &mut Dice,
    ) -> Result<Option<String>> {
        let (ports, names) = (self.ports(), self.names());
        let company = match self.net {
            Some(net) if fault.may_have_company() => {
                Company::perhaps(&ports, &names, net, length, dice)?.map(|company| (company, net))
            }
            _ => None,
        };
        let Some((company, net)) = company else {
            return fault.befall(self, index, length, dice).await.map(|()| None);
        };
        let (one, other) = tokio::join!(fault.befall(self, index, length, dice), company.come(net));
        one.and(other)?;
        Ok(Some(company.name))
    }
}

impl From<Nemesis> for String {
    fn from(one: Nemesis) -> Self {
        one.name()
    }
}

impl TryFrom<String> for Nemesis {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let found = Self::all().into_iter().find(|one| one.name() == name);
        found.ok_or_else(|| format!("there is no fault `{name}`"))
    }
}

impl Nemesis {
    const OWN: [Self; 26] = [
        Self::Deaf,
        Self::Mute,
        Self::Apart,
        Self::PeersCut,
        Self::PostgresCut,
        Self::Flapping,
        Self::Full,
        Self::LogFull,
        Self::PowerLost,
        Self::Blackout,
        Self::SyncSlow,
        Self::SyncFails,
        Self::LogWiped,
        Self::LogOlder,
        Self::Wiped,
        Self::Successor,
        Self::HandOverBroken,
        Self::CopyBroken,
        Self::Reinit,
        Self::Restart,
        Self::Pause,
        Self::Fence,
        Self::Cancel,
        Self::Checkpoints,
        Self::Flood,
        Self::LongReads,
    ];

    /// All of them.
    pub fn all() -> Vec<Self> {
        Fault::ALL.into_iter().map(Self::Member).chain(Self::OWN).collect()
    }

    /// Its name.
    pub fn name(self) -> String {
        match self {
            Self::Member(fault) => format!("{fault:?}"),
            other => format!("{other:?}"),
        }
    }

    /// Whether packets vanish.
    pub fn is_of_the_network(self) -> bool {
        matches!(
            self,
            Self::Member(Fault::Cut)
                | Self::Deaf
                | Self::Mute
                | Self::Apart
                | Self::PeersCut
                | Self::PostgresCut
                | Self::Flapping
        )
    }

    /// What it takes that there is not: networks, volumes, or disks of the members' own.
    pub fn lacks(self, net: bool, volumes: bool, disks: bool) -> Option<&'static str> {
        match self {
            Self::SyncSlow | Self::SyncFails if !disks => {
                Some("library before fsync; cargo build -p howdah-test-shim")
            }
            _ if self.is_of_the_network() && !net => Some("network namespaces, which need root"),
            Self::Full | Self::LogFull | Self::PowerLost | Self::Blackout if !volumes => {
                Some("loop mounts, which need root")
            }
            _ => None,
        }
    }

    /// Whom it befalls.
    pub fn target(self) -> Target {
        match self {
            Self::Member(Fault::Switchover) | Self::HandOverBroken => Target::Candidate,
            Self::Member(Fault::ReceiverStopped)
            | Self::Reinit
            | Self::CopyBroken
            | Self::LongReads => Target::Standby,
            Self::Successor => Target::Leader,
            _ => Target::Anybody,
        }
    }

    /// Whether a fault of the network may come at the same time: what strikes a process asks nobody for
    /// anything, and no fault of the network is there already.
    pub fn may_have_company(self) -> bool {
        match self {
            Self::Member(fault) => !matches!(fault, Fault::Switchover | Fault::Cut),
            other => matches!(other, Self::LogWiped | Self::Cancel | Self::Checkpoints),
        }
    }

    /// Does it to a member, where it takes time for `length`, and undoes it.
    ///
    /// # Errors
    /// If it could not be done or undone.
    pub async fn befall(
        self,
        stage: &mut Stage<'_>,
        index: usize,
        length: Duration,
        dice: &mut Dice,
    ) -> Result<()> {
        match self {
            Self::Member(Fault::Switchover) => hand_over(stage.cluster, index).await,
            _ if self.is_of_the_network() => {
                cut::cut(self, stage.network()?, &stage.ports(), index, length).await
            }
            Self::Member(fault) => {
                fault.befall(stage.cluster, stage.net, index, length, dice).await
            }
            Self::Full => data::fill(stage, index, length).await,
            Self::LogFull => data::fill_log(stage, index, length, dice).await,
            Self::PowerLost => data::lose_power(stage, &[index], length).await,
            Self::Blackout => {
                let all: Vec<usize> = (0..stage.cluster.members.len()).collect();
                data::lose_power(stage, &all, length).await
            }
            Self::SyncSlow => stage.disks()?.slow(index, length, dice).await,
            Self::SyncFails => stage.disks()?.fail(stage.cluster, index, length).await,
            Self::LogWiped => data::wipe(stage, index, length, data::Wipe::Log).await,
            Self::LogOlder => data::older(stage, index, length).await,
            Self::Wiped => data::wipe(stage, index, length, data::Wipe::Everything).await,
            Self::Successor => phase::successor(stage, index, dice).await,
            Self::HandOverBroken => phase::hand_over(stage.cluster, index, dice).await,
            Self::CopyBroken => phase::copy(stage.cluster, index, dice).await,
            _ => self.operate(stage.cluster, index, length).await,
        }
    }

    /// What people do, and clients.
    async fn operate(self, cluster: &Cluster, index: usize, length: Duration) -> Result<()> {
        let name = &cluster.members[index].name;
        match self {
            Self::Reinit => cluster.reinit(name).await,
            Self::Restart => {
                let request = RestartRequest { member: name.clone(), ..Default::default() };
                cluster.restart(request).await
            }
            // Whether an order was carried out may not be known, where the leader of Raft has just been
            // struck; as people do, it is given again.
            Self::Pause => {
                wait_for("maintenance mode", PATIENCE, || cluster.pause(true)).await?;
                tokio::time::sleep(length).await;
                wait_for("its end", PATIENCE, || cluster.pause(false)).await
            }
            Self::Fence => {
                wait_for("a fence", PATIENCE, || cluster.fence(name, true)).await?;
                tokio::time::sleep(length.min(SHORT)).await;
                wait_for("its end", PATIENCE, || cluster.fence(name, false)).await
            }
            _ => {
                let member = &cluster.members[index];
                bother::bother(self, |sql| member.psql_command(sql), length.min(SHORT)).await
            }
        }
    }
}

/// Who can take over: one that commits wait for, if they wait for any.
async fn candidate(cluster: &Cluster, wanted: usize) -> Result<usize> {
    if !cluster.options.dcs.contains("synchronous_mode") {
        return Ok(wanted);
    }
    wait_for("commits wait for somebody", WHOLE, || async {
        let waited_for = cluster.waited_for().await?;
        let fits = waited_for.iter().find(|one| **one == wanted).or(waited_for.first());
        fits.copied().context("for nobody")
    })
    .await
}

/// It may be refused for a moment after what was broken before; then it is asked for again.
async fn hand_over(cluster: &Cluster, to: usize) -> Result<()> {
    let name = &cluster.members[to].name;
    wait_for("a switchover is taken", PATIENCE, || async {
        let done = cluster.switchover(name).await;
        if cluster.leader().await? == to { Ok(()) } else { done }
    })
    .await
}
