//! The list itself: path, and what to say.

use super::Advice::{self, Refuse, Warn};

const fn warn(what: &'static str, remedy: &'static str) -> Advice {
    Warn { what, remedy }
}

const fn refuse(what: &'static str, remedy: &'static str) -> Advice {
    Refuse { what, remedy }
}

const STORE: Advice = warn(
    "howdah keeps its state in its own Raft group and needs no store",
    "replace it by `raft:` with data_dir, self_addr and partner_addrs",
);
const LATER: Advice = warn("has no effect in this version", "remove it");
const STDERR: Advice = warn("logs go to stderr", "remove it; let the service manager keep them");
const OWN_KEYS: Advice = refuse(
    "REST uses the certificate that is named in `tls`",
    "remove it, and write `restapi.tls: true`",
);
const NO_CHOICE: Advice =
    refuse("TLS 1.2 and 1.3 are spoken, with the ciphers that rustls takes for safe", "remove it");
const VERIFY: Advice = refuse(
    "whom REST answers is said by `restapi.anonymous`; orders always take a certificate, a token or a password",
    "remove it; `anonymous: none` is Patroni's `required`",
);
const MEMBERS_KEYS: Advice = refuse(
    "members connect to each other's PostgreSQL by the certificates that are named in `tls`",
    "remove it",
);
const BY_ADDRESS: Advice = refuse(
    "addresses let nobody in: orders take a certificate, a token or a password",
    "remove it, and write `authentication`, or make a token with `howdah token create`",
);
const BY_INITDB: Advice = refuse(
    "a cluster begins with initdb or with the data that is there; this would be a new, empty one",
    "restore into postgresql.data_dir by hand before the first start, and remove it",
);
const SCRIPT: Advice = warn(
    "howdah runs no scripts of yours yet",
    "remove it; `howdah events --follow` tells changes",
);
const NO_RECOVERY_CONF: Advice = warn(
    "PostgreSQL has had no recovery.conf since version 12, and howdah decides what is recovered",
    "remove it",
);
const COPY: Advice = warn("a fresh copy is made by itself", "remove it");
const STOP: Advice = warn("has another name here", "write `stop_timeout` at the top level");
const WHOLE: Advice =
    refuse("is a setting of the whole cluster", "write it under `bootstrap.dcs.postgresql`");
const CASCADE: Advice = refuse("standbys stream from the leader only", "remove it");

