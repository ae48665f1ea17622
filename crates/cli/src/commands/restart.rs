//! `howdah restart`: PostgreSQL of members, one after the other.

use std::time::Duration;

use howdah_rpc::control::{ClusterStatus, Member, RestartRequest, SwitchoverRequest};

use super::act::{Confirm, confirm, follow, members_exist, show_cluster};
use crate::args::{Global, RestartArgs, Role};
use crate::client::{self, Endpoints};
use crate::failure::{DONE, Failure, REFUSED};

/// How long a replica may take until it streams again, before the next one is restarted.
const STREAMS: Duration = Duration::from_secs(120);

pub(super) async fn run(global: &Global, args: &RestartArgs) -> Result<u8, Failure> {
    let endpoints = client::endpoints(global)?;
    let reached = client::reach(&endpoints).await?;
    show_cluster(global.output, &reached)?;
    let mut names = chosen(&reached.status, args)?;
    if args.any {
        names.truncate(1);
    }
    if names.is_empty() {
        return Err(Failure::Refused("no member is meant by these conditions".to_owned()));
    }
    let question = format!("Are you sure you want to restart {}?", names.join(", "));
    confirm(&question, &Confirm::Yes, args.yes)?;
    let mut worst = DONE;
    for name in names {
        let mut reached = client::reach(&endpoints).await?;
        if args.rolling && reached.status.leader == name && reached.status.members.len() > 1 {
            let request = SwitchoverRequest { leader: name.clone(), ..Default::default() };
            let stream = reached.client.switchover(request).await?.into_inner();
            if follow(global.output, false, stream).await? != DONE {
                return Err(Failure::Refused(format!("{name} leads still and was not restarted")));
            }
            until_streams(&endpoints, &name).await?;
            reached = client::reach(&endpoints).await?;
        }
        let timeout = args.timeout.map_or(0, |limit| limit.as_millis());
        let request = RestartRequest {
            member: name.clone(),
            pending: args.pending,
            postgres_version_below: args.pg_version.clone(),
            timeout_ms: u64::try_from(timeout).unwrap_or(u64::MAX),
            ..RestartRequest::default()
        };
        let stream = reached.client.restart(request).await?.into_inner();
        let code = follow(global.output, false, stream).await?;
        worst = worst.max(code);
        if args.rolling {
            if code != DONE {
                return Ok(REFUSED);
            }
            until_streams(&endpoints, &name).await?;
        }
    }
    Ok(worst)
}

/// Replicas first: a restart of the leader is the one that clients notice.
fn chosen(status: &ClusterStatus, args: &RestartArgs) -> Result<Vec<String>, Failure> {
    members_exist(status, &args.members)?;
    let meant = |member: &&Member| {
        let named = args.members.is_empty() || args.members.contains(&member.name);
        named
            && args.role.means(&member.role)
            && (!args.pending || !member.pending_restart.is_empty())
    };
    let (leader, mut rest): (Vec<&Member>, Vec<&Member>) =
        status.members.iter().filter(meant).partition(|member| Role::Primary.means(&member.role));
    rest.extend(leader);
    Ok(rest.into_iter().map(|member| member.name.clone()).collect())
}

async fn until_streams(endpoints: &Endpoints, name: &str) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + STREAMS;
    loop {
        let status = client::reach(endpoints).await?.status;
        let found = status.members.iter().find(|member| member.name == name);
        if status.leader == name || found.is_some_and(|member| member.state == "streaming") {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            let text =
                format!("{name} does not stream after {} s; stopped here", STREAMS.as_secs());
            return Err(Failure::Refused(text));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
