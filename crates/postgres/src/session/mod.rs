//! Sessions on the local PostgreSQL, over its socket, as the superuser role.
//!
//! For the agent's probes and for [`crate::roles`], [`crate::slots`]. Every session is pinned: own
//! search path, time limits, no wait for standbys, so that neither a role's settings nor a lock nor
//! a cut-off standby can hold the agent up. Nothing survives; a session ends with its value.
//! Invariant: each call ends within its time limit, and its error says whether the server lives.

mod probe;
mod text_row;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use howdah_core::Lsn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Connection, NoTls, Row, SimpleQueryMessage, Socket};

pub use probe::{Probe, Replication, Slot, WalReceiver};
pub use text_row::TextRow;

/// Settings of every session. Times are milliseconds; statement_timeout is added per session.
const PINNED: &str = "-c search_path=pg_catalog -c synchronous_commit=local -c jit=off \
    -c default_transaction_read_only=off -c client_min_messages=warning -c lock_timeout=2000 \
    -c idle_in_transaction_session_timeout=30000 -c idle_session_timeout=0";

/// How long a closed session's connection may still take to part from the server.
const FAREWELL: Duration = Duration::from_secs(1);

/// A session could not be opened or used, and what that says about the server.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nobody listens: PostgreSQL is not running.
    #[error("PostgreSQL refuses connections: {0}")]
    Refused(std::io::Error),
    /// No answer in time: PostgreSQL hangs, or its machine is overloaded.
    #[error("PostgreSQL did not answer within {0:?}")]
    TimedOut(Duration),
    /// All connections are taken; that proves life.
    #[error("PostgreSQL has no connection left: {0}")]
    TooManyClients(String),
    /// It starts, recovers to consistency, or stops.
    #[error("PostgreSQL takes no sessions yet or any more: {0}")]
    StartingUp(String),
    /// The role is not let in.
    #[error("PostgreSQL does not let the role in: {0}; check its HBA file and password")]
    AuthFailed(String),
    /// The connection broke.
    #[error("the connection to PostgreSQL broke: {0}")]
    Lost(String),
    /// A statement failed.
    #[error("PostgreSQL refused a statement: {message} ({code})")]
    Statement {
        /// SQLSTATE.
        code: String,
        /// What it said.
        message: String,
    },
    /// The own certificates cannot be shown.
    #[error("{0}")]
    Certificates(String),
    /// An answer of another form than expected.
    #[error("PostgreSQL answered {what} in a form that is not understood: {detail}")]
    Answer {
        /// Which answer.
        what: &'static str,
        /// What was wrong with it.
        detail: String,
    },
}

impl SessionError {
    /// Whether the server is proven to be alive: it answered, if only to refuse.
    pub fn proves_life(&self) -> bool {
        matches!(
            self,
            Self::TooManyClients(_)
                | Self::StartingUp(_)
                | Self::AuthFailed(_)
                | Self::Statement { .. }
                | Self::Answer { .. }
        )
    }

    /// What an error of the driver means for the server.
    pub(crate) fn of(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let message = db.message().to_owned();
            let code = db.code();
            return match code.code() {
                c if c == SqlState::TOO_MANY_CONNECTIONS.code() => Self::TooManyClients(message),
                c if c == SqlState::CANNOT_CONNECT_NOW.code() => Self::StartingUp(message),
                c if c.starts_with("28") => Self::AuthFailed(message),
                c if c.starts_with("57P") => Self::Lost(message),
                c => Self::Statement { code: c.to_owned(), message },
            };
        }
        let text = error.to_string();
        match error.into_source().map(|s| s.downcast::<std::io::Error>()) {
            Some(Ok(io)) => match io.kind() {
                std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => {
                    Self::Refused(*io)
                }
                _ => Self::Lost(format!("{text}: {io}")),
            },
            Some(Err(other)) => Self::Lost(format!("{text}: {other}")),
            None => Self::Lost(text),
        }
    }
}

