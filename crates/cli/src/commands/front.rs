//! `howdah haproxy config` and `howdah pgbouncer config`: what to put in front, for the cluster as it
//! is.

use howdah_rpc::control::{ClusterStatus, Member};
use serde::Serialize;

use crate::args::{Global, HaproxyArgs, PgbouncerArgs};
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output;
use crate::output::dsn::host_and_port;
use crate::output::front::{self, Backend, Haproxy, Pgbouncer};

/// A configuration for programs.
#[derive(Debug, Serialize)]
pub struct FrontView {
    /// The file's text.
    pub config: String,
}

pub(super) async fn haproxy(global: &Global, args: &HaproxyArgs) -> Result<u8, Failure> {
    let status = client::reach(&client::endpoints(global)?).await?.status;
    let wanted = Haproxy {
        backends: backends(&status)?,
        scope: status.scope,
        write: args.write.clone(),
        read: args.read.clone(),
        max_connections: args.max_connections,
        agent_port: args.agent_port,
    };
    print(global, front::haproxy(&wanted))
}

pub(super) fn pgbouncer(global: &Global, args: &PgbouncerArgs) -> Result<u8, Failure> {
    let wanted = Pgbouncer {
        door: host_and_port(&args.door),
        listen: host_and_port(&args.listen),
        socket_dir: args.socket_dir.clone(),
        auth_file: args.auth_file.clone(),
        admin: args.admin.clone(),
    };
    print(global, front::pgbouncer(&wanted))
}

fn print(global: &Global, config: String) -> Result<u8, Failure> {
    let view = FrontView { config };
    output::print(&output::render(global.output, &view, || view.config.clone())?)?;
    Ok(DONE)
}

fn backends(status: &ClusterStatus) -> Result<Vec<Backend>, Failure> {
    let backends: Result<Vec<Backend>, Failure> = status.members.iter().map(backend).collect();
    match backends {
        Ok(backends) if backends.is_empty() => {
            Err(Failure::Refused("the cluster has no members yet".to_owned()))
        }
        backends => backends,
    }
}

fn backend(member: &Member) -> Result<Backend, Failure> {
    // http://HOST:PORT/patroni
    let address = member.api_url.split('/').nth(2).unwrap_or_default();
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let rest_port = port.ok_or_else(|| {
        Failure::Error(format!("{} has not told where its REST API is", member.name))
    })?;
    Ok(Backend { name: member.name.clone(), postgres: member.host.clone(), rest_port })
}
