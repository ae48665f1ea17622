//! Streaming from a leader.

use howdah_core::{Epoch, MemberName};
use howdah_postgres::settings::{Dynamic, Follow, application_name};
use howdah_postgres::slots::slot_name;

use crate::elephant::{JobError, JobOutput};
use crate::shell::Context;

/// Turns to `leader`, the recorded holder of `epoch`. The promise is raised first, durably.
pub async fn follow(
    context: &Context,
    leader: MemberName,
    epoch: Epoch,
) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    elephant.promise(epoch)?;
    let (_, mode) = elephant.written();
    elephant.write_files(upstream(context, &leader)?, mode)?;
    elephant.reload().await?;
    Ok(JobOutput::Followed { leader, epoch })
}

/// The settings with which this member streams from `leader`.
pub(super) fn upstream(context: &Context, leader: &MemberName) -> Result<Dynamic, JobError> {
    let elephant = &context.elephant;
    let user = context.config.postgresql.authentication.replication.username.clone();
    let source = elephant.source(leader, &user)?;
    let slot = elephant.state().settings.use_slots.then(|| slot_name(&context.me));
    let upstream = Follow {
        host: source.host,
        port: source.port,
        application_name: application_name(&context.me, elephant.identity().data_id)?,
        slot,
        user: source.user,
        passfile: source.passfile,
        tls: source.tls.map(|(paths, _)| paths),
    };
    let synchronous_standby_names = elephant.names_at_rest()?;
    Ok(Dynamic { synchronous_standby_names, ..Dynamic::follow(upstream, None) })
}
