//! `howdah list` and `howdah topology`: members and their states.

use howdah_rpc::control::{ClusterStatus, StatusRequest};

use crate::args::{Format, Global, ListArgs};
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output::{self, status};

pub(super) async fn run(global: &Global, args: &ListArgs, tree: bool) -> Result<u8, Failure> {
    let endpoints = client::endpoints(global)?;
    if !args.watch && args.every.is_none() {
        show(global.output, &client::reach(&endpoints).await?.status, args.extended, tree)?;
        return Ok(DONE);
    }
    if let Some(every) = args.every {
        loop {
            show(global.output, &client::reach(&endpoints).await?.status, args.extended, tree)?;
            tokio::time::sleep(every).await;
        }
    }
    // A member that goes away is replaced by the next that answers; it ends when none does.
    loop {
        let mut reached = client::reach(&endpoints).await?;
        let request = StatusRequest { watch: true };
        let mut stream = reached.client.status(request).await?.into_inner();
        while let Ok(Some(status)) = stream.message().await {
            show(global.output, &status, args.extended, tree)?;
        }
    }
}

fn show(
    format: Format,
    cluster: &ClusterStatus,
    extended: bool,
    tree: bool,
) -> Result<(), Failure> {
    let view = status::StatusView::from(cluster);
    let text = output::render(format, &view, || {
        if tree { status::topology(cluster, extended) } else { status::list(cluster, extended) }
    })?;
    output::print(&text)
}
