//! What the children of a postmaster are, read from their process titles.
//!
//! For the agent, which brings the process listing: the promise needs the proof that there is no
//! walreceiver, the barrier that there is no session older than the HBA file.
//! Invariant: errs towards seeing a process. A child that has not set its title yet counts as
//! [`Kind::Unnamed`] and proves nothing.

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proc {
    /// Its id.
    pub pid: i32,
    /// Its parent.
    pub ppid: i32,
    /// Its command line: for PostgreSQL's children the title they set.
    pub title: String,
}

/// What a child of the postmaster does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Receives WAL from an upstream.
    WalReceiver,
    /// Sends WAL to a standby, a clone or an archiver.
    WalSender,
    /// Replays WAL.
    Startup,
    /// Serves a client's session.
    Client,
    /// Another of PostgreSQL's own processes.
    Auxiliary,
    /// Forked so recently that it has no title yet, or ended and not reaped.
    Unnamed,
}

/// Beginnings of titles of processes that serve no client.
const AUXILIARY: [&str; 18] = [
    "checkpointer",
    "background writer",
    "bgwriter",
    "walwriter",
    "walsummarizer",
    "autovacuum launcher",
    "autovacuum worker",
    "archiver",
    "logger",
    "stats collector",
    "logical replication launcher",
    "logical replication worker",
    "logical replication apply worker",
    "logical replication parallel apply worker",
    "logical replication tablesync worker",
    "slotsync worker",
    "io worker",
    "parallel worker",
];

/// What a title stands for. `cluster_name` is the setting the server was started with.
pub fn kind(title: &str, cluster_name: &str) -> Kind {
    let Some(rest) = title.strip_prefix("postgres: ") else {
        return Kind::Unnamed;
    };
    let named = rest.strip_prefix(cluster_name).and_then(|r| r.strip_prefix(": "));
    let rest = match named {
        Some(rest) if !cluster_name.is_empty() => rest,
        _ => rest,
    };
    let is = |name: &str| {
        rest.strip_prefix(name).is_some_and(|after| after.is_empty() || after.starts_with(' '))
    };
    if is("walreceiver") {
        Kind::WalReceiver
    } else if is("walsender") {
        Kind::WalSender
    } else if is("startup") {
        Kind::Startup
    } else if AUXILIARY.iter().any(|name| is(name)) {
        Kind::Auxiliary
    } else {
        Kind::Client
    }
}

/// A listing cut down to the children of one postmaster.
pub struct Children<'a> {
    list: Vec<(&'a Proc, Kind)>,
}

impl<'a> Children<'a> {
    /// The children of `postmaster` in this listing.
    pub fn of(postmaster: i32, cluster_name: &str, list: &'a [Proc]) -> Self {
        let children = list.iter().filter(|p| p.ppid == postmaster);
        Self { list: children.map(|p| (p, kind(&p.title, cluster_name))).collect() }
    }

    /// Ids of all children of this kind.
    pub fn pids(&self, kind: Kind) -> Vec<i32> {
        self.list.iter().filter(|(_, k)| *k == kind).map(|(p, _)| p.pid).collect()
    }

    /// Processes that receive WAL.
    pub fn walreceivers(&self) -> Vec<i32> {
        self.pids(Kind::WalReceiver)
    }

    /// Processes that send WAL.
    pub fn walsenders(&self) -> Vec<i32> {
        self.pids(Kind::WalSender)
    }

    /// Sessions of clients.
    pub fn clients(&self) -> Vec<i32> {
        self.pids(Kind::Client)
    }

    /// The process that replays WAL, if there is one.
    pub fn startup(&self) -> Option<i32> {
        self.pids(Kind::Startup).first().copied()
    }

    /// Whether this listing shows that nothing receives WAL: no walreceiver, and no child that
    /// might yet turn out to be one.
    pub fn proves_no_walreceiver(&self) -> bool {
        !self.list.iter().any(|(_, k)| matches!(k, Kind::WalReceiver | Kind::Unnamed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles() {
        for (title, cluster, expected) in [
            ("postgres: demo: walreceiver streaming 0/3000060", "demo", Kind::WalReceiver),
            ("postgres: walreceiver ", "", Kind::WalReceiver),
            ("postgres: walreceiver", "demo", Kind::WalReceiver),
            ("postgres: demo: walsender rep 10.0.0.2(1) streaming 0/1", "demo", Kind::WalSender),
            ("postgres: demo: startup recovering 0000000100000003", "demo", Kind::Startup),
            ("postgres: startup", "", Kind::Startup),
            ("postgres: demo: checkpointer ", "demo", Kind::Auxiliary),
            ("postgres: demo: autovacuum worker shop", "demo", Kind::Auxiliary),
            ("postgres: demo: io worker 2", "demo", Kind::Auxiliary),
            ("postgres: demo: alice shop 10.0.0.9(4711) idle", "demo", Kind::Client),
            ("postgres: demo: alice shop [local] INSERT waiting for 0/1", "demo", Kind::Client),
            ("postgres: a: b: walreceiver", "a: b", Kind::WalReceiver),
            ("postgres: startups shop [local] idle", "", Kind::Client),
            ("/usr/lib/postgresql/15/bin/postgres -D /pg", "demo", Kind::Unnamed),
            ("", "demo", Kind::Unnamed),
        ] {
            assert_eq!(kind(title, cluster), expected, "{title:?} in {cluster:?}");
        }
    }

    #[test]
    fn only_children_of_this_postmaster_count() {
        let proc = |pid, ppid, title: &str| Proc { pid, ppid, title: title.to_owned() };
        let mut list = vec![
            proc(10, 1, "/usr/lib/postgresql/15/bin/postgres -D /pg"),
            proc(11, 10, "postgres: demo: startup recovering 0000000100000003"),
            proc(12, 10, "postgres: demo: walsender rep 10.0.0.2(1) streaming 0/1"),
            proc(13, 10, "postgres: demo: alice shop [local] idle"),
            proc(21, 20, "postgres: demo: walreceiver streaming 0/1"),
        ];
        let children = Children::of(10, "demo", &list);
        assert!(children.proves_no_walreceiver());
        assert_eq!(children.startup(), Some(11));
        assert_eq!((children.walsenders(), children.clients()), (vec![12], vec![13]));
        assert_eq!(Children::of(20, "demo", &list).walreceivers(), [21]);
        list.push(proc(14, 10, "/usr/lib/postgresql/15/bin/postgres -D /pg"));
        assert!(!Children::of(10, "demo", &list).proves_no_walreceiver());
    }
}
