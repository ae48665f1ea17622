//! `howdah history`: changes of leader so far, and what was lost by them.

use std::time::Duration;

use howdah_rpc::control::control_client::ControlClient;
use howdah_rpc::control::{HistoryRequest, LostRequest, Rescue};

use crate::args::{Global, HistoryArgs};
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output::{self, changes, lost};

/// A member that is down keeps nobody waiting.
const ANSWER: Duration = Duration::from_secs(3);

pub(super) async fn run(global: &Global, args: &HistoryArgs) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    if args.lost {
        let mut report = lost::Report::default();
        for member in &reached.status.members {
            match ask(&member.control_address).await {
                Ok(rescues) => report.add(&rescues),
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

/// Each member knows only what it kept itself.
async fn ask(address: &str) -> Result<Vec<Rescue>, String> {
    let channel = howdah_rpc::channel::lazy(address, ANSWER / 2).map_err(|why| why.to_string())?;
    let mut client = ControlClient::new(channel);
    match tokio::time::timeout(ANSWER, client.lost(LostRequest {})).await {
        Ok(Ok(answer)) => Ok(answer.into_inner().rescues),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("no answer".to_owned()),
    }
}
