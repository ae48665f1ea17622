//! PgBouncer's console: the admin database that takes PAUSE, RESUME and RECONNECT.
//!
//! Place: the agent's, around a change of primary. Nothing survives.
//! Source: PgBouncer's documentation, "Admin console". It speaks the simple query protocol alone.

use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

use crate::session::SessionError;

/// A session with a console, until dropped.
pub struct Console {
    client: Client,
}

impl Console {
    /// Opens one. `host` is a name, an address, or the directory of a socket.
    ///
    /// # Errors
    /// What PgBouncer, or the way to it, says; `TimedOut` after `limit`.
    pub async fn open(
        host: &str,
        port: u16,
        username: &str,
        password: Option<&str>,
        limit: Duration,
    ) -> Result<Self, SessionError> {
        let mut config = Config::new();
        config.host(host).port(port).user(username).dbname("pgbouncer").connect_timeout(limit);
        if let Some(password) = password {
            config.password(password);
        }
        let connected = tokio::time::timeout(limit, config.connect(NoTls)).await;
        let (client, connection) =
            connected.map_err(|_| SessionError::TimedOut(limit))?.map_err(SessionError::of)?;
        // It ends with the client.
        tokio::spawn(connection);
        Ok(Self { client })
    }

    /// Gives a command and waits until it is done.
    ///
    /// # Errors
    /// What PgBouncer says; `TimedOut` after `limit`.
    pub async fn command(&self, command: &str, limit: Duration) -> Result<(), SessionError> {
        let done = tokio::time::timeout(limit, self.client.simple_query(command)).await;
        done.map_err(|_| SessionError::TimedOut(limit))?.map_err(SessionError::of)?;
        Ok(())
    }
}
