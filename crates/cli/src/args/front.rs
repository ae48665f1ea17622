//! What is put in front of a cluster.

use clap::{Args, Subcommand};

/// `haproxy`.
#[derive(Debug, Subcommand)]
pub enum HaproxyCommand {
    /// Print haproxy.cfg for the cluster as it is
    #[command(
        after_long_help = "Examples:\n  howdah haproxy config > /etc/haproxy/haproxy.cfg\n  howdah haproxy config --agent-port 8009"
    )]
    Config(HaproxyArgs),
}

/// `haproxy config`.
#[derive(Debug, Args)]
pub struct HaproxyArgs {
    /// Where HAProxy listens for writes
    #[arg(long, value_name = "ADDRESS", default_value = "*:5000")]
    pub write: String,
    /// Where it listens for reads
    #[arg(long, value_name = "ADDRESS", default_value = "*:5001")]
    pub read: String,
    /// Most connections to each server
    #[arg(long, default_value_t = 100)]
    pub max_connections: u32,
    /// Port of the members' agent check (their `proxy.agent_check`)
    #[arg(long, value_name = "PORT")]
    pub agent_port: Option<u16>,
}

/// `pgbouncer`.
#[derive(Debug, Subcommand)]
pub enum PgbouncerCommand {
    /// Print a pgbouncer.ini that goes through a door
    #[command(
        after_long_help = "Examples:\n  howdah pgbouncer config > /etc/pgbouncer/pgbouncer.ini\n  howdah pgbouncer config --door 10.0.0.1:5000 --listen 0.0.0.0:6432"
    )]
    Config(PgbouncerArgs),
}

/// `pgbouncer config`.
#[derive(Debug, Args)]
pub struct PgbouncerArgs {
    /// The door for writes that it goes through (`proxy.read_write`)
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    pub door: String,
    /// Where PgBouncer listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6432")]
    pub listen: String,
    /// Directory of its socket
    #[arg(long, value_name = "DIR", default_value = "/var/run/postgresql")]
    pub socket_dir: String,
    /// Its file of users and passwords
    #[arg(long, value_name = "FILE", default_value = "/etc/pgbouncer/userlist.txt")]
    pub auth_file: String,
    /// Who may give it commands
    #[arg(long, value_name = "ROLE", default_value = "pgbouncer")]
    pub admin: String,
}
