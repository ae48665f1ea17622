//! `howdah events`: what happened. A stream: one line per event, in JSON too.

use howdah_rpc::control::EventsRequest;

use crate::args::{EventsArgs, Global};
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output::{self, changes};

pub(super) async fn run(global: &Global, args: &EventsArgs) -> Result<u8, Failure> {
    let endpoints = client::endpoints(global)?;
    let mut shown = 0;
    loop {
        let mut reached = client::reach(&endpoints).await?;
        let request = EventsRequest { follow: args.follow };
        let mut stream = reached.client.events(request).await?.into_inner();
        let ended = loop {
            let event = match stream.message().await {
                Ok(Some(event)) => event,
                Ok(None) => break Ok(DONE),
                Err(status) => break Err(Failure::from(status)),
            };
            // Another member tells the same events, numbered by the log.
            if event.index > shown {
                shown = event.index;
                let view = changes::EventView::from(&event);
                let text = output::render_next(global.output, &view, || changes::event(&event))?;
                output::print(&text)?;
            }
        };
        // Whoever follows goes on with the next member that answers; it ends when none does.
        if !args.follow {
            return ended;
        }
    }
}
