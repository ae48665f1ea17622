//! The database roles for replication and for pg_rewind.
//!
//! The agent ensures them on the primary after each promotion; repeating it changes nothing but
//! the salt. Only a SCRAM verifier is sent, computed here, and logging is off for the session, so
//! the password can stand in no log, no statistics and no WAL.

use crate::passfile::Secret;
use crate::session::{Session, SessionError, identifier, literal};
use crate::versions;

/// What pg_rewind reads its source with.
const REWIND_FUNCTIONS: [&str; 4] = [
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// What follows in the session stands in no log of PostgreSQL's.
const UNLOGGED: &str = "SET log_statement = 'none'; SET log_min_duration_statement = -1; \
                        SET log_min_error_statement = 'panic'; SET log_duration = off";

/// A role and its password; without one, the password it has stays.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its password.
    pub password: Option<&'a Secret>,
}

/// Creates or updates both roles. The session must be a superuser's on the primary.
pub async fn ensure_roles(
    session: &Session,
    major: u32,
    replication: &Login<'_>,
    rewind: &Login<'_>,
) -> Result<(), SessionError> {
    session.execute(UNLOGGED).await?;
    ensure(session, replication, "LOGIN REPLICATION").await?;
    // A role may serve both; then it keeps what it was given above.
    ensure(session, rewind, "LOGIN").await?;
    let role = identifier(rewind.name);
    let mut grants = format!("BEGIN; GRANT CONNECT ON DATABASE postgres TO {role};");
    for function in REWIND_FUNCTIONS {
        grants.push_str(&format!("GRANT EXECUTE ON FUNCTION {function} TO {role};"));
    }
    if versions::has_checkpoint_role(major) {
        grants.push_str(&format!("GRANT pg_checkpoint TO {role};"));
    }
    if versions::has_reserved_connections(major) {
        // A rewind must get in also where clients have taken every connection.
        grants.push_str(&format!("GRANT pg_use_reserved_connections TO {role};"));
    }
    grants.push_str("COMMIT");
    session.execute(&grants).await
}

/// Creates or updates the role of whoever watches. The session must be a superuser's on the primary.
pub async fn ensure_monitoring(
    session: &Session,
    monitoring: &Login<'_>,
) -> Result<(), SessionError> {
    session.execute(UNLOGGED).await?;
    ensure(session, monitoring, "LOGIN").await?;
    session.execute(&format!("GRANT pg_monitor TO {}", identifier(monitoring.name))).await
}

async fn ensure(session: &Session, login: &Login<'_>, rights: &str) -> Result<(), SessionError> {
    let rows = session.query("SELECT FROM pg_roles WHERE rolname = $1", &[&login.name]).await?;
    let verb = if rows.is_empty() { "CREATE" } else { "ALTER" };
    let mut sql = format!("{verb} ROLE {} {rights}", identifier(login.name));
    if let Some(password) = login.password {
        let verifier = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
        sql.push_str(&format!(" PASSWORD {}", literal(&verifier)));
    }
    session.execute(&sql).await
}
