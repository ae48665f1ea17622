//! What operators' commands take.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::seconds;

/// A role, in Patroni's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The leader.
    #[value(alias = "leader", alias = "master")]
    Primary,
    /// Any standby.
    #[value(alias = "standby")]
    Replica,
    /// Whoever.
    #[default]
    Any,
}

impl Role {
    /// Whether a member with this role in `list` is meant.
    pub fn means(self, role: &str) -> bool {
        match self {
            Role::Primary => role == "Leader",
            Role::Replica => role == "Replica",
            Role::Any => role != "Witness",
        }
    }
}

/// `restart`.
#[derive(Debug, Args)]
pub struct RestartArgs {
    /// Which members; all when left out
    pub members: Vec<String>,
    /// Only members with this role
    #[arg(short, long, value_enum, default_value_t)]
    pub role: Role,
    /// One member of those only, any
    #[arg(long)]
    pub any: bool,
    /// Only where a parameter waits for a restart
    #[arg(long)]
    pub pending: bool,
    /// Only where PostgreSQL is older than this, as 15.4
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    pub pg_version: String,
    /// Give up on a member after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Replicas first, each until it streams; then a switchover, and the old leader
    #[arg(long, conflicts_with_all = ["any", "role"])]
    pub rolling: bool,
    /// Do not ask
    #[arg(short, long, visible_alias = "force")]
    pub yes: bool,
}

/// `reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Which members; all when left out
    pub members: Vec<String>,
    /// Only members with this role
    #[arg(short, long, value_enum, default_value_t)]
    pub role: Role,
}

/// `pause` and `resume`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Taken for those who are used to it: it is always waited for
    #[arg(long, hide = true)]
    pub wait: bool,
}

/// `fence` and `unfence`.
#[derive(Debug, Args)]
pub struct FenceArgs {
    /// Which member
    pub member: String,
    /// Do not ask
    #[arg(short, long, visible_alias = "force")]
    pub yes: bool,
}

/// In which words a connection string is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DsnFormat {
    /// host=... port=... for libpq and everything built on it, as psycopg.
    #[default]
    #[value(alias = "psycopg")]
    Libpq,
    /// postgresql://... for libpq, and for pgx.
    #[value(alias = "pgx")]
    Uri,
    /// jdbc:postgresql://...
    Jdbc,
    /// Host=...;Port=... for .NET.
    Npgsql,
}

/// `dsn`.
#[derive(Debug, Args)]
pub struct DsnArgs {
    /// To whom it leads, at any time
    #[arg(short, long, value_enum, default_value = "primary")]
    pub role: Role,
    /// This member only
    #[arg(short, long)]
    pub member: Option<String>,
    /// Through the members' doors on this port (`proxy.read_write`, `proxy.read_only`)
    #[arg(long, value_name = "PORT", conflicts_with = "member")]
    pub door: Option<u16>,
    /// In which words
    #[arg(long, value_enum, default_value_t)]
    pub format: DsnFormat,
    /// Database
    #[arg(short, long, default_value = "postgres")]
    pub dbname: String,
    /// Role in the database
    #[arg(short = 'U', long, default_value = "", hide_default_value = true)]
    pub username: String,
}

/// `psql`.
#[derive(Debug, Args)]
pub struct PsqlArgs {
    /// Where it leads
    #[command(flatten)]
    pub dsn: DsnArgs,
    /// What psql gets
    #[arg(last = true)]
    pub args: Vec<String>,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Of which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for each command into this directory; else the first page is printed
    #[arg(long)]
    pub dir: Option<PathBuf>,
}
