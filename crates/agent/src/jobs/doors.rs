//! Who is admitted, and what a primary needs: roles, slots, a checkpoint.

use std::collections::BTreeSet;
use std::time::Duration;

use howdah_core::{Epoch, MemberName};
use howdah_postgres::hba::HbaMode;
use howdah_postgres::session::Session;
use howdah_postgres::slots;

use crate::elephant::{JobError, JobOutput};
use crate::shell::Context;

/// Limit of a step.
const STEP: Duration = Duration::from_secs(10);

/// Admits clients, and drops on a standby the slots that it had as primary.
pub async fn open(context: &Context) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    let (now, _) = elephant.written();
    elephant.write_files(now, HbaMode::Open)?;
    elephant.reload().await?;
    // Clients first; the standbys' retries find their slots a moment later.
    let session = elephant.session(STEP).await?;
    let probe = session.probe().await?;
    if probe.in_recovery {
        slots::change(&session, &slots::on_standby(&probe.slots)).await?;
    } else {
        ensure_slots(context, &session).await?;
    }
    Ok(JobOutput::Opened)
}

/// A slot for each other member, and none for anybody else.
pub(super) async fn ensure_slots(context: &Context, session: &Session) -> Result<(), JobError> {
    let state = context.elephant.state();
    if state.settings.use_slots {
        let others: BTreeSet<MemberName> =
            state.members.keys().filter(|name| **name != context.me).cloned().collect();
        let probe = session.probe().await?;
        slots::change(session, &slots::on_primary(&others, &probe.slots)).await?;
    }
    Ok(())
}

/// standby.signal, which the promotion took away, is put back, so that whatever else starts this
/// directory gets a standby. Then roles and slots, then a checkpoint: before that, pg_rewind of others
/// would see the old timeline in this one's control file.
pub async fn prepare(context: &Context, epoch: Epoch) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    elephant.put_standby_signal().await?;
    elephant.set_roles(&elephant.state(), epoch).await?;
    let session = elephant.session(STEP).await?;
    ensure_slots(context, &session).await?;
    tracing::debug!(%epoch, "roles and slots are right");
    session.checkpoint(Duration::from_secs(600)).await?;
    Ok(JobOutput::Prepared)
}
