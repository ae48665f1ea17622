//! `howdah failover`: leadership is taken from a leader that is dead or unwanted.

use howdah_rpc::control::FailoverRequest;

use super::act::{Confirm, confirm, follow, show_cluster};
use crate::args::{FailoverArgs, Global};
use crate::client;
use crate::failure::{DONE, Failure};

pub(super) async fn run(global: &Global, args: &FailoverArgs) -> Result<u8, Failure> {
    let endpoints = client::endpoints(global)?;
    let mut reached = client::reach(&endpoints).await?;
    show_cluster(global.output, &reached)?;
    if !args.dry_run {
        let scope = reached.status.scope.clone();
        if args.allow_data_loss {
            let question = format!(
                "Failover of cluster {scope} on the votes at hand: writes that were acknowledged \
                 may be lost for good."
            );
            confirm(&question, &Confirm::Type(&scope), args.yes)?;
        } else if args.holder_is_stopped {
            let question = format!(
                "Failover of cluster {scope}, in maintenance mode: if the silent leader's PostgreSQL \
                 is not stopped, there will be two primaries."
            );
            confirm(&question, &Confirm::Type(&scope), args.yes)?;
        } else {
            let question = format!("Are you sure you want to failover cluster {scope}?");
            confirm(&question, &Confirm::Yes, args.yes)?;
        }
    }
    let request = FailoverRequest {
        candidate: args.candidate.clone(),
        dry_run: args.dry_run,
        allow_data_loss: args.allow_data_loss,
        holder_is_stopped: args.holder_is_stopped,
    };
    let stream = reached.client.failover(request).await?.into_inner();
    let code = follow(global.output, args.dry_run, stream).await?;
    if code == DONE && !args.dry_run {
        show_cluster(global.output, &client::reach(&endpoints).await?)?;
    }
    Ok(code)
}
