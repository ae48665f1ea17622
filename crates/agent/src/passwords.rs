//! Keeps the passwords that members connect with the same everywhere: in the file that the local PostgreSQL reads, and on
//! the primary in its roles.
//!
//! Place: a task of the agent, woken by the log, by reloads and by what this member says of itself.
//! Why no connection breaks: those that stand go on; the file of passwords is written as soon as the log has new ones, and
//! the primary's roles have them a moment later; who connects in between is refused and tries again by itself.
//! Killed half way: a leader sets them anew when its agent starts, and after each promotion.

use std::sync::Arc;
use std::time::Duration;

use howdah_postgres::passfile::Secret;
use howdah_postgres::roles::{self, Login};

use crate::config::Role;
use crate::elephant::JobError;
use crate::shell::Context;

/// Limit of one attempt.
const STEP: Duration = Duration::from_secs(10);
/// After one that failed.
const BREATH: Duration = Duration::from_millis(500);

/// What was done last.
#[derive(Default)]
struct Done {
    /// Passwords in the file.
    written: Option<(String, String)>,
    /// What the roles have, and when the server was started that has them.
    set: Option<Set>,
}

/// What the roles have.
#[derive(PartialEq, Eq)]
struct Set {
    passwords: (String, String),
    monitoring: Option<Role>,
    server_started_ms: u64,
}

/// Keeps them the same, as long as the agent lives.
pub async fn keep(context: Arc<Context>) {
    let (mut applied, mut own) = (context.node.applied(), context.board.own());
    let mut configured = context.elephant.current_changes();
    let mut done = Done::default();
    loop {
        applied.borrow_and_update();
        own.borrow_and_update();
        configured.borrow_and_update();
        if let Err(why) = look(&context, &mut done).await {
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

async fn look(context: &Context, done: &mut Done) -> Result<(), JobError> {
    let elephant = &context.elephant;
    let state = context.node.applied().borrow().state.clone();
    let Some(version) = state.secrets.as_ref().map(|secrets| secrets.version) else {
        return Ok(());
    };
    let (replication, rewind) = elephant.passwords_of(&state)?;
    let now = (replication.expose().to_owned(), rewind.expose().to_owned());
    if done.written.as_ref() != Some(&now) {
        elephant.passfile_of(&state)?;
        done.written = Some(now.clone());
    }
    let own = context.board.own().borrow().clone();
    let leads = state.held().is_some_and(|record| record.holder == context.me);
    if !leads || !own.running || own.in_recovery {
        return Ok(());
    }
    let authentication = elephant.current().postgresql.authentication.clone();
    let set = Set {
        passwords: now,
        monitoring: authentication.monitoring.clone(),
        server_started_ms: own.postmaster_start_ms,
    };
    if done.set.as_ref() != Some(&set) {
        let session = elephant.session(STEP).await?;
        elephant.set_roles(&session, &replication, &rewind).await?;
        if let Some(role) = &authentication.monitoring {
            let password = role.password.as_ref().map(|password| Secret::new(password.reveal()));
            let login = Login { name: &role.username, password: password.as_ref() };
            roles::ensure_monitoring(&session, &login).await?;
        }
        done.set = Some(set);
    }
    elephant.secrets_are_set(version);
    Ok(())
}
