//! A new cluster.

use std::path::PathBuf;

use clap::Args;

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Name of the cluster
    #[arg(long)]
    pub scope: String,
    /// Each member's name, and the DNS name or IP address under which the others and clients reach it
    #[arg(required = true, value_name = "NAME=HOST")]
    pub members: Vec<String>,
    /// Where all of it is written, a new directory: ./SCOPE if left out
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// PostgreSQL's data directory on the members; one that is there is adopted
    #[arg(long, value_name = "PATH", default_value = "/var/lib/howdah/data")]
    pub data_dir: PathBuf,
    /// Directory of the replicated log on the members
    #[arg(long, value_name = "PATH", default_value = "/var/lib/howdah/raft")]
    pub raft_dir: PathBuf,
    /// Keep the CA's key from the members; their certificates are then renewed by hand
    #[arg(long)]
    pub without_ca_key: bool,
    /// Port of PostgreSQL
    #[arg(long, value_name = "PORT", default_value_t = 5432)]
    pub postgres_port: u16,
    /// Port of the members' gRPC
    #[arg(long, value_name = "PORT", default_value_t = 7432)]
    pub control_port: u16,
    /// Port of REST
    #[arg(long, value_name = "PORT", default_value_t = 8008)]
    pub rest_port: u16,
    /// Port of the door for writes
    #[arg(long, value_name = "PORT", default_value_t = 5000)]
    pub write_port: u16,
    /// Port of the door for reads
    #[arg(long, value_name = "PORT", default_value_t = 5001)]
    pub read_port: u16,
}