#[rustfmt::skip]
pub(super) const TABLE: &[(&str, Advice)] = &[
    ("etcd", STORE),
    ("etcd3", STORE),
    ("consul", STORE),
    ("zookeeper", STORE),
    ("exhibitor", STORE),
    ("kubernetes", STORE),
    ("namespace", warn("there is no shared store to divide; `scope` alone names the cluster", "remove it")),
    ("watchdog", warn("the guard process stops PostgreSQL when the lease ends", "remove it")),
    ("ctl", warn("the commands need no credentials of their own", "remove it")),
    ("citus", refuse("Citus is not supported", "remove it")),
    ("multisite", refuse("is not supported", "remove it")),
    ("witness", refuse("members without PostgreSQL are not supported yet", "remove it; use three members with PostgreSQL")),
    ("thread_pool_size", LATER),
    ("thread_stack_size", LATER),
    ("log.format", warn("the form is fixed", "remove it, or write `type: json`")),
    ("log.dateformat", warn("times are in UTC, as RFC 3339 has them", "remove it")),
    ("log.static_fields", LATER),
    ("log.traceback_level", LATER),
    ("log.max_queue_size", LATER),
    ("log.deduplicate_heartbeat_logs", LATER),
    ("log.loggers", warn("has another name here", "set the variable HOWDAH_LOG, as info,openraft=debug")),
    ("log.dir", STDERR),
    ("log.mode", STDERR),
    ("log.file_num", STDERR),
    ("log.file_size", STDERR),
    ("raft.password", refuse("members know each other by certificates, and the Raft group has no password", "remove it, and name the certificates in `tls`")),
    ("raft.bind_address", refuse("has another name here", "write `bind_addr`")),
    ("restapi.allowlist", BY_ADDRESS),
    ("restapi.allowlist_include_members", BY_ADDRESS),
    ("restapi.certfile", OWN_KEYS),
    ("restapi.keyfile", OWN_KEYS),
    ("restapi.keyfile_password", OWN_KEYS),
    ("restapi.cafile", OWN_KEYS),
    ("restapi.ciphers", NO_CHOICE),
    ("restapi.verify_client", VERIFY),
    ("restapi.http_extra_headers", LATER),
    ("restapi.https_extra_headers", LATER),
    ("restapi.request_queue_size", LATER),
    ("restapi.thread_pool_size", LATER),
    ("restapi.server_tokens", LATER),
    ("postgresql.pgpass", warn("passwords are handed over without this file", "remove it")),
    ("postgresql.authentication.ROLE.sslmode", MEMBERS_KEYS),
    ("postgresql.authentication.ROLE.sslcert", MEMBERS_KEYS),
    ("postgresql.authentication.ROLE.sslkey", MEMBERS_KEYS),
    ("postgresql.authentication.ROLE.sslpassword", MEMBERS_KEYS),
    ("postgresql.authentication.ROLE.sslrootcert", MEMBERS_KEYS),
    ("postgresql.authentication.ROLE.sslcrl", MEMBERS_KEYS),
    ("postgresql.authentication.ROLE.sslcrldir", MEMBERS_KEYS),
    ("postgresql.authentication.ROLE.sslnegotiation", MEMBERS_KEYS),
    ("postgresql.authentication.ROLE.gssencmode", MEMBERS_KEYS),
    ("postgresql.authentication.ROLE.channel_binding", MEMBERS_KEYS),
    ("postgresql.callbacks", SCRIPT),
    ("postgresql.before_stop", SCRIPT),
    ("postgresql.pre_promote", refuse(
        "the script would not be asked before a promotion; the guard does the fencing",
        "remove it once what it does is not needed any more",
    )),
    ("postgresql.create_replica_methods", warn("copies are made by pg_basebackup", "remove it")),
    ("postgresql.create_replica_method", warn("copies are made by pg_basebackup", "remove it")),
    ("postgresql.basebackup", warn("the options of pg_basebackup are fixed", "remove it")),
    ("postgresql.rewind", warn("the options of pg_rewind are fixed", "remove it")),
    ("postgresql.pg_ctl_timeout", STOP),
    ("postgresql.use_unix_socket", warn("the local socket is always used", "remove it")),
    ("postgresql.use_unix_socket_repl", LATER),
    ("postgresql.remove_data_directory_on_rewind_failure", COPY),
    ("postgresql.remove_data_directory_on_diverged_timelines", COPY),
    ("postgresql.config_dir", refuse(
        "PostgreSQL's configuration must lie in the data directory",
        "move postgresql.conf there, and remove this key",
    )),
    ("postgresql.custom_conf", refuse(
        "no other file takes the place of postgresql.conf",
        "write the values under `postgresql.parameters`",
    )),
    ("postgresql.proxy_address", warn("nobody is told of a proxy", "remove it")),
    ("postgresql.bin_name", refuse("programs cannot have other names", "set `postgresql.bin_dir` to a directory of links")),
    ("postgresql.recovery_conf", NO_RECOVERY_CONF),
    ("postgresql.use_pg_rewind", WHOLE),
    ("postgresql.use_slots", WHOLE),
    ("bootstrap.users", warn(
        "creates roles with passwords in a file; Patroni 4 dropped it too",
        "create roles by SQL after bootstrap",
    )),
    ("bootstrap.method", BY_INITDB),
    ("bootstrap.post_bootstrap", warn("howdah runs no scripts of yours yet", "run it once after the first start")),
    ("bootstrap.post_init", warn("howdah runs no scripts of yours yet", "run it once after the first start")),
    ("bootstrap.pg_ident", warn("the ident map is each member's own", "write it under `postgresql.pg_ident`")),
    ("bootstrap.dcs.loop_wait", warn("there is no polling loop; the lease is renewed every ttl/5", "remove it")),
    ("bootstrap.dcs.retry_timeout", warn("there is no store to retry", "remove it")),
    ("bootstrap.dcs.check_timeline", warn("timelines are always checked", "remove it")),
    ("bootstrap.dcs.max_timelines_history", LATER),
    ("bootstrap.dcs.primary_race_backoff", LATER),
    ("bootstrap.dcs.primary_stop_timeout", STOP),
    ("bootstrap.dcs.master_stop_timeout", STOP),
    ("bootstrap.dcs.failsafe_mode", warn("members form the Raft group themselves; no store can fail", "remove it")),
    ("bootstrap.dcs.standby_cluster", refuse(
        "this would be a cluster of its own, not a standby of another",
        "remove it only if that is wanted",
    )),
    ("bootstrap.dcs.slots", warn("permanent slots are not kept by howdah", "create them by SQL after bootstrap")),
    ("bootstrap.dcs.ignore_slots", warn("howdah drops no slot but its own", "remove it")),
    ("bootstrap.dcs.member_slots_ttl", LATER),
    ("bootstrap.dcs.pause", refuse("a cluster cannot begin paused", "remove it; pause it later")),
    ("bootstrap.dcs.postgresql.recovery_conf", NO_RECOVERY_CONF),
    ("bootstrap.dcs.postgresql.pg_ident", warn("the ident map is each member's own", "write it under `postgresql.pg_ident`")),
    ("tags.replicatefrom", CASCADE),
    ("tags.nostream", refuse("standbys always stream", "remove it")),
];
