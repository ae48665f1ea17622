//! How far this member has applied the replicated log, and what it says of timelines. Pure.

use howdah_consensus::Applied;
use howdah_core::MemberName;
use howdah_rpc::control::{LogResponse, Timeline};
use tonic::Status;

pub(super) fn answer(me: &MemberName, applied: &Applied) -> Result<LogResponse, Status> {
    let checksum = applied.checksum();
    let timelines = applied.state.timelines.recorded.iter().map(|(timeline, record)| {
        let (parent, fork) =
            record.parent.map_or((0, 0), |parent| (parent.timeline.0, parent.end.0));
        Timeline { timeline: timeline.0, epoch: record.epoch.0, parent, fork_lsn: fork }
    });
    Ok(LogResponse {
        member: me.0.clone(),
        applied_index: applied.index,
        state_checksum: checksum.map_err(|why| Status::internal(why.to_string()))?,
        timelines: timelines.collect(),
    })
}
