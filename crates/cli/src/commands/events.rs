//! `howdah events`: what happened. A stream: one line per event, in JSON too.

use howdah_rpc::control::EventsRequest;

use crate::args::{EventsArgs, Format, Global};
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output::{self, changes};

pub(super) async fn run(global: &Global, args: &EventsArgs) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    let request = EventsRequest { follow: args.follow };
    let mut stream = reached.client.events(request).await?.into_inner();
    while let Some(event) = stream.message().await? {
        let view = changes::EventView::from(&event);
        let text = match global.output {
            Format::Table => changes::event(&event),
            Format::Json => serde_json::to_string(&view)
                .map(|line| line + "\n")
                .map_err(|error| Failure::Error(format!("an event has no JSON form: {error}")))?,
            // Documents of one stream are set apart by a line of their own.
            Format::Yaml => {
                String::from("---\n") + &output::render(global.output, &view, String::new)?
            }
        };
        output::print(&text)?;
    }
    Ok(DONE)
}
