//! `howdah pki`: a cluster's own CA, and what it issues. Works on files alone, without a cluster.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use howdah_agent::config::Config;
use howdah_locks::files::{CA_CERT, CA_KEY, CERT, KEY};
use howdah_locks::look::{Look, in_file, today};
use howdah_locks::{Authority, Identity, Paths, Role, Wanted};
use serde::Serialize;

use crate::args::{Global, Holder, PkiInitArgs, PkiIssueArgs, PkiRenewArgs, PkiStatusArgs, days};
use crate::failure::{DONE, Failure, REFUSED};
use crate::output;

use super::agent::config_file;

fn error(why: impl std::fmt::Display) -> Failure {
    Failure::Error(why.to_string())
}

pub(super) fn init(global: &Global, args: &PkiInitArgs) -> Result<u8, Failure> {
    // It stands in every certificate of the cluster: told now and not at the first one.
    Identity::new(&args.scope, Role::Admin, "x").map_err(|why| Failure::Usage(why.to_string()))?;
    Authority::create(&args.dir, &args.scope, days(args.days)).map_err(error)?;
    told(global, &args.dir, &[CA_CERT, CA_KEY])
}

pub(super) fn issue(global: &Global, args: &PkiIssueArgs) -> Result<u8, Failure> {
    let role = match args.holder {
        Holder::Member => Role::Member,
        Holder::Viewer => Role::Viewer,
        Holder::Operator => Role::Operator,
        Holder::Admin => Role::Admin,
    };
    let ca = Authority::load(&args.dir).map_err(error)?;
    let scope = scope_of(&ca, &args.dir)?;
    let identity = Identity::new(&scope, role, &args.name);
    let identity = identity.map_err(|why| Failure::Usage(why.to_string()))?;
    let out = args.out.clone().unwrap_or_else(|| args.dir.join(&args.name));
    if out.join(CERT).exists() {
        let text = format!(
            "{} is there already; renew it with `howdah pki renew {}`",
            out.join(CERT).display(),
            out.display()
        );
        return Err(Failure::Refused(text));
    }
    let lifetime = days(args.days);
    let wanted = Wanted { identity, hosts: args.host.clone(), lifetime };
    ca.issue_into(&wanted, &Paths::in_dir(&out)).map_err(error)?;
    told(global, &out, &[CA_CERT, CERT, KEY])
}

pub(super) fn renew(global: &Global, args: &PkiRenewArgs) -> Result<u8, Failure> {
    let ca = Authority::load(&args.dir).map_err(error)?;
    for holder in &args.holders {
        let look = look(&holder.join(CERT))?;
        let identity =
            look.identity.map_err(|why| error(format!("{}: {why}", holder.display())))?;
        let scope = scope_of(&ca, &args.dir)?;
        if identity.scope != scope {
            return Err(Failure::Refused(format!(
                "{} holds a certificate of {identity}; this CA is of cluster `{scope}`",
                holder.display()
            )));
        }
        let wanted = Wanted { identity, hosts: look.hosts, lifetime: days(args.days) };
        ca.issue_into(&wanted, &Paths::in_dir(holder)).map_err(error)?;
        told(global, holder, &[CA_CERT, CERT, KEY])?;
    }
    Ok(DONE)
}

/// The cluster of a CA of ours stands in its subject.
fn scope_of(ca: &Authority, dir: &Path) -> Result<String, Failure> {
    ca.scope().ok_or_else(|| {
        Failure::Refused(format!(
            "{} was not made by `howdah pki init`; have that CA issue certificates with \
             howdah://SCOPE/ROLE/NAME among their URIs",
            dir.join(CA_CERT).display()
        ))
    })
}

fn look(path: &Path) -> Result<Look, Failure> {
    let mut looks = in_file(path).map_err(error)?;
    // Those behind it lead to its CA.
    Ok(looks.swap_remove(0))
}

/// Files that were written.
#[derive(Debug, Serialize)]
struct WrittenView {
    written: Vec<PathBuf>,
}

fn told(global: &Global, dir: &Path, names: &[&str]) -> Result<u8, Failure> {
    let view = WrittenView { written: names.iter().map(|name| dir.join(name)).collect() };
    let lines = || view.written.iter().map(|path| format!("{}\n", path.display())).collect();
    output::print(&output::render(global.output, &view, lines)?)?;
    Ok(DONE)
}

/// A certificate, for programs.
#[derive(Debug, Serialize)]
struct CertificateView {
    file: PathBuf,
    holder: String,
    hosts: Vec<String>,
    issuer: String,
    ends: String,
    days_left: u64,
    state: &'static str,
}

/// Exit code 1 where one has ended or is due.
pub(super) fn status(global: &Global, args: &PkiStatusArgs) -> Result<u8, Failure> {
    let mut files = Vec::new();
    for path in &args.paths {
        files.extend(certificates_in(path)?);
    }
    if args.paths.is_empty() {
        let (config, _) =
            Config::load(&config_file(global)).map_err(|why| Failure::Usage(why.to_string()))?;
        let tls =
            config.tls.ok_or_else(|| Failure::Refused("this member has no `tls`".to_owned()))?;
        files.extend([tls.cert, tls.ca]);
    }
    let now = today();
    let mut views = Vec::new();
    for file in &files {
        for look in in_file(file).map_err(error)? {
            views.push(view(file, look, now)?);
        }
    }
    let table = || {
        let row = |view: &CertificateView| {
            let (file, hosts) = (view.file.display().to_string(), view.hosts.join(" "));
            let left = format!("{} d", view.days_left);
            vec![file, view.holder.clone(), hosts, view.ends.clone(), left, view.state.to_owned()]
        };
        let rows: Vec<_> = views.iter().map(row).collect();
        output::table(&["File", "Holder", "Hosts", "Ends", "Left", "State"], &rows, &[4])
    };
    output::print(&output::render(global.output, &views, table)?)?;
    Ok(if views.iter().all(|view| view.state == "good") { DONE } else { REFUSED })
}

fn certificates_in(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(Failure::io(path.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "crt"))
        .collect();
    found.sort();
    if found.is_empty() {
        return Err(error(format!("{} holds no *.crt", path.display())));
    }
    Ok(found)
}

fn view(file: &Path, look: Look, now: SystemTime) -> Result<CertificateView, Failure> {
    let left = look.left(now);
    let state = match () {
        () if left.is_zero() => "expired",
        () if look.not_before > now => "not yet",
        () if look.is_due(now) => "renew",
        () => "good",
    };
    let holder = match &look.identity {
        _ if look.is_ca => look.subject.clone(),
        Ok(identity) => identity.to_string(),
        Err(why) => format!("nobody: {why}"),
    };
    let ends = jiff::Timestamp::try_from(look.not_after).map_err(error)?;
    Ok(CertificateView {
        file: file.to_owned(),
        holder,
        hosts: look.hosts,
        issuer: look.issuer,
        ends: ends.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        days_left: left.as_secs() / Duration::from_secs(24 * 3600).as_secs(),
        state,
    })
}
