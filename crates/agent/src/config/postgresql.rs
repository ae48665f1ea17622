//! The `postgresql` section. Reads password files and looks for PostgreSQL's programs; the rest is
//! pure.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::addresses::{checked, host_port};
use super::reader::Section;
use super::sections::directory;
use super::{
    Authentication, HostPort, PostgresqlConfig, RaftConfig, Role, Secret, hba, parameters,
};

const PORT: u16 = 5432;

/// Sockets have 107 bytes for their path, of which the name and `.sock` take some.
const LONGEST_DATA_DIR: usize = howdah_postgres::settings::MAX_SOCKET_DIR - ".sock".len();

pub(super) fn read(top: &Section<'_>, raft: &RaftConfig) -> PostgresqlConfig {
    let Some(section) = top.section("postgresql") else {
        top.error("postgresql", "is missing", "write `postgresql:` with data_dir");
        return nothing();
    };
    let data_dir = directory(&section, "data_dir", "name PostgreSQL's data directory");
    let length = data_dir.as_os_str().len();
    if length > LONGEST_DATA_DIR {
        let what =
            format!("has {length} bytes; the sockets lie beside it, and their paths are short");
        section.error(
            "data_dir",
            what,
            &format!("choose a path of at most {LONGEST_DATA_DIR} bytes"),
        );
    }
    let (listen_hosts, port) = listen(&section);
    let connect_address = connect_address(&section, raft, port);
    let bin_dir = match section.text("bin_dir") {
        Some(text) => {
            let path = PathBuf::from(text);
            if path.is_relative() {
                section.error(
                    "bin_dir",
                    format!("`{}` is relative", path.display()),
                    "write a path from /",
                );
            }
            path
        }
        None => find_bin_dir().unwrap_or_else(|| {
            let what = "no PostgreSQL was found on this machine";
            section.error("bin_dir", what, "install it, or name the directory of `postgres`");
            PathBuf::new()
        }),
    };
    let authentication = authentication(&section);
    let parameters = parameters::read(section.section("parameters"));
    let pg_hba = hba::lines(&section, "pg_hba");
    let pg_ident = hba::ident_lines(&section, "pg_ident");
    section.finish();
    PostgresqlConfig {
        listen_hosts,
        port,
        connect_address,
        data_dir,
        bin_dir,
        authentication,
        parameters,
        pg_hba,
        pg_ident,
    }
}

fn nothing() -> PostgresqlConfig {
    let role = || Role { username: String::new(), password: None };
    PostgresqlConfig {
        listen_hosts: Vec::new(),
        port: 0,
        connect_address: HostPort { host: String::new(), port: 0 },
        data_dir: PathBuf::new(),
        bin_dir: PathBuf::new(),
        authentication: Authentication {
            superuser: role(),
            replication: role(),
            rewind: role(),
            monitoring: None,
        },
        parameters: Default::default(),
        pg_hba: Vec::new(),
        pg_ident: Vec::new(),
    }
}

/// `HOST,HOST:PORT`, as Patroni has it; PORT may be left out.
fn listen(section: &Section<'_>) -> (Vec<String>, u16) {
    let text = section.text("listen").unwrap_or_else(|| format!("127.0.0.1:{PORT}"));
    let bad = || {
        let what = format!("`{text}` is no address to listen on");
        section.error("listen", what, "write HOST:PORT, or HOST,HOST:PORT; * for all");
        (Vec::new(), PORT)
    };
    let (hosts, port) = match text.rsplit_once(':') {
        Some((hosts, port)) => (hosts, port.trim().parse().ok().filter(|port| *port != 0)),
        None => (text.as_str(), Some(PORT)),
    };
    let Some(port) = port else { return bad() };
    let strip = |host: &str| host.trim().trim_start_matches('[').trim_end_matches(']').to_owned();
    let hosts: Vec<String> = hosts.split(',').map(strip).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '*');
    if hosts.iter().any(|host| host.is_empty() || !host.chars().all(plain)) {
        return bad();
    }
    (hosts, port)
}

fn connect_address(section: &Section<'_>, raft: &RaftConfig, port: u16) -> HostPort {
    let own = host_port(&raft.self_addr).map(|own| own.host).unwrap_or_default();
    let default = HostPort { host: own, port };
    let Some(text) = section.text("connect_address") else { return default };
    let with_port = if text.contains(':') { text } else { format!("{text}:{port}") };
    let parsed = checked(section, "connect_address", &with_port);
    if let Some(at) = &parsed
        && at.port != port
    {
        let what = format!("has port {}, PostgreSQL listens on {port}", at.port);
        section.warn(
            "connect_address",
            what,
            "others replicate over this address; it must lead to this PostgreSQL",
        );
    }
    parsed.unwrap_or(default)
}

