//! `howdah switchover`: leadership changes hands and no write is lost.

use howdah_rpc::control::SwitchoverRequest;

use super::act::{Confirm, confirm, follow, show_cluster};
use crate::args::{Global, SwitchoverArgs};
use crate::client;
use crate::failure::{DONE, Failure};

pub(super) async fn run(global: &Global, args: &SwitchoverArgs) -> Result<u8, Failure> {
    let endpoints = client::endpoints(global)?;
    let mut reached = client::reach(&endpoints).await?;
    show_cluster(global.output, &reached)?;
    if !args.dry_run {
        let leader = if args.leader.is_empty() { &reached.status.leader } else { &args.leader };
        let question = format!(
            "Are you sure you want to switchover cluster {}, demoting current leader {leader}?",
            reached.status.scope
        );
        confirm(&question, &Confirm::Yes, args.yes)?;
    }
    let request = SwitchoverRequest {
        leader: args.leader.clone(),
        candidate: args.candidate.clone(),
        dry_run: args.dry_run,
    };
    let stream = reached.client.switchover(request).await?.into_inner();
    let code = follow(global.output, args.dry_run, stream).await?;
    if code == DONE && !args.dry_run {
        show_cluster(global.output, &client::reach(&endpoints).await?)?;
    }
    Ok(code)
}
