//! Machines that lose their power: what was written and not written through is gone.
//!
//! A member's data and its replicated log lie on volumes of their own. Its processes are killed, and the file
//! systems end without their journals' last part or anything that waits to be written, as ext4 can be told to;
//! what they find when they are mounted again is what a disk would hold. The disk itself keeps what it was given.

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::volume::Volume;

/// Room for a replicated log, twice while it is rewritten, megabytes.
const LOG: u64 = 128;
/// ext4's own request to end a file system, and that it shall not write its journal out before.
const EXT4_IOC_SHUTDOWN: nix::libc::c_ulong = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

/// The volumes of one member.
pub struct Machine {
    /// For its data, and what lies beside it.
    pub data: Volume,
    /// For its replicated log.
    pub log: Volume,
}

impl Machine {
    /// One for each member, none of which runs yet, in their order; empty where this machine cannot.
    ///
    /// # Errors
    /// If it can, and fails.
    pub fn prepare(cluster: &mut Cluster, data_megabytes: u64) -> Result<Vec<Self>> {
        let mut machines = Vec::new();
        for member in &mut cluster.members {
            let user = cluster.ground.user;
            let (data, log) = (member.dir.join("volume"), member.dir.join("log"));
            let volumes =
                (Volume::new(&data, data_megabytes, user)?, Volume::new(&log, LOG, user)?);
            let (Some(data), Some(log)) = volumes else { return Ok(Vec::new()) };
            member.data = data.at.join("data");
            member.raft = log.at.join("raft");
            machines.push(Self { data, log });
        }
        cluster.configure()?;
        Ok(machines)
    }

    /// These members' machines lose their power, and have it again. Nothing is started.
    ///
    /// # Errors
    /// If a volume cannot be mounted again.
    pub fn lose_power(cluster: &mut Cluster, machines: &[Self], which: &[usize]) -> Result<()> {
        for index in which {
            cluster.members[*index].kill_node();
        }
        let struck =
            || which.iter().flat_map(|index| [&machines[*index].data, &machines[*index].log]);
        for volume in struck() {
            drop_unwritten(volume)?;
        }
        struck().try_for_each(Volume::remount)
    }
}

/// What waits to be written never is.
#[allow(unsafe_code)]
fn drop_unwritten(volume: &Volume) -> Result<()> {
    let root = File::open(&volume.at)?;
    // SAFETY: the request reads one u32 and keeps nothing; the descriptor is open.
    let done = unsafe {
        nix::libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, std::ptr::from_ref(&NO_LOG_FLUSH))
    };
    nix::errno::Errno::result(done)
        .map(|_| ())
        .with_context(|| format!("{} does not let itself be ended", volume.at.display()))
}