fn authentication(section: &Section<'_>) -> Authentication {
    let auth = section.section("authentication");
    let role = |key, default| match auth.as_ref().and_then(|auth| auth.section(key)) {
        Some(section) => read_role(section, default),
        None => Role { username: default_name(default), password: None },
    };
    let roles = Authentication {
        superuser: role("superuser", "postgres"),
        replication: role("replication", "replicator"),
        rewind: role("rewind", "rewinder"),
        monitoring: auth
            .as_ref()
            .and_then(|auth| auth.section("monitoring"))
            .map(|section| read_role(section, "monitoring")),
    };
    if let Some(monitoring) = &roles.monitoring {
        let others = [&roles.superuser, &roles.replication, &roles.rewind];
        if others.iter().any(|other| other.username == monitoring.username) {
            let what = format!("monitoring is `{}`, as another role is", monitoring.username);
            section.error("authentication", what, "give it a name of its own");
        }
    }
    if let Some(auth) = auth {
        auth.finish();
    }
    let names = [&roles.superuser.username, &roles.replication.username, &roles.rewind.username];
    if names[1] == names[2] && roles.replication.password != roles.rewind.password {
        let what = format!("replication and rewind are both `{}` with two passwords", names[1]);
        section.error("authentication", what, "give them one password or two names");
    }
    roles
}

fn default_name(name: &str) -> String {
    name.to_owned()
}

pub(super) fn read_role(section: Section<'_>, default: &str) -> Role {
    let username = section.text("username").unwrap_or_else(|| default_name(default));
    // In an HBA file these characters have meanings of their own.
    let odd =
        username.starts_with(['+', '/', '@']) || username.contains(['"', ',', '\0', '\n', '\r']);
    if username.is_empty() || username.len() > 63 || odd {
        let remedy = "write 1 to 63 bytes, without quotes and commas, not beginning with + / @";
        section.error("username", format!("`{username}` is no name of a role"), remedy);
    }
    if username.starts_with("pg_") {
        let remedy = "PostgreSQL keeps names that begin with pg_ for itself; choose another";
        section.error("username", format!("`{username}` cannot be made"), remedy);
    }
    let written = section.secret("password");
    let file = section.text("password_file");
    if written.is_some() && file.is_some() {
        section.error("password_file", "stands beside `password`", "write one of the two");
    }
    if written.is_some() && section.report.readable_by_all(&section.place("password")) {
        let what = "stands in a file that everybody can read";
        section.error("password", what, "chmod o-r the file, or use `password_file`");
    }
    let password = match (written, file) {
        (Some(text), _) => Some(text),
        (None, Some(path)) => from_file(&section, Path::new(&path)),
        (None, None) => None,
    };
    if password.as_deref().is_some_and(|text| text.is_empty() || text.contains(['\0', '\n', '\r']))
    {
        section.error("password", "is empty or has a line break in it", "choose another one");
    }
    section.finish();
    Role { username, password: password.map(Secret::new) }
}

fn from_file(section: &Section<'_>, path: &Path) -> Option<String> {
    if path.is_relative() {
        let what = format!("`{}` is relative", path.display());
        section.error("password_file", what, "write a path from /");
        return None;
    }
    // A regular file: a pipe would be waited for.
    let read = std::fs::metadata(path).and_then(|meta| match meta.is_file() {
        true => Ok((meta, bounded(path)?)),
        false => Err(std::io::Error::other("no regular file")),
    });
    let (meta, text) = match read {
        Ok(read) => read,
        Err(error) => {
            let what = format!("{} cannot be read ({error})", path.display());
            section.error(
                "password_file",
                what,
                "create it, readable by the user that runs howdah",
            );
            return None;
        }
    };
    if meta.permissions().mode() & 0o007 != 0 {
        let what = format!("{} is open to everybody", path.display());
        section.error("password_file", what, &format!("chmod 600 {}", path.display()));
    }
    Some(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// No password is longer, bytes; some files never end.
const LONGEST_PASSWORD: u64 = 64 << 10;

fn bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(LONGEST_PASSWORD + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST_PASSWORD {
        let why = format!("it has more than {LONGEST_PASSWORD} bytes");
        return Err(std::io::Error::other(why));
    }
    Ok(text)
}

/// The newest installed PostgreSQL: Debian's and Red Hat's directories, then the search path.
fn find_bin_dir() -> Option<PathBuf> {
    let versioned = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in versioned {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
            let bin = entry.path().join("bin");
            if let Some(version) = version
                && bin.join("postgres").is_file()
            {
                found.push((version, bin));
            }
        }
    }
    if let Some((_, bin)) = found.into_iter().max() {
        return Some(bin);
    }
    let search = std::env::var_os("PATH")?;
    std::env::split_paths(&search).find(|dir| dir.is_absolute() && dir.join("postgres").is_file())
}
