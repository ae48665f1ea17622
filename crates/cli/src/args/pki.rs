//! Certificates.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

/// `pki`.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a cluster's own CA
    #[command(after_long_help = "Examples:\n  howdah pki init --scope demo --dir pki")]
    Init(PkiInitArgs),
    /// Issue a certificate to a member, a person or a program
    #[command(
        after_long_help = "Examples:\n  howdah pki issue member n1 --host 10.0.0.1 --host n1.example.org --dir pki\n  howdah pki issue operator alice --dir pki --days 30"
    )]
    Issue(PkiIssueArgs),
    /// Issue anew what a directory holds, for the same holder and hosts
    #[command(
        after_long_help = "Examples:\n  howdah pki renew pki/n1 --dir pki      # copy tls.crt and tls.key to the member; it takes them up"
    )]
    Renew(PkiRenewArgs),
    /// Whose certificates these are, and until when they count
    #[command(
        after_long_help = "Examples:\n  howdah pki status pki/n1/tls.crt pki/ca.crt\n  howdah pki status -c /etc/howdah/howdah.yml"
    )]
    Status(PkiStatusArgs),
}

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Holder {
    /// A member of the cluster.
    Member,
    /// Looks.
    Viewer,
    /// Moves the leadership, restarts, pauses, reinitializes.
    Operator,
    /// Does everything a person may.
    Admin,
}

/// `pki init`.
#[derive(Debug, Args)]
pub struct PkiInitArgs {
    /// Name of the cluster, as `scope` in its configuration
    #[arg(long)]
    pub scope: String,
    /// Directory of the CA: keep its ca.key where few can read it
    #[arg(long, value_name = "DIR", default_value = "pki")]
    pub dir: PathBuf,
    /// How long it counts, days
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub days: u32,
}

/// `pki issue`.
#[derive(Debug, Args)]
pub struct PkiIssueArgs {
    /// What its holder is
    #[arg(value_enum)]
    pub holder: Holder,
    /// Its name: a member's, as `name` in its configuration, or a person's or program's
    pub name: String,
    /// DNS name or IP address of a member; may be repeated
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Directory of the CA
    #[arg(long, value_name = "DIR", default_value = "pki")]
    pub dir: PathBuf,
    /// Where ca.crt, tls.crt and tls.key are written: DIR/NAME if left out
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How long it counts, days
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}

/// `pki renew`.
#[derive(Debug, Args)]
pub struct PkiRenewArgs {
    /// Directories that hold a tls.crt
    #[arg(required = true, value_name = "DIR")]
    pub holders: Vec<PathBuf>,
    /// Directory of the CA
    #[arg(long, value_name = "DIR", default_value = "pki")]
    pub dir: PathBuf,
    /// How long they count, days
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}

/// `pki status`.
#[derive(Debug, Args)]
pub struct PkiStatusArgs {
    /// Certificates, or directories with some; those of the configuration if left out
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// That many days.
pub fn days(count: u32) -> Duration {
    Duration::from_secs(u64::from(count) * 24 * 3600)
}
