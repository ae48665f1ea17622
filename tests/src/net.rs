//! A network of namespaces: one per member, one for clients, and a router between, in which all
//! faults live, so that members see silence and not errors.
//!
//! Invariants: names carry this process's id; the host's own namespace and routes are not touched;
//! what was made is removed on drop.

use std::fs::File;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// A network of namespaces.
pub struct Net {
    prefix: String,
    nodes: u16,
}

/// Runs `ip` with these words.
fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip").args(words.split_whitespace()).output().context("run ip")?;
    if !output.status.success() {
        bail!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

impl Net {
    /// Whether this machine and user can make one.
    pub fn possible() -> bool {
        nix::unistd::geteuid().is_root() && ip("netns list").is_ok()
    }

    /// `nodes` namespaces for members, numbered from 1, and number 100 for clients.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn new(nodes: u16) -> Result<Self> {
        let net = Self { prefix: format!("hw{}", std::process::id()), nodes };
        ip(&format!("netns add {}", net.router()))?;
        ip(&format!("-n {} link set lo up", net.router()))?;
        let exec = format!("netns exec {} sysctl -qw net.ipv4.ip_forward=1", net.router());
        ip(&exec)?;
        for node in (1..=nodes).chain([100]) {
            let (ns, router) = (net.name(node), net.router());
            let (inner, outer) = (format!("{ns}i"), format!("{ns}o"));
            ip(&format!("netns add {ns}"))?;
            ip(&format!("-n {router} link add {outer} type veth peer name {inner}"))?;
            ip(&format!("-n {router} link set {inner} netns {ns}"))?;
            ip(&format!("-n {router} addr add 10.77.{node}.1/24 dev {outer}"))?;
            ip(&format!("-n {router} link set {outer} up"))?;
            ip(&format!("-n {ns} link set lo up"))?;
            ip(&format!("-n {ns} addr add {}/24 dev {inner}", net.address(node)))?;
            ip(&format!("-n {ns} link set {inner} up"))?;
            ip(&format!("-n {ns} route add default via 10.77.{node}.1"))?;
        }
        Ok(net)
    }

    fn router(&self) -> String {
        format!("{}r", self.prefix)
    }

    /// Name of a node's namespace.
    pub fn name(&self, node: u16) -> String {
        format!("{}n{node}", self.prefix)
    }

    /// Address of a node.
    pub fn address(&self, node: u16) -> String {
        format!("10.77.{node}.2")
    }

    /// Cuts a node off from everything, both ways, in silence.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn isolate(&self, node: u16) -> Result<()> {
        let (router, address) = (self.router(), self.address(node));
        ip(&format!("-n {router} rule add from {address} blackhole pref 10"))?;
        ip(&format!("-n {router} rule add to {address} blackhole pref 10"))
    }

    /// Heals what `isolate` did.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn heal(&self, node: u16) -> Result<()> {
        let (router, address) = (self.router(), self.address(node));
        ip(&format!("-n {router} rule del from {address} blackhole pref 10"))?;
        ip(&format!("-n {router} rule del to {address} blackhole pref 10"))
    }

    /// Moves the calling thread into a node's namespace; its later sockets are made there.
    ///
    /// # Errors
    /// If it may not.
    pub fn enter(&self, node: u16) -> Result<()> {
        enter(&self.name(node))
    }
}

/// Moves the calling thread into a namespace by name.
///
/// # Errors
/// If it may not.
pub fn enter(name: &str) -> Result<()> {
    let file = File::open(format!("/run/netns/{name}")).context("open the namespace")?;
    setns(file, CloneFlags::CLONE_NEWNET).context("enter the namespace")
}

impl Drop for Net {
    fn drop(&mut self) {
        for node in (1..=self.nodes).chain([100]) {
            let _ = ip(&format!("netns del {}", self.name(node)));
        }
        let _ = ip(&format!("netns del {}", self.router()));
    }
}
