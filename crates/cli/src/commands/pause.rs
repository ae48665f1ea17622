//! `howdah pause` and `howdah resume`: maintenance mode.

use howdah_rpc::control::{PauseRequest, ResumeRequest};

use super::act::follow;
use crate::args::Global;
use crate::client;
use crate::failure::Failure;

pub(super) async fn run(global: &Global, pause: bool) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    let stream = if pause {
        reached.client.pause(PauseRequest {}).await?.into_inner()
    } else {
        reached.client.resume(ResumeRequest {}).await?.into_inner()
    };
    follow(global.output, false, stream).await
}
