//! `howdah run`: becomes the guard of this member.
//!
//! The configuration is read first, so that a mistake costs nothing (exit code 64). Then the guard
//! takes this process over, before any thread or runtime exists: it forks, and sets what its
//! children inherit. The guard starts the agent as `/proc/self/exe agent`, which reads the
//! configuration again, as the user that privileges were dropped to.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use howdah_agent::config::Config;
use howdah_guard::{AgentCommand, CgroupMode, GuardOptions};
use howdah_locks::KeyringError;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, User};

use super::agent::config_file;
use crate::args::{Global, LogFormat, RunArgs};
use crate::failure::{Failure, INTERNAL};

/// On top of what the agent itself may take to stop.
const GRACE: Duration = Duration::from_secs(15);

pub(super) fn run(global: &Global, args: &RunArgs) -> Result<u8, Failure> {
    // What is written from here on, by the agent and by PostgreSQL too, is nobody else's to read.
    umask(Mode::from_bits_truncate(0o077));
    let file = config_file(global);
    let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
    let (config, warnings) = Config::load(&file).map_err(|error| usage(&error))?;
    let file = std::path::absolute(&file).map_err(Failure::io(file.display()))?;
    for warning in warnings {
        // Without a stderr there is nobody to warn.
        let _ = writeln!(std::io::stderr(), "howdah: warning: {warning}");
    }
    // The agent would not start with these, again and again.
    match (config.access(), config.renewal()) {
        // The agent renews it before it uses it, as the user who is to read it.
        (Err(KeyringError::Expired { .. }), Some(renewal)) => {
            renewal.authority().map_err(|why| usage(&format!("tls.ca_key: {why}")))?;
        }
        (access, _) => drop(access.map_err(|why| usage(&format!("tls: {why}")))?),
    }
    let options = GuardOptions {
        agent_restart: !args.no_agent_restart,
        drop_to: drop_to(&config)?,
        use_cgroup: CgroupMode::Auto,
        stop_grace: config.stop_timeout + config.handover_timeout + GRACE,
        parent_death: args.die_with_parent,
        vip: config.vip.clone(),
        disabled_deadline: howdah_guard::disabled_by_environment(),
        ..GuardOptions::default()
    };
    let agent = AgentCommand {
        program: PathBuf::from("/proc/self/exe"),
        args: agent_args(file.into_os_string(), args.log_format),
    };
    let code = howdah_guard::run(options, agent)
        .map_err(|error| Failure::Error(format!("the guard cannot run: {error}")))?;
    Ok(u8::try_from(code).unwrap_or(INTERNAL))
}

fn agent_args(file: OsString, log_format: Option<LogFormat>) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["agent".into(), "-c".into(), file];
    let format = log_format.map(|format| match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    });
    if let Some(format) = format {
        args.extend(["--log-format".into(), format.into()]);
    }
    args
}

/// PostgreSQL refuses to run as root; so everything runs as the user of the configuration.
fn drop_to(config: &Config) -> Result<Option<(u32, u32, String)>, Failure> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let name = &config.user;
    let user = User::from_name(name).ok().flatten().filter(|user| !user.uid.is_root());
    let user = user.ok_or_else(|| {
        Failure::Usage(format!(
            "{}: user: `{name}` is no user that PostgreSQL can run as; create it or name another",
            config.file.display()
        ))
    })?;
    Ok(Some((user.uid.as_raw(), user.gid.as_raw(), user.name)))
}
