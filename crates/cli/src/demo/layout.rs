//! Where the demo's files and ports are, and the configuration file of each member.
//!
//! Only the user that PostgreSQL runs as (and root) can read what has secrets in it: members'
//! directories are 0700, the top is 0755 so that this user can walk in when root started the demo.

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use howdah_core::Profile;
use howdah_locks::{Authority, Identity, Paths, Role, Wanted, authority};
use nix::unistd::{Uid, User};
use rand::Rng;

use crate::args::{DemoArgs, SyncArg};
use crate::client::{self, Endpoints};
use crate::failure::Failure;
use crate::member_file::{At, MemberFile};

/// The demo's cluster.
const SCOPE: &str = "demo";
/// Where its administrator's certificate lies.
const KEYS: &str = "admin";

/// The demo's files, ports and user.
pub(crate) struct Layout {
    /// Made for this demo, so that it may be removed as a whole.
    pub(crate) dir: PathBuf,
    pub(crate) members: Vec<MemberLayout>,
    /// User that PostgreSQL runs as.
    pub(crate) user: User,
    pub(crate) password: String,
    pub(crate) ttl: Duration,
    pub(crate) mode: SyncArg,
    endpoints: Endpoints,
}

/// What all members' files share.
struct Shared<'a> {
    all: &'a [MemberLayout],
    profile: Profile,
    ttl: Duration,
    mode: SyncArg,
    user: &'a str,
}

/// One member's files and ports.
#[derive(Clone, Debug)]
pub(crate) struct MemberLayout {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) postgres_port: u16,
    pub(crate) control_port: u16,
    pub(crate) rest_port: u16,
    pub(crate) write_port: u16,
    pub(crate) read_port: u16,
}

