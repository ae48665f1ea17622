//! `howdah init`: all that the members of a new cluster need, in one new directory: the CA, each member's configuration
//! and certificate, an administrator's, and the command that installs each member.
//!
//! Works on files alone; no member is asked, and nothing leaves this machine. Secrets are written, closed to others, and
//! never printed. Killed half way: a hidden directory `.howdah-init-…` beside the one that was asked for, which may be
//! removed; that one itself is there whole or not at all.

mod install;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use howdah_agent::config::{Config, HostPort};
use howdah_locks::authority::{CA_LIFETIME, LIFETIME, check_host};
use howdah_locks::files::{self, CA_KEY, CERT, KEY};
use howdah_locks::{Authority, Identity, Paths, Role, Wanted};
use serde::Serialize;

use crate::args::{Global, InitArgs};
use crate::failure::{DONE, Failure};
use crate::member_file::{At, MemberFile};
use crate::output;
use install::{HOME, quoted};

/// The CA's directory.
const PKI: &str = "pki";
/// An administrator's.
const ADMIN: &str = "admin";
/// A member's files in its directory.
const CONFIG: &str = "howdah.yml";
const TLS: &str = "tls";

/// Lines below `postgresql`, and what the cluster begins with.
const TAIL: &str = "  # Clients: on this machine as the user that they are, else by password over TLS, from anywhere.
  pg_hba:
    - local all all peer
    - hostssl all all all scram-sha-256
bootstrap:
  dcs:
    # `on` or `quorum`: no acknowledged write is lost. Chosen now, in every member's file; it cannot be changed later.
    synchronous_mode: off
";

/// What was made, for programs. Fields are added, never renamed.
#[derive(Debug, Serialize)]
pub struct InitView {
    scope: String,
    dir: PathBuf,
    members: Vec<MemberView>,
    /// Directory of an administrator's certificate, for `--keys`.
    keys: PathBuf,
    endpoint: String,
    look: String,
    /// Members renew their certificates by themselves.
    renews: bool,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct MemberView {
    name: String,
    host: String,
    /// A shell's line that puts its files on its machine and starts it.
    install: String,
}

impl InitView {
    /// For docs/cli.md.
    pub(crate) fn example() -> Self {
        Self {
            scope: "main".into(),
            dir: "main".into(),
            members: vec![MemberView {
                name: "n1".into(),
                host: "10.0.0.1".into(),
                install: "tar -C main -cf - n1 | ssh root@10.0.0.1 '...'".into(),
            }],
            keys: "main/admin".into(),
            endpoint: "10.0.0.1:7432".into(),
            look: "howdah --keys main/admin --endpoint 10.0.0.1:7432 list".into(),
            renews: true,
            warnings: Vec::new(),
        }
    }
}

/// A member as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    name: String,
    /// IPv6 without brackets.
    host: String,
}

fn usage(why: impl std::fmt::Display) -> Failure {
    Failure::Usage(why.to_string())
}

fn error(why: impl std::fmt::Display) -> Failure {
    Failure::Error(why.to_string())
}

pub(super) fn run(global: &Global, args: &InitArgs) -> Result<u8, Failure> {
    let members = members(args)?;
    let files: Vec<String> = members.iter().map(|own| yaml(args, &members, own)).collect();
    let warnings = checked(&members, &files)?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.scope));
    make(args, &dir, &members, &files)?;
    for warning in &warnings {
        // Without a stderr there is nobody to warn.
        let _ = writeln!(std::io::stderr(), "howdah: warning: {warning}");
    }
    let view = view(args, dir, members, warnings);
    output::print(&output::render(global.output, &view, || for_people(&view))?)?;
    Ok(DONE)
}

