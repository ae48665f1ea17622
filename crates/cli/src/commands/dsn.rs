//! `howdah dsn` and `howdah psql`: the way to the right member.

use std::os::unix::process::CommandExt;
use std::process::Command;

use howdah_rpc::control::ClusterStatus;
use serde::Serialize;

use super::act::members_exist;
use crate::args::{DsnArgs, DsnFormat, Global, PsqlArgs, Role};
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output;
use crate::output::dsn::{self, Target};

/// `dsn` for programs.
#[derive(Debug, Serialize)]
pub struct DsnView {
    /// The connection string.
    pub dsn: String,
}

pub(super) async fn run(global: &Global, args: &DsnArgs) -> Result<u8, Failure> {
    let status = client::reach(&client::endpoints(global)?).await?.status;
    let dsn = dsn::render(args.format, &target(&status, args)?);
    let view = DsnView { dsn };
    output::print(&output::render(global.output, &view, || format!("{}\n", view.dsn))?)?;
    Ok(DONE)
}

/// Becomes psql. Passwords are psql's to find: ~/.pgpass, PGPASSFILE, or a prompt.
pub(super) async fn psql(global: &Global, args: &PsqlArgs) -> Result<u8, Failure> {
    let status = client::reach(&client::endpoints(global)?).await?.status;
    let dsn = dsn::render(DsnFormat::Libpq, &target(&status, &args.dsn)?);
    let error = Command::new("psql").arg("-d").arg(dsn).args(&args.args).exec();
    Err(Failure::Error(format!("psql cannot be started ({error}); install PostgreSQL's client")))
}

fn target(status: &ClusterStatus, args: &DsnArgs) -> Result<Target, Failure> {
    members_exist(status, args.member.as_slice())?;
    let mut hosts = Vec::new();
    for member in &status.members {
        let meant = match &args.member {
            Some(name) => member.name == *name,
            None => member.role != "Witness",
        };
        if meant {
            hosts.push(dsn::host_and_port(&member.host));
        }
    }
    if hosts.is_empty() {
        return Err(Failure::Refused("the cluster has no members yet".to_owned()));
    }
    if let Some(door) = args.door {
        for (_, port) in &mut hosts {
            *port = door.to_string();
        }
    }
    // A member that was named is meant, whatever it is, and a door leads to the right one itself.
    let found = args.member.is_some() || args.door.is_some();
    let role = if found { Role::Any } else { args.role };
    Ok(Target { hosts, role, dbname: args.dbname.clone(), username: args.username.clone() })
}
