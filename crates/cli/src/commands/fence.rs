//! `howdah fence` and `howdah unfence`: one member's PostgreSQL is kept stopped.

use howdah_rpc::control::{FenceRequest, UnfenceRequest};

use super::act::{Confirm, confirm, follow, members_exist, show_cluster};
use crate::args::{FenceArgs, Global};
use crate::client;
use crate::failure::Failure;

pub(super) async fn run(global: &Global, args: &FenceArgs, fence: bool) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    members_exist(&reached.status, std::slice::from_ref(&args.member))?;
    let member = args.member.clone();
    if !fence {
        let stream = reached.client.unfence(UnfenceRequest { member }).await?.into_inner();
        return follow(global.output, false, stream).await;
    }
    show_cluster(global.output, &reached)?;
    let question = if reached.status.leader == member {
        format!(
            "{member} leads: it hands over if a replica is ready, and the cluster has no primary \
             otherwise. Are you sure you want to fence it?"
        )
    } else {
        format!("Are you sure you want to stop PostgreSQL of {member} and keep it stopped?")
    };
    confirm(&question, &Confirm::Yes, args.yes)?;
    let stream = reached.client.fence(FenceRequest { member }).await?.into_inner();
    follow(global.output, false, stream).await
}