/// Reads `NAME=HOST`.
fn members(args: &InitArgs) -> Result<Vec<Named>, Failure> {
    let mut members: Vec<Named> = Vec::new();
    for text in &args.members {
        let (name, host) = text.split_once('=').ok_or_else(|| {
            usage(format!("`{text}`: write a member's name and its host, as n1=10.0.0.1"))
        })?;
        Identity::new(&args.scope, Role::Member, name).map_err(usage)?;
        // Each is a directory beside the CA's, and a word of the commands.
        if [PKI, ADMIN].contains(&name) || name.starts_with(['.', '-']) {
            return Err(usage(format!("`{name}` cannot be a member's name here; choose another")));
        }
        let host = host_of(host)?;
        for other in &members {
            if other.name == name {
                return Err(usage(format!(
                    "`{name}` is the name of two members; give each its own"
                )));
            }
            if other.host == host {
                return Err(usage(format!(
                    "`{host}` is the host of {} and of {name}: members need a machine each; `howdah demo` makes a \
                     cluster on one",
                    other.name
                )));
            }
        }
        members.push(Named { name: name.to_owned(), host });
    }
    Ok(members)
}

/// A host in the form in which two can be compared.
fn host_of(text: &str) -> Result<String, Failure> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = inner.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    check_host(text).map_err(usage)?;
    // Nobody's top-level domain is a number: an address with a slip in it.
    if text.rsplit('.').next().is_some_and(|last| last.chars().all(|c| c.is_ascii_digit())) {
        return Err(usage(format!("`{text}` is no host; write a DNS name or an IP address")));
    }
    Ok(text.to_ascii_lowercase())
}

/// A member's configuration.
fn yaml(args: &InitArgs, members: &[Named], own: &Named) -> String {
    let reached = |host: &str, port| HostPort { host: host.to_owned(), port }.to_string();
    let all = if own.host.contains(':') { "::" } else { "0.0.0.0" };
    let at = |port| At { listen: reached(all, port), connect: reached(&own.host, port) };
    let tls = Path::new(HOME).join(TLS);
    let ca_key = tls.join(CA_KEY);
    let others = members.iter().filter(|other| other.name != own.name);
    let file = MemberFile {
        head: "# Made by `howdah init`. docs/configuration.md lists every key; `howdah config check` looks at this file.\n"
            .to_owned(),
        scope: &args.scope,
        name: &own.name,
        tls: Paths::in_dir(&tls),
        ca_key: (!args.without_ca_key).then_some(&ca_key),
        raft_dir: &args.raft_dir,
        control: at(args.control_port),
        partners: others.map(|other| reached(&other.host, args.control_port)).collect(),
        rest: at(args.rest_port),
        write_door: reached(all, args.write_port),
        read_door: reached(all, args.read_port),
        postgres: at(args.postgres_port),
        data_dir: &args.data_dir,
        tail: TAIL,
    };
    file.yaml()
}

/// What `howdah config check --static` will say on the members, told before anything is written; what is odd.
fn checked(members: &[Named], files: &[String]) -> Result<Vec<String>, Failure> {
    // The programs are looked for on the members.
    let variables = BTreeMap::from([("HOWDAH_POSTGRESQL_BIN_DIR".to_owned(), "/bin".to_owned())]);
    let mut odd = Vec::new();
    for (member, text) in members.iter().zip(files) {
        let file = Path::new(&member.name).join(CONFIG);
        let (_, warnings) = Config::from_text(&file, text, 0o600, &variables).map_err(usage)?;
        for warning in warnings {
            let told = format!("{}: {}; {}", warning.key, warning.what, warning.remedy);
            if !odd.contains(&told) {
                odd.push(told);
            }
        }
    }
    Ok(odd)
}

