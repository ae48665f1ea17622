//! `/metrics` in Prometheus' text form: Patroni's names, and ours beside them. Each metric is
//! described in docs/metrics.md. Pure, but for the counters that it reads.

use std::fmt::Write as _;

use howdah_core::sync::choose::Mode;
use howdah_proxy::DoorStatus;

use crate::counters::{Histogram, Kind};
use crate::status::Sources;

/// A page under way.
struct Page<'a> {
    text: String,
    scope: &'a str,
    name: &'a str,
}

/// Label values may hold anything.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Page<'_> {
    fn head(&mut self, metric: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {metric} {help}\n# TYPE {metric} {kind}");
    }

    fn labels(&self, more: &[(&str, &str)]) -> String {
        let own = [("scope", self.scope), ("name", self.name)];
        let all =
            own.iter().chain(more).map(|(key, value)| format!("{key}=\"{}\"", escaped(value)));
        all.collect::<Vec<_>>().join(",")
    }

    fn sample(&mut self, metric: &str, more: &[(&str, &str)], value: f64) {
        let labels = self.labels(more);
        let _ = writeln!(self.text, "{metric}{{{labels}}} {value}");
    }

    fn gauge(&mut self, metric: &str, help: &str, value: f64) {
        self.head(metric, "gauge", help);
        self.sample(metric, &[], value);
    }

    fn flag(&mut self, metric: &str, help: &str, value: bool) {
        self.gauge(metric, help, f64::from(u8::from(value)));
    }

    fn counter(&mut self, metric: &str, help: &str, value: u64) {
        self.head(metric, "counter", help);
        self.sample(metric, &[], value as f64);
    }

    fn histogram(&mut self, metric: &str, help: &str, histogram: &Histogram) {
        self.head(metric, "histogram", help);
        let (buckets, sum, count) = histogram.read();
        for (le, below) in buckets {
            self.sample(&format!("{metric}_bucket"), &[("le", &le)], below as f64);
        }
        self.sample(&format!("{metric}_sum"), &[], sum);
        self.sample(&format!("{metric}_count"), &[], count as f64);
    }
}

/// The page.
pub(super) fn render(sources: &Sources<'_>) -> String {
    let mut page =
        Page { text: String::new(), scope: &sources.state.scope, name: sources.me.as_str() };
    patroni(&mut page, sources);
    lease(&mut page, sources);
    members(&mut page, sources);
    counted(&mut page, sources);
    doors(&mut page, &sources.counters.doors());
    page.text
}

fn version_number() -> f64 {
    let mut parts = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().unwrap_or(0.0));
    let mut next = || parts.next().unwrap_or(0.0);
    next() * 10_000.0 + next() * 100.0 + next()
}

/// What dashboards made for Patroni ask for.
fn patroni(page: &mut Page<'_>, sources: &Sources<'_>) {
    let own = sources.own;
    let primary = own.running && !own.in_recovery;
    let standby = own.running && own.in_recovery;
    page.gauge("patroni_version", "Version of howdah as a number", version_number());
    page.flag("patroni_postgres_running", "PostgreSQL runs", own.running);
    let started = own.postmaster_start_ms as f64 / 1000.0;
    page.gauge("patroni_postmaster_start_time", "Start of PostgreSQL, seconds since 1970", started);
    page.flag("patroni_primary", "This member is primary", primary);
    let at = |there: bool, lsn: u64| if there { lsn as f64 } else { 0.0 };
    page.gauge(
        "patroni_xlog_location",
        "Write position of a primary",
        at(primary, own.receive_lsn),
    );
    page.flag("patroni_standby_leader", "This member leads a standby cluster", false);
    page.flag("patroni_replica", "This member is a replica", standby);
    let mode = sources.state.settings.synchronous_mode;
    let waited_for = |of: Mode| standby && mode == of && sources.is_sync_standby(sources.me);
    page.flag("patroni_sync_standby", "This member is a synchronous standby", waited_for(Mode::On));
    page.flag(
        "patroni_quorum_standby",
        "This member is a quorum standby",
        waited_for(Mode::Quorum),
    );
    let received = at(standby, own.receive_lsn);
    page.gauge("patroni_xlog_received_location", "Received position of a replica", received);
    let replayed = at(standby, own.replay_lsn);
    page.gauge("patroni_xlog_replayed_location", "Replayed position of a replica", replayed);
    page.flag("patroni_postgres_streaming", "WAL streams in", own.streaming_epoch != 0);
    let archive = own.replication_state == "in archive recovery";
    page.flag("patroni_postgres_in_archive_recovery", "In recovery without a stream", archive);
    let version = f64::from(own.server_version);
    page.gauge("patroni_postgres_server_version", "PostgreSQL's version, as 150018", version);
    page.flag("patroni_cluster_unlocked", "Nobody holds the lease", sources.leader().is_none());
    page.gauge("patroni_postgres_timeline", "Timeline of the data", f64::from(own.timeline));
    let pending = !own.pending_restart.is_empty();
    page.flag("patroni_pending_restart", "A parameter waits for a restart", pending);
    page.flag("patroni_is_paused", "Maintenance mode is on", sources.state.paused());
}

