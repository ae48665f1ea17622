//! What the caller of the guard decides.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::vip::Vip;

/// Name of the environment variable that, set to 1, makes the guard a negative control in tests.
const DISABLED: &str = "HOWDAH_TEST_GUARD_DISABLED";

/// Whether a control group of its own is made for PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupMode {
    /// If this is permitted; else processes are found by their parents.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// How the guard behaves.
#[derive(Clone, Debug)]
pub struct GuardOptions {
    /// Whether a dead agent is started again; false for tests and for people who look for a fault.
    pub agent_restart: bool,
    /// Whom to become when started as root, already looked up: user id, primary group, name (for
    /// the other groups). None: stay who we are.
    pub drop_to: Option<(u32, u32, String)>,
    /// Whether to make a control group.
    pub use_cgroup: CgroupMode,
    /// How long the agent has to hand over and stop after SIGTERM before everything is killed.
    pub stop_grace: Duration,
    /// An agent that asks nothing for so long hangs, and is killed; one that is well asks every few
    /// seconds.
    pub agent_silence: Duration,
    /// Whether the guard gets SIGTERM when its own parent dies.
    pub parent_death: bool,
    /// An address that is held where the primary is.
    pub vip: Option<Vip>,
    /// Tests only: the deadline is kept but never kills.
    pub disabled_deadline: bool,
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self {
            agent_restart: true,
            drop_to: None,
            use_cgroup: CgroupMode::Auto,
            stop_grace: Duration::from_secs(120),
            agent_silence: Duration::from_secs(30),
            parent_death: false,
            vip: None,
            disabled_deadline: false,
        }
    }
}

/// Whether HOWDAH_TEST_GUARD_DISABLED=1 asks for a guard whose deadline never kills.
pub fn disabled_by_environment() -> bool {
    std::env::var_os(DISABLED).is_some_and(|value| value == "1")
}

/// The program that is run as the agent. It finds its connection by `HOWDAH_GUARD_FD`.
#[derive(Clone, Debug)]
pub struct AgentCommand {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments, without the program's name.
    pub args: Vec<OsString>,
}

impl AgentCommand {
    /// The guard's own executable with these arguments. `/proc/self/exe` also works when the user
    /// that we become cannot walk to the file, and after the file was replaced.
    pub fn own_executable(args: Vec<OsString>) -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), args }
    }
}
