//! Patroni's keys that have no meaning here, and what to write instead.
//!
//! Place: asked by the reader for each key that nobody wanted. Pure.

/// Why a key has no effect, and what to do.
pub(super) struct Advice {
    pub(super) what: &'static str,
    pub(super) remedy: &'static str,
}

const STORE: &str = "howdah keeps its state in its own Raft group and needs no store";
const REPLACE: &str = "replace it by `raft:` with data_dir, self_addr and partner_addrs";
const LATER: &str = "has no effect in this version";

/// Path of the key, why it has no effect, what to do.
const TABLE: &[(&str, &str, &str)] = &[
    ("etcd", STORE, REPLACE),
    ("etcd3", STORE, REPLACE),
    ("consul", STORE, REPLACE),
    ("zookeeper", STORE, REPLACE),
    ("exhibitor", STORE, REPLACE),
    ("kubernetes", STORE, REPLACE),
    (
        "namespace",
        "there is no shared store to divide; `scope` alone names the cluster",
        "remove it",
    ),
    ("log", "logs go to stderr", "remove it; use HOWDAH_LOG and `run --log-format json`"),
    ("watchdog", "the guard process stops PostgreSQL when the lease ends", "remove it"),
    ("ctl", "the commands need no credentials of their own", "remove it"),
    ("citus", "Citus is not supported", "remove it"),
    ("thread_pool_size", LATER, "remove it"),
    ("thread_stack_size", LATER, "remove it"),
    ("proxy", "the proxy comes with a later version", "remove it until then"),
    ("raft.password", "the Raft group is protected by TLS, not by a password", "remove it"),
    ("raft.bind_address", "has another name here", "write `bind_addr`"),
    ("restapi.authentication", LATER, "bind REST to an address that only operators reach"),
    ("restapi.certfile", LATER, "remove it; TLS comes with a later version"),
    ("restapi.keyfile", LATER, "remove it; TLS comes with a later version"),
    ("restapi.keyfile_password", LATER, "remove it; TLS comes with a later version"),
    ("restapi.cafile", LATER, "remove it; TLS comes with a later version"),
    ("restapi.verify_client", LATER, "remove it; TLS comes with a later version"),
    ("restapi.allowlist", LATER, "remove it"),
    ("restapi.allowlist_include_members", LATER, "remove it"),
    ("restapi.http_extra_headers", LATER, "remove it"),
    ("restapi.https_extra_headers", LATER, "remove it"),
    ("restapi.request_queue_size", LATER, "remove it"),
    ("postgresql.pgpass", "passwords are handed over without a file", "remove it"),
    ("postgresql.callbacks", LATER, "remove it; follow `howdah events` instead"),
    ("postgresql.create_replica_methods", "replicas are made by pg_basebackup", "remove it"),
    ("postgresql.basebackup", "replicas are made by pg_basebackup", "remove it"),
    ("postgresql.pg_ctl_timeout", "has another name here", "write `stop_timeout` at the top level"),
    ("postgresql.use_unix_socket", "the local socket is always used", "remove it"),
    ("postgresql.use_unix_socket_repl", LATER, "remove it"),
    (
        "postgresql.remove_data_directory_on_rewind_failure",
        "a fresh copy is made by itself",
        "remove it",
    ),
    (
        "postgresql.remove_data_directory_on_diverged_timelines",
        "a fresh copy is made by itself",
        "remove it",
    ),
    ("postgresql.config_dir", "configuration lies in the data directory", "remove it"),
    ("postgresql.custom_conf", LATER, "write the values under `postgresql.parameters`"),
    ("postgresql.pg_ident", LATER, "remove it"),
    ("postgresql.proxy_address", LATER, "remove it"),
    ("postgresql.bin_name", LATER, "set `postgresql.bin_dir`"),
    ("postgresql.before_stop", LATER, "remove it"),
    ("postgresql.pre_promote", "fencing is done by the guard", "remove it"),
    (
        "postgresql.recovery_conf",
        "PostgreSQL has had no recovery.conf since version 12",
        "write its values under `postgresql.parameters`",
    ),
    (
        "postgresql.use_pg_rewind",
        "is a setting of the whole cluster",
        "write it under `bootstrap.dcs.postgresql`",
    ),
    (
        "postgresql.use_slots",
        "is a setting of the whole cluster",
        "write it under `bootstrap.dcs.postgresql`",
    ),
    (
        "bootstrap.users",
        "creates roles with passwords in a file; Patroni 4 dropped it too",
        "create roles by SQL after bootstrap",
    ),
    ("bootstrap.method", "a cluster is bootstrapped by initdb", "remove it"),
    ("bootstrap.post_bootstrap", LATER, "run the script after bootstrap"),
    ("bootstrap.post_init", LATER, "run the script after bootstrap"),
    (
        "bootstrap.dcs.loop_wait",
        "there is no polling loop; the lease is renewed every ttl/5",
        "remove it",
    ),
    ("bootstrap.dcs.retry_timeout", "there is no store to retry", "remove it"),
    ("bootstrap.dcs.maximum_lag_on_syncnode", LATER, "remove it"),
    ("bootstrap.dcs.check_timeline", "timelines are always checked", "remove it"),
    ("bootstrap.dcs.max_timelines_history", LATER, "remove it"),
    (
        "bootstrap.dcs.primary_stop_timeout",
        "has another name here",
        "write `stop_timeout` at the top level",
    ),
    (
        "bootstrap.dcs.master_stop_timeout",
        "has another name here",
        "write `stop_timeout` at the top level",
    ),
    ("bootstrap.dcs.synchronous_mode_strict", LATER, "remove it until synchronous modes are there"),
    ("bootstrap.dcs.synchronous_node_count", LATER, "remove it until synchronous modes are there"),
    (
        "bootstrap.dcs.failsafe_mode",
        "members form the Raft group themselves; nothing else can fail",
        "remove it",
    ),
    ("bootstrap.dcs.standby_cluster", LATER, "remove it"),
    ("bootstrap.dcs.slots", LATER, "remove it"),
    ("bootstrap.dcs.ignore_slots", LATER, "remove it"),
    ("bootstrap.dcs.member_slots_ttl", LATER, "remove it"),
    ("bootstrap.dcs.pause", LATER, "remove it"),
    (
        "bootstrap.dcs.postgresql.recovery_conf",
        "PostgreSQL has had no recovery.conf since version 12",
        "write its values under `parameters`",
    ),
    ("bootstrap.dcs.postgresql.pg_ident", LATER, "remove it"),
];

/// What to say about `path`; `None` if it is no key of Patroni's either.
pub(super) fn advice(path: &str) -> Option<Advice> {
    let found = TABLE.iter().find(|(known, _, _)| *known == path);
    found.map(|&(_, what, remedy)| Advice { what, remedy })
}
