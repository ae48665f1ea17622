//! Sessions of clients, and what a failure of theirs may mean.
//!
//! Invariant: `Certain` is said only of what can never take effect. A transaction whose COMMIT was
//! not sent is certain to be undone; once it was sent, only an error that the server gives for an
//! abort is certain. An acknowledgement that came because waiting for standbys was cancelled is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

/// Limit of one statement.
pub const STATEMENT: Duration = Duration::from_secs(5);
/// Limit of opening a session.
const OPEN: Duration = Duration::from_millis(700);

/// An operation did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It was not done, and never will be.
    Certain(String),
    /// It may have been done, or may still be.
    Unknown(String),
}

/// A session of a client.
pub struct Session {
    /// For statements.
    pub client: Client,
    cancelled: Arc<AtomicBool>,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Opens a session.
///
/// # Errors
/// Why there is none; nothing was sent that could take effect.
pub async fn connect(config: &Config) -> Result<Session, String> {
    let opened = tokio::time::timeout(OPEN, Box::pin(config.connect(NoTls))).await;
    let (client, mut connection) =
        opened.map_err(|_| "no session in time".to_owned())?.map_err(|why| words(&why))?;
    let cancelled = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&cancelled);
    let driver = tokio::spawn(async move {
        loop {
            match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    // "canceling wait for synchronous replication ...": committed, here alone.
                    if notice.message().contains("synchronous replication") {
                        told.store(true, Ordering::SeqCst);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    });
    Ok(Session { client, cancelled, driver })
}

impl Session {
    /// Runs a transaction at a level of isolation.
    ///
    /// # Errors
    /// What may have become of it. After an error of unknown fate the session is not to be used again.
    pub async fn transaction<T>(
        &self,
        level: &str,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Failed> {
        let certain = |why: tokio_postgres::Error| Failed::Certain(words(&why));
        let begin = format!("BEGIN ISOLATION LEVEL {level}");
        in_time(self.client.batch_execute(&begin))
            .await
            .map_err(Failed::Certain)?
            .map_err(certain)?;
        let done = in_time(work(&self.client)).await.map_err(Failed::Certain)?.map_err(certain)?;
        let committed = in_time(self.client.batch_execute("COMMIT")).await;
        match committed {
            Ok(Ok(())) if self.cancelled.load(Ordering::SeqCst) => {
                Err(Failed::Unknown("waiting for standbys was cancelled".to_owned()))
            }
            Ok(Ok(())) => Ok(done),
            Ok(Err(why)) => Err(of_commit(&why)),
            Err(why) => Err(Failed::Unknown(why)),
        }
    }

    /// Whether it goes on after an operation that was certain to fail.
    pub async fn is_usable(&self) -> bool {
        let rolled_back = tokio::time::timeout(OPEN, self.client.batch_execute("ROLLBACK")).await;
        matches!(rolled_back, Ok(Ok(())))
    }
}

/// Class 40 says that the transaction was rolled back, 23 that a constraint forbade it; all else at
/// COMMIT leaves its fate open.
fn of_commit(why: &tokio_postgres::Error) -> Failed {
    let code = why.code().map(|code| code.code().to_owned()).unwrap_or_default();
    let aborted = code.starts_with("40") && code != "40003";
    if aborted || code.starts_with("23") {
        Failed::Certain(words(why))
    } else {
        Failed::Unknown(words(why))
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let done = tokio::time::timeout(STATEMENT, Box::pin(work)).await;
    done.map_err(|_| format!("no answer within {} s", STATEMENT.as_secs()))
}

/// What went wrong, with the server's code where it gave one.
fn words(why: &tokio_postgres::Error) -> String {
    match why.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => why.to_string(),
    }
}
