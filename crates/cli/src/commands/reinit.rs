//! `howdah reinit`: a standby's data is replaced by a fresh copy.

use howdah_rpc::control::ReinitRequest;

use super::act::{Confirm, confirm, follow, members_exist, show_cluster};
use crate::args::{Global, ReinitArgs};
use crate::client;
use crate::failure::Failure;

pub(super) async fn run(global: &Global, args: &ReinitArgs) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    members_exist(&reached.status, std::slice::from_ref(&args.member))?;
    show_cluster(global.output, &reached)?;
    let question = format!("Are you sure you want to reinitialize member {}?", args.member);
    confirm(&question, &Confirm::Yes, args.yes)?;
    let request = ReinitRequest { member: args.member.clone() };
    let stream = reached.client.reinit(request).await?.into_inner();
    follow(global.output, false, stream).await
}
