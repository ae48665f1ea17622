//! `howdah history`: changes of leader so far.

use howdah_rpc::control::HistoryRequest;

use crate::args::Global;
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output::{self, changes};

pub(super) async fn run(global: &Global) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    let answer = reached.client.history(HistoryRequest {}).await?.into_inner();
    let view: Vec<changes::ChangeView> =
        answer.changes.iter().map(changes::ChangeView::from).collect();
    let text = output::render(global.output, &view, || changes::history(&answer.changes))?;
    output::print(&text)?;
    Ok(DONE)
}