/// An open session.
pub struct Session {
    client: Client,
    timeout: Duration,
    /// Its end tells the driver that this session is over.
    _open: oneshot::Sender<()>,
}

/// Drives the connection. When its session ended it still says good-bye to the server: a backend
/// whose client just vanishes logs errors, and one that is terminated in that moment was seen to
/// lock itself up in its own exit, which a fast shutdown then waits for. A server that hangs gets
/// no more than `FAREWELL`.
async fn drive<S, T>(mut connection: Connection<S, T>, open: oneshot::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let ended = async {
        let _ = open.await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        done = &mut connection => if let Err(error) = done {
            tracing::debug!(%error, "a session on PostgreSQL ended");
        },
        () = ended => {}
    }
}

/// Opens a session on the local server. `timeout` limits the opening and each later call.
pub async fn connect(
    socket_dir: &Path,
    port: u16,
    user: &str,
    timeout: Duration,
) -> Result<Session, SessionError> {
    let mut config = Config::new();
    config.host_path(socket_dir).port(port).user(user).dbname("postgres");
    connect_with(config, NoTls, timeout).await
}

/// Opens a session as this configuration says, pinned like every other.
pub(crate) async fn connect_with<T>(
    mut config: Config,
    tls: T,
    timeout: Duration,
) -> Result<Session, SessionError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let limit = timeout.as_millis().max(1);
    config.application_name("howdah");
    config.options(format!("{PINNED} -c statement_timeout={limit}"));
    // Boxed: the driver's future is large and would bloat every future that connects.
    let connecting = Box::pin(config.connect(tls));
    let connected = tokio::time::timeout(timeout, connecting).await;
    let (client, connection) =
        connected.map_err(|_| SessionError::TimedOut(timeout))?.map_err(SessionError::of)?;
    Ok(Session::over(client, connection, timeout))
}

/// Whether the postmaster takes a connection and starts a process that answers: it is alive, whatever
/// keeps sessions from coming about. Asked by PostgreSQL's own request for TLS, which is answered
/// before anything is read from a catalog, and after which it logs nothing of a client that goes.
///
/// # Errors
/// `TimedOut` if it hangs, `Refused` if nobody listens, `Lost` if the process ended without a word.
pub async fn accepts_connections(
    socket_dir: &Path,
    port: u16,
    limit: Duration,
) -> Result<(), SessionError> {
    const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let asked = async {
        let path = socket_dir.join(format!(".s.PGSQL.{port}"));
        let mut stream =
            tokio::net::UnixStream::connect(path).await.map_err(SessionError::Refused)?;
        let answered = async {
            stream.write_all(&TLS_REQUEST).await?;
            stream.read_exact(&mut [0]).await
        };
        let answered: std::io::Result<_> = answered.await;
        answered.map_err(|why| SessionError::Lost(why.to_string()))?;
        Ok(())
    };
    let asked = tokio::time::timeout(limit, asked).await;
    asked.unwrap_or(Err(SessionError::TimedOut(limit)))
}

impl Session {
    /// A session over a connection, which a task of its own drives from now on.
    pub(crate) fn over<S, T>(
        client: Client,
        connection: Connection<S, T>,
        timeout: Duration,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (_open, ended) = oneshot::channel();
        tokio::spawn(drive(connection, ended));
        Self { client, timeout, _open }
    }

    async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SessionError> {
        let done = tokio::time::timeout(self.timeout, Box::pin(work)).await;
        done.map_err(|_| SessionError::TimedOut(self.timeout))?.map_err(SessionError::of)
    }

    /// Runs a query. Parameters are bound by the server.
    pub async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SessionError> {
        self.limited(self.client.query(sql, params)).await
    }

