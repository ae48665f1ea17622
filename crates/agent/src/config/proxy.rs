//! The `proxy` section: the doors. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use howdah_proxy::route::PrimaryReads;
use howdah_proxy::{Kind, Limits, Options};

use super::addresses::listen;
use super::reader::Section;
use super::units;

/// The doors; none of them listens unless it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Which doors, and where they are.
    pub listen: BTreeMap<Kind, SocketAddr>,
    /// What they allow.
    pub limits: Limits,
    /// Threads that move bytes; none: as the machine has cores.
    pub threads: Option<usize>,
    /// Standbys that lie further behind get no reads, bytes.
    pub max_lag_bytes: u64,
    /// Whether reads may go to the primary.
    pub primary_reads: PrimaryReads,
    /// Where HAProxy may ask who may be gone to.
    pub agent_check: Option<SocketAddr>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        let limits = Limits {
            hold_timeout: Duration::from_secs(30),
            hold_limit: 1000,
            max_connections: 10_000,
            idle_timeout: None,
            accept_proxy_protocol: false,
            send_proxy_protocol: false,
        };
        Self {
            listen: BTreeMap::new(),
            limits,
            threads: None,
            max_lag_bytes: 16 << 20,
            primary_reads: PrimaryReads::Never,
            agent_check: None,
        }
    }
}

impl ProxyConfig {
    /// What the doors are opened with.
    pub fn options(&self) -> Options {
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
        let (listen, limits) = (self.listen.clone(), self.limits);
        Options { listen, limits, threads: self.threads.unwrap_or_else(cores) }
    }
}

const PRIMARY_READS: [(&str, PrimaryReads); 3] = [
    ("never", PrimaryReads::Never),
    ("fallback", PrimaryReads::Fallback),
    ("always", PrimaryReads::Always),
];

pub(super) fn read(top: &Section<'_>) -> ProxyConfig {
    let mut config = ProxyConfig::default();
    let Some(section) = top.section("proxy") else { return config };
    for (key, kind) in [("read_write", Kind::Write), ("read_only", Kind::Read), ("any", Kind::Any)]
    {
        if let Some(text) = section.text(key)
            && let Some(address) = listen(&section, key, &text)
        {
            config.listen.insert(kind, address);
        }
    }
    let limits = &mut config.limits;
    if let Some(limit) = section.duration("hold_timeout") {
        limits.hold_timeout = limit;
    }
    limits.hold_limit = number(&section, "hold_limit", 0).unwrap_or(limits.hold_limit);
    let most = number(&section, "max_connections", 1);
    limits.max_connections = most.unwrap_or(limits.max_connections);
    if let Some(limit) = section.duration("idle_timeout") {
        limits.idle_timeout = (!limit.is_zero()).then_some(limit);
    }
    limits.accept_proxy_protocol = section.boolean("accept_proxy_protocol").unwrap_or(false);
    limits.send_proxy_protocol = section.boolean("send_proxy_protocol").unwrap_or(false);
    if let Some(threads) = number(&section, "threads", 1) {
        config.threads = Some(threads.min(64));
    }
    if let Some(lag) = section.bytes("max_lag") {
        config.max_lag_bytes = lag;
    }
    let reads = section.choice("primary_reads", "way to read", &PRIMARY_READS);
    config.primary_reads = reads.unwrap_or_default();
    if let Some(text) = section.text("agent_check") {
        config.agent_check = listen(&section, "agent_check", &text);
    }
    section.finish();
    config
}

fn number(section: &Section<'_>, key: &'static str, least: usize) -> Option<usize> {
    let number = section.integer(key)?;
    let fits = usize::try_from(number).ok().filter(|number| *number >= least);
    if fits.is_none() {
        section.error(key, format!("{number} is too small"), &format!("write {least} or more"));
    }
    fits
}

/// The value of a key as it is in force.
pub(super) fn value(config: &ProxyConfig, key: &str) -> Option<String> {
    let limits = &config.limits;
    let at = |kind| {
        let address: Option<&SocketAddr> = config.listen.get(&kind);
        address.map_or("off".to_owned(), SocketAddr::to_string)
    };
    let word = |(word, reads): &(&str, PrimaryReads)| {
        (*reads == config.primary_reads).then(|| (*word).to_owned())
    };
    Some(match key {
        "read_write" => at(Kind::Write),
        "read_only" => at(Kind::Read),
        "any" => at(Kind::Any),
        "agent_check" => config.agent_check.map_or("off".to_owned(), |at| at.to_string()),
        "hold_timeout" => units::written(limits.hold_timeout),
        "hold_limit" => limits.hold_limit.to_string(),
        "max_connections" => limits.max_connections.to_string(),
        "idle_timeout" => limits.idle_timeout.map_or("off".to_owned(), units::written),
        "accept_proxy_protocol" => limits.accept_proxy_protocol.to_string(),
        "send_proxy_protocol" => limits.send_proxy_protocol.to_string(),
        "threads" => config.threads.map_or("one per core".to_owned(), |count| count.to_string()),
        "max_lag" => config.max_lag_bytes.to_string(),
        "primary_reads" => PRIMARY_READS.iter().find_map(word)?,
        _ => return None,
    })
}
