//! A door for `fuzz/properties`: readers that nothing outside of this crate calls. No interface, and no promise.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{Config, NoTls};

use crate::identity::{self, Identity};
use crate::saved_wal::{self, Transaction};
use crate::session::{Probe, Session, SessionError};
use crate::{clone, install};

/// The identity in a file beside the data.
///
/// # Errors
/// What is wrong with it.
pub fn identity(bytes: &[u8]) -> Result<Identity, String> {
    identity::decode(bytes)
}

/// The file of an identity.
pub fn identity_file(identity: &Identity) -> Vec<u8> {
    identity.encode()
}

/// A line of pg_waldump.
pub fn transaction(line: &str) -> Option<Transaction> {
    saved_wal::transaction_of(line)
}

/// Bytes done and bytes in all, of a line of pg_basebackup.
pub fn progress(line: &str) -> Option<(u64, u64)> {
    clone::parse_progress(line).map(|progress| (progress.bytes, progress.total))
}

/// Whether `postgres --describe-config` tells of ciphers.
pub fn has_tls(described: &str) -> bool {
    install::has_tls(described)
}

/// What a server says of itself on this connection.
///
/// # Errors
/// [`SessionError`].
pub async fn probe<S>(server: S, limit: Duration) -> Result<Probe, SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut config = Config::new();
    config.user("postgres").password("secret-of-this-test");
    let connected = tokio::time::timeout(limit, Box::pin(config.connect_raw(server, NoTls))).await;
    let connected = connected.map_err(|_| SessionError::TimedOut(limit))?;
    let (client, connection) = connected.map_err(SessionError::of)?;
    Session::over(client, connection, limit).probe().await
}