    /// The rows of each of some statements separated by semicolons, as text, in one round trip.
    ///
    /// # Errors
    /// [`SessionError`]; the statements behind one that fails are not run.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<TextRow>>, SessionError> {
        let (mut answers, mut rows) = (Vec::new(), Vec::new());
        for message in self.limited(self.client.simple_query(sql)).await? {
            match message {
                SimpleQueryMessage::Row(row) => rows.push(TextRow::of(&row)),
                SimpleQueryMessage::CommandComplete(_) => answers.push(std::mem::take(&mut rows)),
                _ => {}
            }
        }
        Ok(answers)
    }

    /// The first row of an answer as text, in one round trip.
    ///
    /// # Errors
    /// [`SessionError`]; `Answer` if there is no row.
    pub async fn row(&self, sql: &str) -> Result<TextRow, SessionError> {
        let row = self.rows(sql).await?.into_iter().flatten().next();
        row.ok_or_else(|| SessionError::Answer { what: "a look", detail: "no row".to_owned() })
    }

    /// Runs statements separated by semicolons.
    pub async fn execute(&self, sql: &str) -> Result<(), SessionError> {
        self.limited(self.client.batch_execute(sql)).await
    }

    /// Parameters that take effect at a restart only, with the present and the coming value, as
    /// `old->new`.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn pending_restart(&self) -> Result<BTreeMap<String, String>, SessionError> {
        let sql = "SELECT s.name, s.setting, coalesce((SELECT f.setting FROM pg_file_settings f \
                   WHERE f.name = s.name AND f.error IS NOT NULL ORDER BY f.seqno DESC LIMIT 1), \
                   (SELECT f.setting FROM pg_file_settings f WHERE f.name = s.name \
                   ORDER BY f.seqno DESC LIMIT 1), s.boot_val, '') \
                   FROM pg_settings s WHERE s.pending_restart";
        let rows = self.query(sql, &[]).await?;
        let text = |row: &Row, index: usize| {
            row.try_get::<_, String>(index).map_err(|error| SessionError::Answer {
                what: "pg_settings",
                detail: error.to_string(),
            })
        };
        rows.iter()
            .map(|row| Ok((text(row, 0)?, format!("{}->{}", text(row, 1)?, text(row, 2)?))))
            .collect()
    }

    /// Whether a new session sees neither an upstream nor an archive to take WAL from.
    pub async fn is_cut_off(&self) -> Result<bool, SessionError> {
        let sql = "SELECT current_setting('primary_conninfo'), current_setting('restore_command')";
        let row = self.row(sql).await?;
        Ok(row.text(0, "a look")?.trim().is_empty() && row.text(1, "a look")?.trim().is_empty())
    }

    /// End of what was replayed; none on a server that is not in recovery and never was.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn replayed(&self) -> Result<Option<Lsn>, SessionError> {
        let row = self.row("SELECT pg_last_wal_replay_lsn()::text").await?;
        row.maybe(0, "the replayed position")
    }

    /// Has the server write a checkpoint, however long it takes: at most `limit`.
    pub async fn checkpoint(&self, limit: Duration) -> Result<(), SessionError> {
        let millis = limit.as_millis().max(1);
        let sql = format!("SET statement_timeout = {millis}");
        self.execute(&sql).await?;
        let work = Box::pin(self.client.batch_execute("CHECKPOINT"));
        let done = tokio::time::timeout(limit, work).await;
        done.map_err(|_| SessionError::TimedOut(limit))?.map_err(SessionError::of)?;
        self.execute(&format!("SET statement_timeout = {}", self.timeout.as_millis().max(1))).await
    }

    /// State of the server at this moment.
    pub async fn probe(&self) -> Result<Probe, SessionError> {
        probe::probe(self).await
    }
}

/// A column of a row; another type or a NULL where none belongs is an error, not a panic.
pub(crate) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    column: usize,
    what: &'static str,
) -> Result<T, SessionError> {
    row.try_get(column).map_err(|e| SessionError::Answer { what, detail: e.to_string() })
}

/// An identifier in double quotes.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal, safe whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
