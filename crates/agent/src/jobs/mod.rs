//! Jobs: the actions that take time, one file each or a few that belong together.
//!
//! Place: each runs in a task of its own, begun by the loop, one at a time; the loop may cut it short
//! at any await. Every step can be repeated after that, or after a crash: what is half done carries
//! a marker, what is done is found done.

mod bar;
pub mod data;
mod demand;
pub mod doors;
pub mod follow;
pub mod hand_over;
pub mod promise;
pub mod promote;
pub mod start;
pub mod vote;

use howdah_core::Action;

use crate::elephant::{JobError, JobOutput};
use crate::shell::Context;

/// Runs one job to its end.
pub async fn run(context: &Context, action: Action) -> Result<JobOutput, JobError> {
    match action {
        Action::Kill => start::kill(context).await,
        Action::Stop => start::stop(context).await,
        Action::StopToRestart => start::stop_to_restart(context).await,
        Action::StartIsolated => start::isolated(context).await,
        Action::StartInPlace { epoch } => start::in_place(context, epoch).await,
        Action::Initdb { .. } => data::initdb(context).await,
        Action::Promise { epoch } => promise::promise(context, epoch).await,
        Action::Promote { epoch, timeline } => promote::promote(context, epoch, timeline).await,
        Action::Follow { leader, epoch } => follow::follow(context, leader, epoch).await,
        Action::Rewind { source, epoch, fork } => data::rewind(context, &source, epoch, fork).await,
        Action::Clone { source, epoch } => data::clone(context, &source, epoch).await,
        Action::PreparePrimary { epoch } => doors::prepare(context, epoch).await,
        Action::SetDemand { epoch, demand } => demand::set(context, epoch, demand).await,
        Action::Open { .. } => doors::open(context).await,
        Action::Renew { .. }
        | Action::Propose(_)
        | Action::Vote { .. }
        | Action::RecordTimeline { .. }
        | Action::HandOver { .. }
        | Action::End => Ok(JobOutput::Done),
    }
}
