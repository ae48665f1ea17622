//! Looks at the server from time to time, and soon after something happened.
//!
//! Two questions at once: whether the postmaster still takes connections, since sessions that exist
//! go on while a hung one lets nobody in; and how the server is. The second goes over a session that
//! is kept: to open one costs PostgreSQL many times what the answer does. Every `RENEW`, and
//! whenever an answer is missing, a look is a whole new session, for a lock on a catalog or a lack of
//! connections shows in that alone.
//! State: memory. The session ends with its postmaster, or when a bar ends all that are older.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use howdah_guard::wire::{Reply, Request};
use howdah_postgres::session::{Session, SessionError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Elephant, GUARD_LIMIT, Observed, Sight};
use crate::clock::Clock;
use crate::shell::News;

/// Pause between looks while a server is starting, at first; it grows with each look in vain, up to so
/// many times as much, for PostgreSQL logs each.
const SOON: Duration = Duration::from_millis(15);
const IN_VAIN: u32 = 16;
/// A session is kept for so long.
const RENEW: Duration = Duration::from_secs(10);

/// The session that looks go over.
struct Kept {
    session: Session,
    postmaster: i32,
    opened: Instant,
}

impl Elephant {
    /// Looks at the server for as long as somebody listens, half as often while nothing at all
    /// changes.
    pub async fn watch(
        self: Arc<Self>,
        clock: Arc<dyn Clock>,
        every: Duration,
        limit: Duration,
        outbox: mpsc::UnboundedSender<News>,
    ) {
        let (mut last, mut kept, mut in_vain) = (None, None, 0);
        loop {
            let mut pause = every;
            if let Ok(Reply::Status(status)) = self.guard(Request::Status, GUARD_LIMIT).await
                && let Some(postmaster) = status.postmaster
            {
                let asked = clock.boot();
                let sight = self.glance(postmaster.pid, &mut kept, limit).await;
                let hurried = self.hurried.load(Ordering::Relaxed);
                if hurried {
                    pause = SOON;
                }
                if matches!(sight, Sight::Answer(_)) {
                    in_vain = 0;
                } else {
                    in_vain = IN_VAIN.min(in_vain + 1);
                    pause = SOON * in_vain;
                }
                if let Sight::Answer(seen) = &sight {
                    if last.as_ref() == Some(seen) && !hurried {
                        pause = every * 2;
                    }
                    last = Some(seen.clone());
                }
                let observed = Observed { pid: postmaster.pid, asked, sight };
                if outbox.send(News::Observed(observed)).is_err() {
                    return;
                }
            } else {
                (kept, in_vain) = (None, 0);
            }
            let _ = tokio::time::timeout(pause, self.look.notified()).await;
        }
    }

    /// One look over the session that is kept, or by a new one, which is kept then.
    async fn glance(&self, postmaster: i32, kept: &mut Option<Kept>, limit: Duration) -> Sight {
        let old = kept.take().filter(|kept| kept.postmaster == postmaster);
        if let Some(old) = old.filter(|kept| kept.opened.elapsed() < RENEW) {
            let (accepts, seen) = tokio::join!(self.accepts(limit), self.ask(&old.session));
            match (accepts, seen) {
                (Ok(()), Ok(seen)) => {
                    *kept = Some(old);
                    return Sight::Answer(Box::new(seen));
                }
                // As a new session would find, one limit later.
                (Err(SessionError::TimedOut(_)), _) => return Sight::Silent,
                (Err(why), _) | (_, Err(why)) => {
                    tracing::debug!(%why, "the session for looks is no more");
                }
            }
        }
        let (session, sight) = self.open_and_look(limit).await;
        *kept = session.map(|session| Kept { session, postmaster, opened: Instant::now() });
        sight
    }
}
