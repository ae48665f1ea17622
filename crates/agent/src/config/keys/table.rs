//! The list itself, in the order in which people write a file.

use super::Key;

/// What a change of a key needs to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A reload of howdah.
    Reload,
    /// A restart of howdah.
    Restart,
    /// Nothing makes it take effect: it is read when a cluster begins, then the log has the value.
    NewCluster,
}

impl Takes {
    /// As it stands in a table.
    pub fn word(self) -> &'static str {
        match self {
            Takes::Reload => "reload",
            Takes::Restart => "restart",
            Takes::NewCluster => "new cluster",
        }
    }
}

const fn key(
    path: &'static str,
    kind: &'static str,
    default: &'static str,
    takes: Takes,
    meaning: &'static str,
) -> Key {
    Key { path, kind, default, takes, meaning }
}

use Takes::{NewCluster, Reload, Restart};

/// All keys.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("scope", "name", "must be written", Restart, "Name of the cluster: letters, digits, `-`, `_`, `.`; at most 63 of them."),
    key("name", "name", "must be written", Restart, "Name of this member, unique in the cluster; at most 46 characters."),
    key("profile", "`default` or `fast`", "`default`", Restart, "Raft's timers, and the ttl that a new cluster begins with: 5 s or 2 s."),
    key("user", "name", "`postgres`", Restart, "OS user that agent and PostgreSQL run as when root starts howdah."),
    key("insecure", "boolean", "`false`", Restart, "Without `tls`: whoever can connect to the gRPC and REST ports may do everything. With it: whoever can connect to REST may."),
    key("stop_timeout", "duration", "`60s`", Restart, "How long an orderly stop of PostgreSQL may take; 1 s or more."),
    key("handover_timeout", "duration", "2 × ttl", Restart, "How long a planned hand-over may take; 1 s or more."),
    key("log.level", "`error`, `warn`, `info`, `debug` or `trace`", "`info`", Restart, "How much howdah logs to stderr. `HOWDAH_LOG` goes before it and can name modules."),
    key("log.type", "`plain` or `json`", "`plain`", Restart, "Form of the log's lines. `run --log-format` goes before it."),
    key("raft.data_dir", "absolute path", "must be written", Restart, "Directory of the Raft log; not inside PostgreSQL's, nor around it."),
    key("raft.self_addr", "HOST:PORT", "must be written", Restart, "Where the other members and the commands reach this member."),
    key("raft.bind_addr", "IP:PORT", "the IP of `raft.self_addr`, or all addresses if that is a name; its port", Restart, "Where the gRPC port listens."),
    key("raft.partner_addrs", "list of HOST:PORT", "nobody", Restart, "The other members' `self_addr`, in any order."),
    key("restapi.listen", "IP:PORT", "the IP of `raft.bind_addr`, port 8008", Restart, "Where the REST port listens."),
    key("restapi.connect_address", "HOST:PORT", "the host of `raft.self_addr`, the port of `restapi.listen`", Restart, "Where others reach the REST port."),
    key("restapi.tls", "boolean", "`false`", Restart, "REST through TLS, by the member's certificate."),
    key("restapi.anonymous", "list of `health`, `metrics`, `questions`; or `none`", "`health, metrics`", Restart, "What is answered to whoever asks from another machine and shows nothing. See docs/rest.md."),
    key("restapi.authentication.username", "name", "nobody", Restart, "An operator's name for REST, as Patroni's tools send it."),
    key("restapi.authentication.password", "text", "none", Restart, "Its password."),
    key("restapi.authentication.password_file", "path", "none", Restart, "A file with the password, closed to others."),
    key("proxy.read_write", "IP:PORT", "no such door", Restart, "Where the door to the primary listens, by custom on port 5000."),
    key("proxy.read_only", "IP:PORT", "no such door", Restart, "Where the door to the standbys listens, by custom on port 5001."),
    key("proxy.any", "IP:PORT", "no such door", Restart, "Where the door to whatever member answers listens, by custom on port 5002."),
    key("proxy.agent_check", "IP:PORT", "no such port", Restart, "Where HAProxy's agent check listens; it works without doors, too. See `howdah haproxy config --agent-port`."),
    key("proxy.hold_timeout", "duration", "`30s`", Restart, "How long a connection waits at a door that leads nowhere, before it gets an error."),
    key("proxy.hold_limit", "number", "1000", Restart, "How many may wait at each door."),
    key("proxy.max_connections", "number", "10000", Restart, "How many connections each door takes; each needs two open files."),
    key("proxy.idle_timeout", "duration", "never", Restart, "A session in which nothing moved for so long is ended; 0: never."),
    key("proxy.max_lag", "size", "16MB", Restart, "A standby that lies further behind gets no new readers."),
    key("proxy.primary_reads", "`never`, `fallback` or `always`", "`never`", Restart, "Whether `read_only` may lead to the primary: never, while no standby is fit, or as to any standby."),
    key("proxy.accept_proxy_protocol", "boolean", "`false`", Restart, "Clients must begin with a PROXY header, version 1 or 2: a load balancer stands before the doors."),
    key("proxy.send_proxy_protocol", "boolean", "`false`", Restart, "Servers are sent a PROXY header, version 2. PostgreSQL itself does not understand it."),
    key("proxy.threads", "number", "one per core, 4 at most", Restart, "Threads that move the doors' bytes."),
    key("pgbouncer.addresses", "list of HOST:PORT or DIRECTORY:PORT", "none", Restart, "PgBouncers that this member pauses around a hand-over and has reconnect after a failover."),
    key("pgbouncer.username", "role", "`pgbouncer`", Restart, "One of their `admin_users`. Over a socket, `pgbouncer` needs no password where PgBouncer runs as howdah's user."),
    key("pgbouncer.password", "text", "none", Restart, "Its password."),
    key("pgbouncer.password_file", "path", "none", Restart, "A file with the password, closed to others."),
    key("pgbouncer.pause_timeout", "duration", "`1500ms`", Restart, "How long transactions may go on before a hand-over goes on without them; 60 s at most."),
    key("tls.ca", "absolute path", "must be written", Restart, "Certificates of the CAs that are believed, PEM; two while one takes the other's place. A change of the file is taken up by itself."),
    key("tls.cert", "absolute path", "must be written", Restart, "This member's certificate, PEM, with `howdah://SCOPE/member/NAME` among its URIs."),
    key("tls.key", "absolute path", "must be written", Restart, "Its private key, PEM, closed to others."),
    key("tls.ca_key", "absolute path", "none", Restart, "Key of a CA in `tls.ca`, PEM, closed to others: this member renews its certificate by itself, into the files above."),
    key("vip.address", "ADDRESS[/BITS]", "none", Restart, "An address that the primary's machine holds, and no other; without bits it stands for itself alone."),
    key("vip.interface", "name of an interface", "none", Restart, "Where it is held. howdah must be started as root, or with CAP_NET_ADMIN and CAP_NET_RAW."),
    key("postgresql.listen", "HOST[,HOST...][:PORT]", "`127.0.0.1:5432`", Restart, "Where PostgreSQL listens; `*` for all addresses."),
    key("postgresql.connect_address", "HOST[:PORT]", "the host of `raft.self_addr`, PostgreSQL's port", Restart, "Where clients and the other members reach this PostgreSQL; no proxy in between."),
    key("postgresql.data_dir", "absolute path", "must be written", Restart, "PostgreSQL's data directory; at most 94 bytes long. Beside it lie `<data_dir>.howdah`, `.sock` and others."),
    key("postgresql.bin_dir", "absolute path", "the newest PostgreSQL of this machine", Restart, "Where `postgres`, `initdb`, `pg_basebackup`, `pg_rewind` and `pg_controldata` are."),
    key("postgresql.authentication.superuser.username", "role", "`postgres`", Restart, "The agent's role, over the local socket by peer authentication."),
    key("postgresql.authentication.superuser.password", "text", "none", Restart, "Not needed: the socket needs none."),
    key("postgresql.authentication.superuser.password_file", "path", "none", Restart, "A file with the password, closed to others."),
    key("postgresql.authentication.replication.username", "role", "`replicator`", Restart, "For streaming and for copies."),
    key("postgresql.authentication.replication.password", "text", "made by the cluster", Reload, "Its password."),
    key("postgresql.authentication.replication.password_file", "path", "none", Reload, "A file with the password, closed to others."),
    key("postgresql.authentication.rewind.username", "role", "`rewinder`", Restart, "For pg_rewind."),
    key("postgresql.authentication.rewind.password", "text", "made by the cluster", Reload, "Its password."),
    key("postgresql.authentication.rewind.password_file", "path", "none", Reload, "A file with the password, closed to others."),
    key("postgresql.authentication.monitoring.username", "role", "no such role", Reload, "Made by the leader with pg_monitor and nothing else, for exporters; pg_hba lets it in from the machine itself unless it says otherwise."),
    key("postgresql.authentication.monitoring.password", "text", "none", Reload, "Its password."),
    key("postgresql.authentication.monitoring.password_file", "path", "none", Reload, "A file with the password, closed to others."),
    key("postgresql.parameters.NAME", "as PostgreSQL has it", "the cluster's value, else howdah's or PostgreSQL's", Reload, "A PostgreSQL parameter of this member; goes before the cluster's."),
    key("postgresql.pg_hba", "list of lines", "none", Reload, "Lines for pg_hba of this member, after howdah's own and the cluster's."),
    key("postgresql.pg_ident", "list of lines", "none", Reload, "Lines for pg_ident of this member, after howdah's own; the map `howdah` is taken."),
    key("bootstrap.dcs.ttl", "duration", "5 s, 2 s with `profile: fast`", NewCluster, "Time to live of the leader's lease; 2 s or more, and more for slow timers."),
    key("bootstrap.dcs.maximum_lag_on_failover", "size", "`1MB`", NewCluster, "A standby further behind does not become leader by itself."),
    key("bootstrap.dcs.primary_start_timeout", "duration", "`300s`", NewCluster, "How long a crashed PostgreSQL may be started again in place, where no synchronous standby leads at once; 0: fail over at once."),
    key("bootstrap.dcs.synchronous_mode", "`off`, `on` or `quorum`", "`off`", NewCluster, "Whether commits wait for standbys: `on` for those that are picked, `quorum` for as many of all."),
    key("bootstrap.dcs.synchronous_mode_strict", "boolean", "`false`", NewCluster, "Commits wait also while no standby can be waited for; else they go on alone, and `list` says so."),
    key("bootstrap.dcs.synchronous_node_count", "whole number", "`1`", NewCluster, "How many standbys a commit waits for."),
    key("bootstrap.dcs.maximum_lag_on_syncnode", "size, or -1", "`-1`", NewCluster, "A standby further behind is not waited for; -1: however far behind."),
    key("bootstrap.dcs.postgresql.use_pg_rewind", "boolean", "`true`", NewCluster, "A diverged member is rewound where that can work; else always copied."),
    key("bootstrap.dcs.postgresql.use_slots", "boolean", "`true`", NewCluster, "Each member has a replication slot."),
    key("bootstrap.dcs.postgresql.parameters.NAME", "as PostgreSQL has it", "howdah's or PostgreSQL's", NewCluster, "A PostgreSQL parameter of all members."),
    key("bootstrap.dcs.postgresql.pg_hba", "list of lines", "local users; TCP from loopback with a password", NewCluster, "Lines for pg_hba of all members, after howdah's own."),
    key("bootstrap.initdb", "list of options", "`[encoding: UTF8, data-checksums]`", NewCluster, "Options of initdb."),
    key("bootstrap.pg_hba", "list of lines", "none", NewCluster, "The same as `bootstrap.dcs.postgresql.pg_hba`, joined to it."),
    key("tags.nofailover", "boolean", "`false`", Reload, "Never becomes leader."),
    key("tags.noloadbalance", "boolean", "`false`", Reload, "Gets no read traffic."),
    key("tags.clonefrom", "boolean", "`false`", Reload, "Preferred source of copies."),
    key("tags.nosync", "boolean", "`false`", Reload, "Never a synchronous standby."),
    key("tags.sync_priority", "whole number", "`1`", Reload, "The higher, the earlier commits wait for it with `synchronous_mode: on`; 0 is `nosync`."),
    key("tags.failover_priority", "whole number", "`1`", Reload, "The higher, the earlier among equals; 0 is `nofailover`."),
    key("tags.NAME", "text, number or boolean", "none", Reload, "Anything; shown by the commands and matched by REST."),
];
