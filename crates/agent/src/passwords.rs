//! Keeps the passwords that members connect with the same everywhere: in the file that the local PostgreSQL reads, and on
//! the primary in its roles.
//!
//! Place: a task of the agent, woken by the log, by reloads and by what this member says of itself.
//! Why no connection breaks: those that stand go on; the file of passwords is written as soon as the log has new ones, and
//! the primary's roles have them a moment later; who connects in between is refused and tries again by itself.
//! Killed half way: a leader sets them anew when its agent starts, and after each promotion.

use std::sync::Arc;
use std::time::Duration;

use crate::elephant::JobError;
use crate::shell::Context;
use crate::troubles::Kind;

/// After an attempt that failed.
const BREATH: Duration = Duration::from_millis(500);

/// Keeps them the same, as long as the agent lives.
pub async fn keep(context: Arc<Context>) {
    let (mut applied, mut own) = (context.node.applied(), context.board.own());
    let mut configured = context.elephant.current_changes();
    loop {
        applied.borrow_and_update();
        own.borrow_and_update();
        configured.borrow_and_update();
        if let Err(why) = look(&context).await {
            tracing::debug!(%why, "the passwords are not set yet");
            tokio::time::sleep(BREATH).await;
            continue;
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            changed = own.changed() => if changed.is_err() { return },
            changed = configured.changed() => if changed.is_err() { return },
        }
    }
}

async fn look(context: &Context) -> Result<(), JobError> {
    let elephant = &context.elephant;
    let state = context.node.applied().borrow().state.clone();
    let Some(version) = state.secrets.as_ref().map(|secrets| secrets.version) else {
        return Ok(());
    };
    // Written only if it changed.
    elephant.passfile_of(&state)?;
    let own = context.board.own().borrow().clone();
    let held = state.held().filter(|record| record.holder == context.me);
    let Some(record) = held.filter(|_| own.running && !own.in_recovery) else {
        // What is wrong with a role is the leader's to say.
        elephant.troubles.set(Kind::Monitoring, None);
        return Ok(());
    };
    elephant.set_roles(&state, record.epoch).await?;
    // A version counts where its passwords do.
    if !elephant.current().gives_passwords() {
        elephant.secrets_are_set(version);
    }
    Ok(())
}
