//! PgBouncers are paused while the primary changes, so that their clients see a pause.
//!
//! Place: one task for each pooler of the configuration; `doors::keep` says what is wished. PAUSE ends when
//! all transactions have, or after `pause_timeout`: the hand-over then goes on, and who is still in one
//! meets an error.
//! State: memory. A pooler may have been left paused by an agent that died: each is resumed at the
//! start.
//! Invariants: whatever was asked to pause is resumed, as soon as there is an open primary, or
//! [`LONGEST`] after it was asked.
//! Failure: a pooler that does not answer is told again until it does; when the agent dies, the next
//! one resumes.

use std::sync::Arc;
use std::time::Duration;

use howdah_core::Epoch;
use howdah_postgres::pgbouncer::Console;
use howdah_postgres::session::SessionError;
use tokio::sync::watch;

use crate::config::{PgbouncerConfig, pooler_place};

/// A pooler is never paused for longer.
const LONGEST: Duration = Duration::from_secs(10);
/// A console that does not answer within this time is asked again.
const ANSWER: Duration = Duration::from_secs(1);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(500);

/// What a pooler is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Serve, with connections that are no older than this epoch.
    Serve(Epoch),
    /// Pause: the leader of this epoch hands over.
    Pause(Epoch),
    /// Stay as it is: there is no open primary.
    #[default]
    Stay,
}

/// The poolers of this member.
pub struct Bouncers {
    wish: watch::Sender<Wish>,
    /// For each: up to which epoch its leader may go.
    paused: Vec<watch::Receiver<Epoch>>,
}

impl Bouncers {
    /// Begins with each pooler that is configured; none: there are none.
    pub fn start(config: &PgbouncerConfig) -> Option<Self> {
        if config.addresses.is_empty() {
            return None;
        }
        let (wish, config) = (watch::Sender::new(Wish::Stay), Arc::new(config.clone()));
        let begin = |address: &String| {
            let (told, paused) = watch::channel(Epoch(0));
            let bouncer =
                Bouncer { address: address.clone(), config: config.clone(), told, since: Epoch(0) };
            tokio::spawn(bouncer.run(wish.subscribe()));
            paused
        };
        let paused = config.addresses.iter().map(begin).collect();
        Some(Self { wish, paused })
    }

    /// Says what is wished now.
    pub fn wish(&self, wish: Wish) {
        self.wish.send_if_modified(|known| {
            let changed = *known != wish;
            *known = wish;
            changed
        });
    }

    /// Whether each has paused for the leader of this epoch, or its time for that is over.
    pub fn are_done(&self, epoch: Epoch) -> bool {
        self.paused.iter().all(|paused| *paused.borrow() >= epoch)
    }

    /// Until another one is done.
    pub async fn changed(&mut self) {
        let waits = self.paused.iter_mut().map(|paused| Box::pin(paused.changed()));
        let _ = futures::future::select_all(waits).await;
    }
}

struct Bouncer {
    address: String,
    config: Arc<PgbouncerConfig>,
    told: watch::Sender<Epoch>,
    /// Its connections are of this epoch, or younger.
    since: Epoch,
}

impl Bouncer {
    async fn run(mut self, mut wish: watch::Receiver<Wish>) {
        self.resume().await;
        loop {
            let now = *wish.borrow_and_update();
            if matches!(now, Wish::Serve(_)) {
                // The next hand-over may be of the same epoch, if this one came to nothing.
                self.told.send_if_modified(|told| std::mem::take(told) != Epoch(0));
            }
            match now {
                Wish::Pause(epoch) if *self.told.borrow() < epoch => {
                    self.pause(epoch).await;
                    let mut over = wish.clone();
                    let served = over.wait_for(|wish| matches!(wish, Wish::Serve(_)));
                    if tokio::time::timeout(LONGEST, served).await.is_err() {
                        tracing::warn!(
                            pooler = self.address,
                            "resumes though no primary is open: it was paused for {LONGEST:?}"
                        );
                    }
                    self.resume().await;
                }
                Wish::Serve(epoch) if epoch > self.since => {
                    // Old connections lead to a server that is no primary any more; what PAUSE closed
                    // needs no more.
                    if self.since != Epoch(0) {
                        self.reconnect().await;
                    }
                    self.since = epoch;
                }
                _ => {
                    if wish.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn pause(&mut self, epoch: Epoch) {
        let limit = self.config.pause_timeout;
        let paused = async { self.console().await?.command("PAUSE", limit).await };
        match paused.await {
            Ok(()) => {
                tracing::info!(pooler = self.address, "paused");
                // All its connections are closed.
                self.since = Epoch(epoch.0 + 1);
            }
            Err(why) => {
                tracing::warn!(pooler = self.address, "did not pause in time: {why}");
            }
        }
        self.told.send_replace(epoch);
    }

    /// Until it serves, whatever that takes: its clients wait for it.
    async fn resume(&self) {
        let mut complained = false;
        loop {
            let resumed = async { self.console().await?.command("RESUME", ANSWER).await };
            match resumed.await {
                Ok(()) => return,
                // It says so where it was not paused.
                Err(SessionError::Statement { .. }) => return,
                Err(why) if !complained => {
                    tracing::warn!(pooler = self.address, "cannot be told to resume yet: {why}");
                    complained = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn reconnect(&self) {
        let told = async { self.console().await?.command("RECONNECT", ANSWER).await };
        if let Err(why) = told.await {
            tracing::warn!(pooler = self.address, "cannot be told to reconnect: {why}");
        }
    }

    async fn console(&self) -> Result<Console, SessionError> {
        // Checked when the configuration was read.
        let (host, port) = pooler_place(&self.address).unwrap_or_default();
        let role = &self.config.role;
        let password = role.password.as_ref().map(|password| password.reveal());
        Console::open(&host, port, &role.username, password, ANSWER).await
    }
}
