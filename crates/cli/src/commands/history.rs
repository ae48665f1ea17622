//! `howdah history`: changes of leader so far, and what was lost by them.

use howdah_rpc::control::{HistoryRequest, LostRequest};

use crate::args::{Global, HistoryArgs};
use crate::client::{self, Client};
use crate::failure::{DONE, Failure};
use crate::output::{self, changes, lost};

pub(super) async fn run(global: &Global, args: &HistoryArgs) -> Result<u8, Failure> {
    let endpoints = client::endpoints(global)?;
    let mut reached = client::reach(&endpoints).await?;
    if args.lost {
        let mut report = lost::Report::default();
        for member in &reached.status.members {
            // Each member knows only what it kept itself.
            let ask = async |client: &mut Client| client.lost(LostRequest {}).await;
            match client::ask_one(&member.control_address, &endpoints, ask).await {
                Ok(answer) => report.add(&answer.rescues),
                Err(why) => report.silent(&member.name, why),
            }
        }
        output::print(&output::render(global.output, &report, || report.text())?)?;
        return Ok(DONE);
    }
    let answer = reached.client.history(HistoryRequest {}).await?.into_inner();
    let view: Vec<changes::ChangeView> =
        answer.changes.iter().map(changes::ChangeView::from).collect();
    let text = output::render(global.output, &view, || changes::history(&answer.changes))?;
    output::print(&text)?;
    Ok(DONE)
}