impl Layout {
    /// Makes the directories and writes the files.
    pub(crate) fn create(
        args: &DemoArgs,
        profile: Profile,
        ttl: Duration,
    ) -> Result<Layout, Failure> {
        let user = target_user()?;
        let dir = directory(args.dir.as_deref())?;
        let mut ports = Ports::default();
        let members = (1..=args.members)
            .map(|nth| {
                let name = format!("n{nth}");
                let home = dir.join(&name);
                Ok(MemberLayout {
                    config: home.join("howdah.yml"),
                    log: home.join("howdah.log"),
                    data_dir: home.join("data"),
                    dir: home,
                    name,
                    postgres_port: ports.next(5501)?,
                    control_port: ports.next(7432)?,
                    rest_port: ports.next(8008)?,
                    write_port: ports.next(5000)?,
                    read_port: ports.next(5010)?,
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let password = random_password();
        let mode = args.synchronous_mode;
        let failed = |why: &dyn std::fmt::Display| Failure::Error(why.to_string());
        let ca = Authority::create(&dir.join("pki"), SCOPE, authority::CA_LIFETIME);
        let ca = ca.map_err(|why| failed(&why))?;
        let addresses = members.iter().map(|m| format!("127.0.0.1:{}", m.control_port)).collect();
        issue(&ca, Role::Admin, "demo", &dir.join(KEYS))?;
        let access = client::keys(&dir.join(KEYS), Some(SCOPE))?;
        let endpoints = Endpoints::new(addresses, access);
        let layout = Layout { dir, members, user, password, ttl, mode, endpoints };
        for member in &layout.members {
            layout.write_member(member, profile, &ca)?;
        }
        layout.write_pgpass()?;
        Ok(layout)
    }

    fn write_member(
        &self,
        member: &MemberLayout,
        profile: Profile,
        ca: &Authority,
    ) -> Result<(), Failure> {
        let dir = &member.dir;
        fs::create_dir(dir).map_err(Failure::io(dir.display()))?;
        fs::set_permissions(dir, Permissions::from_mode(0o700))
            .map_err(Failure::io(dir.display()))?;
        let shared = Shared {
            all: &self.members,
            profile,
            ttl: self.ttl,
            mode: self.mode,
            user: &self.user.name,
        };
        let text = member_yaml(member, &shared);
        write_private(&member.config, &text)?;
        write_private(&member.log, "")?;
        let tls = dir.join("tls");
        issue(ca, Role::Member, &member.name, &tls)?;
        if Uid::effective().is_root() {
            let (uid, gid) = (self.user.uid.as_raw(), self.user.gid.as_raw());
            let Paths { ca, cert, key } = Paths::in_dir(&tls);
            let (config, log) = (member.config.clone(), member.log.clone());
            for path in [dir.clone(), config, log, tls, ca, cert, key] {
                chown(&path, Some(uid), Some(gid)).map_err(Failure::io(path.display()))?;
            }
        }
        Ok(())
    }

    fn write_pgpass(&self) -> Result<(), Failure> {
        let ports = |m: &MemberLayout| [m.postgres_port, m.write_port, m.read_port];
        let line = |port: u16| format!("127.0.0.1:{port}:*:demo:{}\n", self.password);
        let lines = self.members.iter().flat_map(ports).map(line);
        write_private(&self.pgpass(), &lines.collect::<String>())
    }

    fn pgpass(&self) -> PathBuf {
        self.dir.join("pgpass")
    }

    /// The members' gRPC, and the administrator's certificate.
    pub(crate) fn endpoints(&self) -> Endpoints {
        self.endpoints.clone()
    }

    /// Directory of that certificate.
    pub(crate) fn keys(&self) -> PathBuf {
        self.dir.join(KEYS)
    }

    /// A connection string that finds the primary; the password is in a file.
    pub(crate) fn dsn(&self) -> String {
        self.leading_to(|m| m.postgres_port, "target_session_attrs=read-write ")
    }

    /// The same through the doors for writes.
    pub(crate) fn write_dsn(&self) -> String {
        self.leading_to(|m| m.write_port, "")
    }

    /// Through the doors for reads.
    pub(crate) fn read_dsn(&self) -> String {
        self.leading_to(|m| m.read_port, "")
    }

    fn leading_to(&self, port: fn(&MemberLayout) -> u16, more: &str) -> String {
        let hosts: Vec<&str> = self.members.iter().map(|_| "127.0.0.1").collect();
        let ports: Vec<String> = self.members.iter().map(|m| port(m).to_string()).collect();
        format!(
            "host={} port={} user=demo dbname=demo {more}passfile={}",
            hosts.join(","),
            ports.join(","),
            self.pgpass().display()
        )
    }

    /// Removes what was made.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.dir).map_err(Failure::io(self.dir.display()))
    }
}

/// The user that PostgreSQL runs as: oneself, or `postgres` when oneself is root.
fn target_user() -> Result<User, Failure> {
    let uid = Uid::effective();
    let found = if uid.is_root() { User::from_name("postgres") } else { User::from_uid(uid) };
    found.ok().flatten().ok_or_else(|| {
        Failure::Error(
            "there is no user `postgres` on this machine; install PostgreSQL, or run the demo as \
             an ordinary user"
                .to_owned(),
        )
    })
}

fn directory(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(dir) = asked {
        let dir = std::path::absolute(dir).map_err(Failure::io(dir.display()))?;
        let existed = dir.exists();
        fs::create_dir_all(&dir).map_err(Failure::io(dir.display()))?;
        let first = fs::read_dir(&dir).map_err(Failure::io(dir.display()))?.next();
        if first.is_some() {
            let text = format!("--dir: {} is not empty; name another directory", dir.display());
            return Err(Failure::Usage(text));
        }
        if !existed {
            open(&dir)?;
        }
        return Ok(dir);
    }
    let parent =
        std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let dir = tempfile::Builder::new()
        .prefix("howdah-demo-")
        .tempdir_in(&parent)
        .map_err(Failure::io(format!("{}: no directory can be made", parent.display())))?
        .keep();
    open(&dir)?;
    Ok(dir)
}

fn open(dir: &Path) -> Result<(), Failure> {
    fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(Failure::io(dir.display()))
}

fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Failure::io(path.display()))
}

fn issue(ca: &Authority, role: Role, name: &str, out: &Path) -> Result<(), Failure> {
    let identity = Identity::new(SCOPE, role, name);
    let identity = identity.map_err(|why| Failure::Error(why.to_string()))?;
    let hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let wanted = Wanted { identity, hosts, lifetime: authority::LIFETIME };
    ca.issue_into(&wanted, &Paths::in_dir(out)).map_err(|why| Failure::Error(why.to_string()))
}

fn random_password() -> String {
    let mut random = rand::rng();
    (0..24).map(|_| char::from(random.sample(rand::distr::Alphanumeric))).collect()
}

fn member_yaml(member: &MemberLayout, shared: &Shared<'_>) -> String {
    let Shared { all, profile, ttl, mode, user } = shared;
    let profile = match profile {
        Profile::Default => "default",
        Profile::Fast => "fast",
    };
    let local = |port: u16| format!("127.0.0.1:{port}");
    let at = |port: u16| At { listen: local(port), connect: local(port) };
    let others = all.iter().filter(|other| other.name != member.name);
    let tail = format!(
        "bootstrap:
  dcs:
    ttl: {}ms
    synchronous_mode: {}
    postgresql:
      parameters: {{ shared_buffers: 16MB, max_connections: 200 }}
      pg_hba: [ host all all 127.0.0.1/32 scram-sha-256 ]
",
        ttl.as_millis(),
        mode.word()
    );
    let file = MemberFile {
        head: format!("profile: {profile}\nuser: '{user}'\n"),
        scope: SCOPE,
        name: &member.name,
        tls: Paths::in_dir(&member.dir.join("tls")),
        ca_key: None,
        raft_dir: &member.dir.join("raft"),
        control: at(member.control_port),
        partners: others.map(|other| local(other.control_port)).collect(),
        rest: at(member.rest_port),
        write_door: local(member.write_port),
        read_door: local(member.read_port),
        postgres: at(member.postgres_port),
        data_dir: &member.data_dir,
        tail: &tail,
    };
    file.yaml()
}

/// Hands out free ports; each kind counts on from its own first one.
#[derive(Default)]
struct Ports {
    taken: Vec<u16>,
}

impl Ports {
    fn next(&mut self, first: u16) -> Result<u16, Failure> {
        let free = |port: &u16| {
            !self.taken.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok()
        };
        let port = (first..first.saturating_add(400)).find(free).ok_or_else(|| {
            Failure::Error(format!("no port is free from {first} on; stop what listens there"))
        })?;
        self.taken.push(port);
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use howdah_agent::config::Config;
    use howdah_core::sync::choose::Mode;

    use super::*;

    fn members() -> Vec<MemberLayout> {
        let member = |nth: u16| MemberLayout {
            name: format!("n{nth}"),
            dir: "/d o/n".into(),
            config: "/d o/n/howdah.yml".into(),
            log: "/d o/n/howdah.log".into(),
            data_dir: "/d o/n/data".into(),
            postgres_port: 5500 + nth,
            control_port: 7431 + nth,
            rest_port: 8007 + nth,
            write_port: 4999 + nth,
            read_port: 5009 + nth,
        };
        (1..=3).map(member).collect()
    }

    #[test]
    fn the_files_of_the_members_pass_the_check() {
        let all = members();
        let ttl = Duration::from_millis(2500);
        let (profile, mode, user) = (Profile::Fast, SyncArg::Quorum, "postgres");
        let text = member_yaml(&all[1], &Shared { all: &all, profile, ttl, mode, user });
        let file = Path::new("howdah.yml");
        // The programs' directory is found on the machine; named here so that none is needed.
        let variables = BTreeMap::from([("HOWDAH_POSTGRESQL_BIN_DIR".into(), "/bin".into())]);
        let (config, warnings) = Config::from_text(file, &text, 0o600, &variables).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(config.bootstrap.settings.ttl(), ttl);
        assert_eq!(config.bootstrap.settings.synchronous_mode, Mode::Quorum);
        assert_eq!(config.postgresql.data_dir, Path::new("/d o/n/data"));
        assert_eq!(config.raft.partner_addrs, ["127.0.0.1:7432", "127.0.0.1:7434"]);
    }

    #[test]
    fn a_taken_port_moves_on() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut ports = Ports::default();
        let first = ports.next(port).unwrap();
        assert!(first > port);
        assert!(ports.next(port).unwrap() > first, "one port was handed out twice");
    }
}
