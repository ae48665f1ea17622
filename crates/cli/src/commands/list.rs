//! `howdah list` and `howdah topology`: members and their states.

use std::time::Duration;

use howdah_rpc::control::{ClusterStatus, StatusRequest};

use crate::args::{Global, ListArgs};
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output::{self, status};

/// Least pause between two looks of `-w`.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(global: &Global, args: &ListArgs, tree: bool) -> Result<u8, Failure> {
    let endpoints = client::endpoints(global)?;
    let show = |cluster: &ClusterStatus, one_of_many: bool| -> Result<(), Failure> {
        let view = status::StatusView::from(cluster);
        let table = || {
            if tree {
                status::topology(cluster, args.extended)
            } else {
                status::list(cluster, args.extended)
            }
        };
        let text = if one_of_many {
            output::render_next(global.output, &view, table)?
        } else {
            output::render(global.output, &view, table)?
        };
        output::print(&text)
    };
    if !args.watch && args.every.is_none() {
        show(&client::reach(&endpoints).await?.status, false)?;
        return Ok(DONE);
    }
    if let Some(every) = args.every {
        loop {
            show(&client::reach(&endpoints).await?.status, true)?;
            tokio::time::sleep(every.max(LEAST_PAUSE)).await;
        }
    }
    // A member that goes away is replaced by the next that answers; it ends when none does.
    loop {
        let mut reached = client::reach(&endpoints).await?;
        let request = StatusRequest { watch: true };
        let mut stream = reached.client.status(request).await?.into_inner();
        while let Ok(Some(status)) = stream.message().await {
            show(&status, true)?;
        }
    }
}
