//! How the server is reached and what is rendered for it: settings, sockets, roles and passwords.
//!
//! Pure but for the password file, which is written before each use.

use std::path::PathBuf;
use std::time::Duration;

use howdah_core::{ClusterState, Epoch, MemberName};
use howdah_locks::Paths;
use howdah_postgres::clone::Source;
use howdah_postgres::passfile::{self, Secret};
use howdah_postgres::roles::{self, Login};
use howdah_postgres::settings::{PgSettings, RoleNames};

use super::{Elephant, JobError};
use crate::config::Role;
use crate::troubles::Kind;

/// Limit of making the roles.
const ROLES_LIMIT: Duration = Duration::from_secs(10);

/// What the roles of the local primary have.
#[derive(PartialEq, Eq)]
pub(super) struct RolesSet {
    epoch: Epoch,
    replication: Secret,
    rewind: Secret,
    monitoring: Option<Role>,
}

impl Elephant {
    /// Settings for rendering, of configuration and log together.
    pub(crate) fn settings(&self) -> PgSettings {
        let (state, config) = (self.state(), self.current());
        let pg = &config.postgresql;
        let mut parameters = state.settings.parameters.clone();
        parameters.extend(pg.parameters.clone());
        let host = |address: &str| {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            host.trim_matches(['[', ']']).to_owned()
        };
        let mut members: Vec<String> =
            state.members.values().map(|member| host(&member.postgres_address)).collect();
        members.sort();
        members.dedup();
        let mut hba = state.settings.pg_hba.clone();
        hba.extend(pg.pg_hba.clone());
        let roles = &pg.authentication;
        PgSettings {
            data_dir: pg.data_dir.clone(),
            listen: pg.listen_hosts.join(","),
            port: pg.port,
            socket_dir: self.socket_dir(),
            cluster_name: self.config.scope.clone(),
            major: self.install.major,
            parameters,
            hba,
            ident: pg.pg_ident.clone(),
            members,
            roles: RoleNames {
                superuser: roles.superuser.username.clone(),
                replication: roles.replication.username.clone(),
                rewind: roles.rewind.username.clone(),
            },
            os_user: self.os_user.clone(),
            tls: self.server_tls(),
        }
    }

    /// The member's certificates, where PostgreSQL can use them and nobody gave it others.
    fn server_tls(&self) -> Option<Paths> {
        let (state, config) = (self.state(), self.current());
        let mut given = state.settings.parameters.keys().chain(config.postgresql.parameters.keys());
        let others = given.any(|name| name.to_ascii_lowercase().starts_with("ssl"));
        config.tls.clone().filter(|_| self.install.has_tls && !others)
    }

    /// Directory of the sockets.
    pub fn socket_dir(&self) -> PathBuf {
        self.config.socket_dir()
    }

    /// Passwords of the replication and the rewind role: configured ones first, else the cluster's.
    pub(crate) fn passwords(&self) -> Result<(Secret, Secret), JobError> {
        self.passwords_of(&self.state())
    }

    /// The same with the log as it was then.
    pub(crate) fn passwords_of(&self, state: &ClusterState) -> Result<(Secret, Secret), JobError> {
        let config = self.current();
        let roles = &config.postgresql.authentication;
        let pick = |configured: Option<&crate::config::Secret>, shared: Option<&String>| {
            configured
                .map(|secret| Secret::new(secret.reveal()))
                .or_else(|| shared.map(Secret::new))
                .ok_or_else(|| JobError("the cluster's secrets are not there yet".into()))
        };
        let shared = state.secrets.as_ref();
        let replication =
            pick(roles.replication.password.as_ref(), shared.map(|s| &s.replication))?;
        let rewind = pick(roles.rewind.password.as_ref(), shared.map(|s| &s.rewind))?;
        Ok((replication, rewind))
    }

    /// Writes the password file; its path.
    pub(crate) fn passfile(&self) -> Result<PathBuf, JobError> {
        self.passfile_of(&self.state())
    }

    /// The same with the log as it was then.
    pub(crate) fn passfile_of(&self, state: &ClusterState) -> Result<PathBuf, JobError> {
        let (replication, rewind) = self.passwords_of(state)?;
        let config = self.current();
        let roles = &config.postgresql.authentication;
        let entries = [
            (roles.replication.username.as_str(), &replication),
            (&roles.rewind.username, &rewind),
        ];
        Ok(passfile::write(&self.data_dir(), &entries)?)
    }

    /// Makes the roles that others connect as, with the passwords that they are to have, unless this was done in this
    /// epoch. On the leader alone.
    pub(crate) async fn set_roles(
        &self,
        state: &ClusterState,
        epoch: Epoch,
    ) -> Result<(), JobError> {
        let (replication, rewind) = self.passwords_of(state)?;
        let names = self.current().postgresql.authentication.clone();
        let wanted = RolesSet { epoch, replication, rewind, monitoring: names.monitoring.clone() };
        // Held throughout: the job after a promotion and the keeper of the passwords come at the same moment.
        let mut set = self.roles_set.lock().await;
        if set.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let session = self.session(ROLES_LIMIT).await?;
        let login = |name, password| Login { name, password: Some(password) };
        let replication = login(&names.replication.username, &wanted.replication);
        let rewind = login(&names.rewind.username, &wanted.rewind);
        roles::ensure_roles(&session, self.install.major, &replication, &rewind).await?;
        // Whoever looks on holds nobody up: clients are let in without him.
        let mut failed = None;
        if let Some(role) = &names.monitoring {
            let password = role.password.as_ref().map(|password| Secret::new(password.reveal()));
            let login = Login { name: &role.username, password: password.as_ref() };
            failed = roles::ensure_monitoring(&session, &login).await.err().map(|why| {
                format!(
                    "the role `{}` for monitoring is not made: {why}; mend it, then `howdah reload`",
                    role.username
                )
            });
        }
        self.troubles.set(Kind::Monitoring, failed);
        *set = Some(wanted);
        Ok(())
    }

    /// Where a member's PostgreSQL is reached, for `user`.
    pub(crate) fn source(&self, member: &MemberName, user: &str) -> Result<Source, JobError> {
        let state = self.state();
        let known = state.members.get(member);
        let address = known.map(|member| member.postgres_address.clone());
        let address = address.ok_or_else(|| JobError(format!("there is no member {member}")))?;
        let (host, port) = address.rsplit_once(':').unwrap_or((&address, "5432"));
        let port = port.parse().map_err(|_| JobError(format!("{address} is no address")))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let tls = self.server_tls().map(|paths| (paths, self.install.major));
        Ok(Source { host, port, user: user.to_owned(), passfile: Some(self.passfile()?), tls })
    }
}
