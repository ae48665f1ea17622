//! Tokens, orders that were given, passwords.

use clap::{Args, Subcommand, ValueEnum};

/// `token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is printed once and kept nowhere
    #[command(
        after_long_help = "Examples:\n  howdah token create grafana --role viewer --days 365\n  (umask 077; howdah token create deploy --role operator > deploy.token)"
    )]
    Create(TokenCreateArgs),
    /// Tokens that are good, or have expired
    #[command(after_long_help = "Examples:\n  howdah token list -o json")]
    List,
    /// Take a token away
    #[command(after_long_help = "Examples:\n  howdah token revoke deploy")]
    Revoke(TokenRevokeArgs),
}

/// What the holder of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    /// Looks.
    Viewer,
    /// Moves the leadership, restarts, pauses, reinitializes.
    Operator,
    /// Does everything a person may.
    Admin,
}

impl TokenRole {
    /// As members write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// `token create`.
#[derive(Debug, Args)]
pub struct TokenCreateArgs {
    /// Its name, by which it is listed and revoked
    pub name: String,
    /// What its holder may do
    #[arg(long, value_enum)]
    pub role: TokenRole,
    /// How long it counts, days; until it is revoked if left out
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: Option<u32>,
}

/// `token revoke`.
#[derive(Debug, Args)]
pub struct TokenRevokeArgs {
    /// Its name
    pub name: String,
}
