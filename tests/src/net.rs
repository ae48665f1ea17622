//! A network of namespaces: one per member, one for clients, and a router between, in which all
//! faults live, so that members see silence and not errors.
//!
//! Invariants: names carry this process's id; the host's own namespace and routes are not touched;
//! what was made is removed on drop.

use std::ffi::OsStr;
use std::fs::File;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// A network of namespaces.
pub struct Net {
    prefix: String,
    nodes: u16,
}

/// Packets that vanish, each kind in the words of `ip rule`.
#[derive(Clone, Debug)]
pub struct Silence(Vec<String>);

impl Silence {
    /// All from and to a node.
    pub fn of(net: &Net, node: u16) -> Self {
        let address = net.address(node);
        Self(vec![format!("from {address}"), format!("to {address}")])
    }

    /// All that would reach a node; what it says is heard.
    pub fn towards(net: &Net, node: u16) -> Self {
        Self(vec![format!("to {}", net.address(node))])
    }

    /// All that a node says; it hears the others.
    pub fn away_from(net: &Net, node: u16) -> Self {
        Self(vec![format!("from {}", net.address(node))])
    }

    /// All between two nodes.
    pub fn between(net: &Net, one: u16, other: u16) -> Self {
        let (one, other) = (net.address(one), net.address(other));
        Self(vec![format!("from {one} to {other}"), format!("from {other} to {one}")])
    }

    /// What a node says and hears over TCP on these ports, whoever opened the connection.
    pub fn on_ports(net: &Net, node: u16, ports: (u16, u16)) -> Self {
        let (address, (first, last)) = (net.address(node), ports);
        let kinds = ["from", "to"].into_iter().flat_map(|way| {
            let address = address.clone();
            ["sport", "dport"]
                .map(move |port| format!("{way} {address} ipproto tcp {port} {first}-{last}"))
        });
        Self(kinds.collect())
    }
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
    /// Number of the clients' namespace.
    pub const CLIENTS: u16 = 100;
    /// Each node's interface on the wire.
    pub const LAN: &str = "lan0";

    /// Whether this machine and user can make one.
    pub fn possible() -> bool {
        nix::unistd::geteuid().is_root() && ip("netns list").is_ok()
    }

    /// Three members' network for a test; none where the machine or the user cannot make one, which is said, and
    /// fails in CI.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn or_skip() -> Result<Option<Self>> {
        if Self::possible() {
            return Self::new(3).map(Some);
        }
        if std::env::var_os("CI").is_some() {
            bail!("CI runs as root, with iproute2");
        }
        eprintln!("SKIPPED: network namespaces need root and iproute2");
        Ok(None)
    }

    /// `nodes` namespaces for members, numbered from 1, and one for clients.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn new(nodes: u16) -> Result<Self> {
        let net = Self { prefix: format!("hw{}", std::process::id()), nodes };
        ip(&format!("netns add {}", net.router()))?;
        ip(&format!("-n {} link set lo up", net.router()))?;
        let exec = format!("netns exec {} sysctl -qw net.ipv4.ip_forward=1", net.router());
        ip(&exec)?;
        for node in (1..=nodes).chain([Self::CLIENTS]) {
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

    /// Beside the routed network one that is a single wire, with an interface `lan0` in each namespace: what moves an
    /// address from machine to machine is not routed.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn with_lan(self) -> Result<Self> {
        let router = self.router();
        ip(&format!("-n {router} link add lan type bridge"))?;
        ip(&format!("-n {router} link set lan up"))?;
        for node in (1..=self.nodes).chain([Self::CLIENTS]) {
            let ns = self.name(node);
            let port = format!("lan{node}");
            ip(&format!("-n {router} link add {port} type veth peer name {}", Self::LAN))?;
            ip(&format!("-n {router} link set {} netns {ns}", Self::LAN))?;
            ip(&format!("-n {router} link set {port} master lan up"))?;
            ip(&format!("-n {ns} addr add 10.78.0.{node}/24 dev {}", Self::LAN))?;
            ip(&format!("-n {ns} link set {} up", Self::LAN))?;
        }
        Ok(self)
    }

    /// Nodes whose interface on the wire has this address.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn holders(&self, address: &str) -> Result<Vec<u16>> {
        let mut holders = Vec::new();
        for node in 1..=self.nodes {
            let ns = self.name(node);
            let words = ["-n", &ns, "-o", "addr", "show", "dev", Self::LAN];
            let output = Command::new("ip").args(words).output().context("run ip")?;
            let shown = String::from_utf8_lossy(&output.stdout);
            if shown.contains(&format!(" {address}/")) {
                holders.push(node);
            }
        }
        Ok(holders)
    }

    /// Name of the namespace between all others.
    pub fn router(&self) -> String {
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
        self.cut(&Silence::of(self, node))
    }

    /// Heals what `isolate` did.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn heal(&self, node: u16) -> Result<()> {
        self.mend(&Silence::of(self, node))
    }

    /// What is described vanishes from now on.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn cut(&self, silence: &Silence) -> Result<()> {
        self.rules("add", silence)
    }

    /// What is described goes through again.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn mend(&self, silence: &Silence) -> Result<()> {
        self.rules("del", silence)
    }

    fn rules(&self, verb: &str, silence: &Silence) -> Result<()> {
        let router = self.router();
        silence
            .0
            .iter()
            .try_for_each(|what| ip(&format!("-n {router} rule {verb} {what} blackhole pref 10")))
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

/// Runs a program in a namespace. Unlike `ip netns exec` it sees the mounts of all others, and keeps none of them
/// when they are taken away.
pub fn command(netns: Option<&str>, program: impl AsRef<OsStr>) -> Command {
    let Some(name) = netns else { return Command::new(program) };
    // It becomes what it is told to run: the child is the program itself.
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{name}")).arg("--").arg(program);
    command
}

impl Drop for Net {
    fn drop(&mut self) {
        for node in (1..=self.nodes).chain([Self::CLIENTS]) {
            let _ = ip(&format!("netns del {}", self.name(node)));
        }
        let _ = ip(&format!("netns del {}", self.router()));
    }
}
