//! `howdah explain`: why somebody leads, or why nobody does.

use howdah_rpc::control::ExplainRequest;

use crate::args::{ExplainArgs, Global};
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output::{self, changes};

pub(super) async fn run(global: &Global, args: &ExplainArgs) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    let answer = reached.client.explain(ExplainRequest { epoch: args.epoch }).await?.into_inner();
    let view = changes::ExplainView::from(&answer);
    output::print(&output::render(global.output, &view, || changes::explain(&answer))?)?;
    Ok(DONE)
}