/// Builds it beside its place, and moves it there.
fn make(args: &InitArgs, dir: &Path, members: &[Named], files: &[String]) -> Result<(), Failure> {
    if dir.symlink_metadata().is_ok() {
        let there = dir.display();
        let text =
            format!("{there} is there already; name another directory with --dir, or move it away");
        return Err(Failure::Refused(text));
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let made = tempfile::Builder::new()
        .prefix(".howdah-init-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(Failure::io(format!("{}: no directory can be made there", parent.display())))?;
    let at = |name: &str| made.path().join(name);
    let ca = Authority::create(&at(PKI), &args.scope, CA_LIFETIME).map_err(error)?;
    let issue = |role, name: &str, hosts, into: &Path| {
        let identity = Identity::new(&args.scope, role, name).map_err(error)?;
        let wanted = Wanted { identity, hosts, lifetime: LIFETIME };
        ca.issue_into(&wanted, &Paths::in_dir(into)).map_err(error)
    };
    issue(Role::Admin, ADMIN, Vec::new(), &at(ADMIN))?;
    for (member, text) in members.iter().zip(files) {
        let home = at(&member.name);
        files::make_dir(&home).map_err(error)?;
        issue(Role::Member, &member.name, vec![member.host.clone()], &home.join(TLS))?;
        if !args.without_ca_key {
            let key = files::read_key(&at(PKI).join(CA_KEY)).map_err(error)?;
            files::write(&home.join(TLS).join(CA_KEY), &key, 0o600).map_err(error)?;
        }
        files::write(&home.join(CONFIG), text, 0o600).map_err(error)?;
    }
    fs::rename(made.path(), dir).map_err(Failure::io(dir.display()))?;
    // It is no longer where it would be removed from.
    let _ = made.keep();
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(Failure::io(parent.display()))
}

fn view(args: &InitArgs, dir: PathBuf, members: Vec<Named>, warnings: Vec<String>) -> InitView {
    let endpoint = |member: &Named| {
        HostPort { host: member.host.clone(), port: args.control_port }.to_string()
    };
    let endpoint = members.iter().map(endpoint).collect::<Vec<_>>().join(",");
    let keys = dir.join(ADMIN);
    let shown = quoted(&keys.display().to_string());
    let places = [args.data_dir.as_path(), args.raft_dir.as_path()];
    let member = |Named { name, host }| {
        let install = install::command(&dir, &name, &host, &places);
        MemberView { name, host, install }
    };
    InitView {
        scope: args.scope.clone(),
        members: members.into_iter().map(member).collect(),
        look: format!("howdah --keys {shown} --endpoint {} list", quoted(&endpoint)),
        dir,
        keys,
        endpoint,
        renews: !args.without_ca_key,
        warnings,
    }
}

fn for_people(view: &InitView) -> String {
    let (dir, count) = (view.dir.display(), view.members.len());
    let members = if count == 1 { "1 member".to_owned() } else { format!("{count} members") };
    let renewal = match view.renews {
        true => "members renew their certificates by themselves".to_owned(),
        false => format!(
            "certificates count for {} days and are renewed by hand: `howdah pki renew {dir}/NAME/{TLS} --dir {dir}/{PKI}`, \
             then copy {CERT} and {KEY}",
            LIFETIME.as_secs() / (24 * 3600)
        ),
    };
    let lines: String = view.members.iter().map(|member| format!("{}\n", member.install)).collect();
    format!(
        "{dir}: cluster {} of {members}; {renewal}.\n\n\
         Install each, where PostgreSQL and howdah with its unit are, and no PostgreSQL runs:\n\n{lines}\n\
         Then look:\n\n{}\n\n\
         {dir}/{PKI}/{CA_KEY} makes members and administrators, and {dir}/{ADMIN} is one: keep them closed.\n",
        view.scope, view.look
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(words: &str) -> InitArgs {
        let words = ["howdah", "init"].into_iter().chain(words.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Init(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn config(words: &str, index: usize) -> Config {
        let args = args(words);
        let members = members(&args).unwrap();
        let text = yaml(&args, &members, &members[index]);
        let variables = BTreeMap::from([("HOWDAH_POSTGRESQL_BIN_DIR".into(), "/bin".into())]);
        let (config, warnings) =
            Config::from_text(Path::new("t.yml"), &text, 0o600, &variables).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        config
    }

    #[test]
    fn a_members_file_says_where_it_is_and_who_the_others_are() {
        let made = config("--scope main n1=10.0.0.1 n2=DB2.example.org n3=[fd00:0::3]", 0);
        assert_eq!((made.scope.as_str(), made.name.0.as_str()), ("main", "n1"));
        assert_eq!(made.raft.self_addr, "10.0.0.1:7432");
        assert_eq!(made.raft.partner_addrs, ["db2.example.org:7432", "[fd00::3]:7432"]);
        assert_eq!(made.raft.bind_addr.to_string(), "0.0.0.0:7432");
        assert_eq!(made.postgresql.connect_address.to_string(), "10.0.0.1:5432");
        assert_eq!(made.ca_key.as_deref(), Some(Path::new("/etc/howdah/tls/ca.key")));
        assert!(!made.insecure);
        let words = "--scope main --without-ca-key --postgres-port 6432 --data-dir /srv/a/data n1=10.0.0.1 n2=10.0.0.2 \
                     n3=fd00::3";
        let made = config(words, 2);
        assert_eq!(made.raft.bind_addr.to_string(), "[::]:7432");
        assert_eq!(made.postgresql.listen_hosts, ["::"]);
        assert_eq!(made.postgresql.connect_address.to_string(), "[fd00::3]:6432");
        assert_eq!(made.postgresql.data_dir, Path::new("/srv/a/data"));
        assert_eq!(made.ca_key, None);
    }

    #[test]
    fn what_cannot_be_a_cluster_is_refused_with_what_to_do() {
        for (words, said) in [
            ("--scope main n1", "as n1=10.0.0.1"),
            ("--scope main n1=", "is no host"),
            ("--scope main =10.0.0.1", "cannot be a name"),
            ("--scope a/b n1=10.0.0.1", "cannot be a name"),
            ("--scope main n1=10.0.0.1:7432", "is no host"),
            ("--scope main n1=10.0.0.256", "is no host"),
            ("--scope main n1=10.0.0.1 n1=10.0.0.2", "the name of two members"),
            ("--scope main n1=10.0.0.1 n2=10.0.0.1", "howdah demo"),
            ("--scope main n1=fd00::1 n2=[fd00:0::1]", "howdah demo"),
            ("--scope main n1=db.example.org n2=DB.example.org", "howdah demo"),
            ("--scope main pki=10.0.0.1", "choose another"),
            ("--scope main admin=10.0.0.1", "choose another"),
            ("--scope main ..=10.0.0.1", "choose another"),
            ("--scope main n@1=10.0.0.1", "choose a plain name"),
            ("--scope main n1=0.0.0.0", "write the address of this machine"),
            ("--scope main --data-dir data n1=10.0.0.1", "write a path from /"),
            ("--scope main --data-dir /a/raft --raft-dir /a n1=10.0.0.1", "keep the two apart"),
            ("--scope main --rest-port 5432 n1=10.0.0.1", "give each its own port"),
        ] {
            let args = args(words);
            let told = members(&args).and_then(|members| {
                let files: Vec<_> = members.iter().map(|own| yaml(&args, &members, own)).collect();
                checked(&members, &files)
            });
            let told = told.expect_err(words);
            assert!(matches!(told, Failure::Usage(_)), "{words}: {told}");
            assert!(told.to_string().contains(said), "{words}: {told}");
        }
    }

    #[test]
    fn two_members_are_warned_of() {
        let args = args("--scope main n1=10.0.0.1 n2=10.0.0.2");
        let members = members(&args).unwrap();
        let files: Vec<_> = members.iter().map(|own| yaml(&args, &members, own)).collect();
        let odd = checked(&members, &files).unwrap();
        assert_eq!(odd.len(), 1, "{odd:?}");
        assert!(odd[0].contains("two members cannot spare either"), "{odd:?}");
    }
}