fn lease(page: &mut Page<'_>, sources: &Sources<'_>) {
    let (raft, own) = (sources.raft, sources.own);
    page.gauge("howdah_epoch", "Epoch of the leader record", sources.state.epoch().0 as f64);
    let writable = sources.why_not_writable().is_none();
    page.flag("howdah_writable", "A write can succeed, as far as this member knows", writable);
    page.flag("howdah_raft_leader", "This member leads the Raft group", raft.is_leader);
    page.flag("howdah_raft_quorum", "This member sees a majority of the Raft group", raft.quorum);
    page.gauge("howdah_raft_term", "Raft's term", raft.term as f64);
    page.gauge("howdah_raft_last_log_index", "Index of the last log entry", raft.last_log as f64);
    let applied = raft.last_applied as f64;
    page.gauge("howdah_raft_last_applied_index", "Index of the last applied entry", applied);
    page.gauge("howdah_raft_voters", "Voters of the Raft group", raft.voters.len() as f64);
    let margin = sources.counters.fence_margin_ms(sources.now);
    let help = "Milliseconds until the guard would kill PostgreSQL; -1: it holds no deadline";
    page.gauge("howdah_fence_margin_ms", help, margin.map_or(-1.0, |ms| ms as f64));
    page.gauge("howdah_troubles", "Troubles that `howdah list` shows", own.troubles.len() as f64);
}

/// Replication as the member that answers sees it, one sample per member.
fn members(page: &mut Page<'_>, sources: &Sources<'_>) {
    let shown = sources.cluster();
    let replicas: Vec<_> =
        shown.members.iter().filter(|m| m.name != shown.leader && m.lag_known).collect();
    page.head("howdah_replication_receive_lag_bytes", "gauge", "Bytes not received yet");
    for member in &replicas {
        let lag = member.receive_lag_bytes as f64;
        page.sample("howdah_replication_receive_lag_bytes", &[("member", &member.name)], lag);
    }
    page.head("howdah_replication_replay_lag_bytes", "gauge", "Bytes not replayed yet");
    for member in &replicas {
        let lag = member.replay_lag_bytes as f64;
        page.sample("howdah_replication_replay_lag_bytes", &[("member", &member.name)], lag);
    }
    page.head("howdah_member_up", "gauge", "The member is heard and its PostgreSQL runs");
    for member in &shown.members {
        let up = matches!(member.state.as_str(), "running" | "streaming");
        let up = f64::from(u8::from(up));
        page.sample("howdah_member_up", &[("member", &member.name)], up);
    }
    let own = &sources.own;
    let lag = own.replay_lag_ms as f64 / 1000.0;
    let help = "Seconds since the last replayed commit, while something is left to replay";
    page.gauge("howdah_replication_replay_lag_seconds", help, lag);
}

/// What happened since this agent started.
fn counted(page: &mut Page<'_>, sources: &Sources<'_>) {
    let counters = sources.counters;
    page.head("howdah_leader_changes_total", "counter", "Changes of leader seen, by kind");
    for kind in Kind::ALL {
        let value = counters.leader_changes(kind) as f64;
        page.sample("howdah_leader_changes_total", &[("kind", kind.word())], value);
    }
    let vip = f64::from(u8::from(counters.has_vip()));
    page.gauge("howdah_vip_held", "This machine has the virtual address", vip);
    let (metric, help) =
        ("howdah_certificate_expiry_timestamp_seconds", "When it ends, since 1970");
    page.head(metric, "gauge", help);
    for (file, end) in counters.ends().into_iter().flatten() {
        page.sample(metric, &[("file", file)], end as f64);
    }
    let (rewinds, clones) = counters.copies();
    page.counter("howdah_rewinds_total", "Rewinds of this member's data", rewinds);
    page.counter("howdah_clones_total", "Copies of the leader's data made here", clones);
    let renewals = "Time from sending a renewal until it was applied";
    page.histogram("howdah_lease_renew_seconds", renewals, &counters.renewals);
    let elections = "Time from the opening of an election until somebody led";
    page.histogram("howdah_election_seconds", elections, &counters.elections);
    let outages = "Time during which this member knew of no primary that takes writes";
    page.histogram("howdah_outage_seconds", outages, &counters.outages);
}

/// A door's metric: name, type, help, value.
type DoorMetric = (&'static str, &'static str, &'static str, fn(&DoorStatus) -> u64);

const DOORS: [DoorMetric; 13] = [
    ("howdah_door_connections", "gauge", "Connections now", |door| door.connections as u64),
    ("howdah_door_sessions", "gauge", "Sessions now", |door| door.sessions as u64),
    ("howdah_door_waiting", "gauge", "Connections that wait now", |door| door.waiting as u64),
    ("howdah_door_accepted_total", "counter", "Connections that came", |d| d.counts.accepted),
    ("howdah_door_sessions_total", "counter", "Sessions that began", |d| d.counts.begun),
    ("howdah_door_waited_total", "counter", "Connections that had to wait", |d| d.counts.waited),
    ("howdah_door_refused_total", "counter", "Connections refused", |d| d.counts.refused),
    ("howdah_door_cut_total", "counter", "Sessions reset", |d| d.counts.cut),
    ("howdah_door_repeated_total", "counter", "Servers asked again unseen", |d| d.counts.repeated),
    ("howdah_door_cancels_total", "counter", "Requests to cancel", |d| d.counts.cancels),
    ("howdah_door_traps_total", "counter", "Commits of unknown outcome", |d| d.counts.traps),
    ("howdah_door_received_bytes_total", "counter", "Bytes from clients", |d| d.counts.up),
    ("howdah_door_sent_bytes_total", "counter", "Bytes to clients", |d| d.counts.down),
];

/// The doors, one sample each.
fn doors(page: &mut Page<'_>, doors: &[DoorStatus]) {
    for (metric, kind, help, value) in DOORS {
        page.head(metric, kind, help);
        for door in doors {
            page.sample(metric, &[("door", door.kind.word())], value(door) as f64);
        }
    }
}
