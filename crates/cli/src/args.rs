//! The command line.

mod front;
mod init;
mod operate;
mod pki;
mod rights;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::failure;
pub use front::{HaproxyArgs, HaproxyCommand, PgbouncerArgs, PgbouncerCommand};
pub use init::InitArgs;
pub use operate::{
    CompletionsArgs, DsnArgs, DsnFormat, FenceArgs, ManArgs, PsqlArgs, ReloadArgs, RestartArgs,
    Role, WaitArgs,
};
pub use pki::{Holder, PkiCommand, PkiInitArgs, PkiIssueArgs, PkiRenewArgs, PkiStatusArgs, days};
pub use rights::{TokenCommand, TokenCreateArgs, TokenRevokeArgs, TokenRole};

/// Automatic failover for PostgreSQL without an outside store.
#[derive(Debug, Parser)]
#[command(
    name = "howdah",
    version,
    after_help = "Exit codes: 0 done, 1 refused or a negative answer, 2 error, 64 usage or \
                  configuration; run: 70 internal error or failed fsync, 78 foreign or corrupt \
                  directory."
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Configuration of a member, a file or a directory; its addresses lead to the cluster
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "HOWDAH_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Members to ask, HOST:PORT, several separated by commas
    #[arg(long, value_name = "HOST:PORT", env = "HOWDAH_ENDPOINT", global = true)]
    pub endpoint: Option<String>,
    /// Certificate, key and CA to show, a directory as `howdah pki issue` writes it; else those of the configuration
    #[arg(long, value_name = "DIR", env = "HOWDAH_KEYS", global = true)]
    pub keys: Option<PathBuf>,
    /// File with a bearer token, closed to others: instead of a certificate
    #[arg(long, value_name = "FILE", env = "HOWDAH_TOKEN_FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// With --token-file: certificates of the CA that members are believed by; else tls.ca of the configuration
    #[arg(long, value_name = "FILE", env = "HOWDAH_CA", global = true)]
    pub ca: Option<PathBuf>,
    /// Form of the output
    #[arg(short = 'o', long, value_enum, default_value_t, global = true)]
    pub output: Format,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document (one per line for streams).
    Json,
    /// One YAML document.
    Yaml,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run this member: the guard, the agent and PostgreSQL
    #[command(after_long_help = "Examples:\n  howdah run -c /etc/howdah/howdah.yml")]
    Run(RunArgs),
    /// The agent; started by the guard
    #[command(hide = true)]
    Agent(AgentArgs),
    /// Make all that the members of a new cluster need: certificates, configurations, and the command that installs each
    #[command(
        after_long_help = "Examples:\n  howdah init --scope main n1=10.0.0.1 n2=10.0.0.2 n3=10.0.0.3\n  howdah init --scope main --without-ca-key n1=db1.example.org n2=db2.example.org n3=db3.example.org"
    )]
    Init(InitArgs),
    /// A cluster of real servers on this machine
    #[command(after_long_help = "Examples:\n  howdah demo\n  howdah demo --tour --profile fast")]
    Demo(DemoArgs),
    /// Members and their states
    #[command(
        after_long_help = "Examples:\n  howdah list\n  howdah list -e          # tags, pending restarts, reasons too\n  howdah list -o json --endpoint 10.0.0.1:7432,10.0.0.2:7432"
    )]
    List(ListArgs),
    /// Members as a tree, replicas below their leader
    #[command(after_long_help = "Examples:\n  howdah topology")]
    Topology(ListArgs),
    /// Changes of leader so far, or what was lost by them
    #[command(
        after_long_help = "Examples:\n  howdah history -o json\n  howdah history --lost      # writes that the cluster went on without"
    )]
    History(HistoryArgs),
    /// Why the present leader leads, or why nobody does
    #[command(
        after_long_help = "Examples:\n  howdah explain          # now\n  howdah explain 7        # how epoch 7 began"
    )]
    Explain(ExplainArgs),
    /// What happened
    #[command(after_long_help = "Examples:\n  howdah events --follow -o json")]
    Events(EventsArgs),
    /// Hand leadership over without losing a write
    #[command(
        after_long_help = "Examples:\n  howdah switchover --dry-run\n  howdah switchover --candidate n2 --yes"
    )]
    Switchover(SwitchoverArgs),
    /// Take leadership from a leader that is dead or unwanted
    #[command(
        after_long_help = "Examples:\n  howdah failover --candidate n3\n  howdah failover --holder-is-stopped      # in maintenance mode, when the leader is silent"
    )]
    Failover(FailoverArgs),
    /// Replace a standby's data by a fresh copy
    #[command(after_long_help = "Examples:\n  howdah reinit n3 --yes")]
    Reinit(ReinitArgs),
    /// Restart PostgreSQL of members, one after the other; their roles stay
    #[command(
        after_long_help = "Examples:\n  howdah restart n2\n  howdah restart --pending --yes\n  \
                                 howdah restart --rolling --yes   # replicas, a switchover, the old leader"
    )]
    Restart(RestartArgs),
    /// Have members read their configuration again
    #[command(after_long_help = "Examples:\n  howdah reload\n  howdah reload n2 -o json")]
    Reload(ReloadArgs),
    /// Maintenance mode: nothing is started, stopped or promoted by itself
    #[command(after_long_help = "Examples:\n  howdah pause")]
    Pause(WaitArgs),
    /// End of maintenance mode
    #[command(after_long_help = "Examples:\n  howdah resume")]
    Resume(WaitArgs),
    /// Stop one member's PostgreSQL and keep it stopped
    #[command(
        after_long_help = "Examples:\n  howdah fence n3\n  howdah fence n1 --yes   # a leader hands over first"
    )]
    Fence(FenceArgs),
    /// Let a fenced member's PostgreSQL run again
    #[command(after_long_help = "Examples:\n  howdah unfence n3")]
    Unfence(FenceArgs),
    /// The cluster-wide configuration
    #[command(after_long_help = "Examples:\n  howdah show-config -o json")]
    ShowConfig,
    /// A connection string that finds the right member by itself
    #[command(
        after_long_help = "Examples:\n  howdah dsn\n  howdah dsn --role replica --format jdbc\n  howdah dsn --door 5000      # through the members' doors"
    )]
    Dsn(DsnArgs),
    /// psql on the right member
    #[command(
        after_long_help = "Examples:\n  howdah psql\n  howdah psql -r replica -- -c 'SELECT 1'"
    )]
    Psql(PsqlArgs),
    /// HAProxy in front of the cluster
    #[command(subcommand)]
    Haproxy(HaproxyCommand),
    /// PgBouncer before a door
    #[command(subcommand)]
    Pgbouncer(PgbouncerCommand),
    /// Certificates: a cluster's own CA, and what it issues
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Bearer tokens: for scripts and for people without a certificate
    #[command(subcommand)]
    Token(TokenCommand),
    /// Orders that were given: who, from where, what, and how it ended
    #[command(after_long_help = "Examples:\n  howdah audit\n  howdah audit -o json")]
    Audit,
    /// New passwords for replication and rewinding, while everything runs
    #[command(after_long_help = "Examples:\n  howdah rotate-passwords")]
    RotatePasswords,
    /// What is wrong, here and in the cluster, and how to mend it
    #[command(after_long_help = "Examples:\n  howdah doctor\n  howdah doctor -o json")]
    Doctor,
    /// Completions for a shell
    #[command(
        after_long_help = "Examples:\n  howdah completions bash > /etc/bash_completion.d/howdah"
    )]
    Completions(CompletionsArgs),
    /// Manual pages
    #[command(after_long_help = "Examples:\n  howdah man --dir /usr/local/share/man/man1")]
    Man(ManArgs),
    /// Configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Versions: this program's, and those of the members where a cluster answers
    #[command(after_long_help = "Examples:\n  howdah version -o json")]
    Version,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// End when the agent ends, instead of starting it again
    #[arg(long)]
    pub no_agent_restart: bool,
    /// Form of log lines on stderr, before `log.type`; HOWDAH_LOG filters them
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    pub die_with_parent: bool,
}

/// `agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Form of log lines on stderr
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

/// `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Directory for the demo, kept at the end; when left out, a new one below $TMPDIR or /var/tmp,
    /// removed at the end
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// How many members
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub members: u8,
    /// How quick: default or fast
    #[arg(long, value_enum, default_value_t)]
    pub profile: ProfileArg,
    /// Time to live of the lease, seconds
    #[arg(long, value_parser = seconds)]
    pub ttl: Option<Duration>,
    /// Whether commits wait for standbys: off, on (for one that is picked) or quorum (for one of all)
    #[arg(long, value_enum, default_value_t)]
    pub synchronous_mode: SyncArg,
    /// Fail over in every way, measure, report, and end
    #[arg(long)]
    pub tour: bool,
    /// Leave the directory behind also without --dir
    #[arg(long)]
    pub keep: bool,
}

/// `--profile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProfileArg {
    /// ttl 5 s.
    #[default]
    Default,
    /// ttl 2 s.
    Fast,
}

/// `--synchronous-mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SyncArg {
    /// Commits wait for nobody.
    #[default]
    Off,
    /// For one standby that is picked.
    On,
    /// For one of all standbys.
    Quorum,
}

impl SyncArg {
    /// As the configuration has it.
    pub fn word(self) -> &'static str {
        match self {
            SyncArg::Off => "off",
            SyncArg::On => "on",
            SyncArg::Quorum => "quorum",
        }
    }

    /// How many of so many standbys commits may wait for.
    pub fn waited_for(self, standbys: usize) -> usize {
        match self {
            SyncArg::Off => 0,
            SyncArg::On => standbys.min(1),
            SyncArg::Quorum => standbys,
        }
    }
}

/// `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Transactions that a member had when the cluster went on without them; asks every member
    #[arg(long)]
    pub lost: bool,
}

/// `list` and `topology`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print again after each change
    #[arg(short = 'W', long)]
    pub watch: bool,
    /// Print again every so many seconds
    #[arg(short = 'w', value_name = "SECONDS", value_parser = seconds)]
    pub every: Option<Duration>,
    /// Reasons, tags, pending restarts too
    #[arg(short = 'e', long, visible_short_alias = 'v', visible_alias = "verbose")]
    pub extended: bool,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Which epoch; the present one when left out
    #[arg(default_value_t = 0, hide_default_value = true)]
    pub epoch: u64,
}

/// `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on as events happen
    #[arg(short, long)]
    pub follow: bool,
}

/// `switchover`.
#[derive(Debug, Args)]
pub struct SwitchoverArgs {
    /// The present leader, checked when given
    #[arg(long, visible_alias = "primary", default_value = "", hide_default_value = true)]
    pub leader: String,
    /// Who takes over; the best candidate when left out
    #[arg(long, default_value = "", hide_default_value = true)]
    pub candidate: String,
    /// Show every precondition and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long, visible_alias = "force")]
    pub yes: bool,
}

/// `failover`.
#[derive(Debug, Args)]
pub struct FailoverArgs {
    /// Who takes over; the best candidate when left out
    #[arg(long, default_value = "", hide_default_value = true)]
    pub candidate: String,
    /// Show every precondition and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Decide on the votes at hand, though acknowledged writes may be lost
    #[arg(long)]
    pub allow_data_loss: bool,
    /// In maintenance mode: the silent leader's PostgreSQL is stopped, I have looked
    #[arg(long)]
    pub holder_is_stopped: bool,
    /// Do not ask
    #[arg(short, long, visible_alias = "force")]
    pub yes: bool,
}

/// `reinit`.
#[derive(Debug, Args)]
pub struct ReinitArgs {
    /// Which member
    pub member: String,
    /// Do not ask
    #[arg(short, long, visible_alias = "force")]
    pub yes: bool,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration, and this machine against it
    #[command(
        after_long_help = "Examples:\n  howdah config check /etc/howdah/howdah.yml\n  howdah config check --static conf.d"
    )]
    Check(CheckArgs),
    /// Which layer sets a key, and to what
    #[command(after_long_help = "Examples:\n  howdah config explain postgresql.listen")]
    Explain {
        /// The key, as postgresql.listen; cluster-wide ones as ttl
        key: String,
    },
}

/// `config check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A file, or a directory of *.yml files; the one of --config when left out
    #[arg(value_name = "FILE|DIR")]
    pub file: Option<PathBuf>,
    /// Look at the configuration alone, not at this machine
    #[arg(long = "static", conflicts_with = "running")]
    pub only_static: bool,
    /// The member runs: its ports are its own
    #[arg(long)]
    pub running: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .strip_suffix("ms")
        .map(|ms| ms.parse::<f64>().map(|ms| ms / 1000.0))
        .unwrap_or_else(|| text.strip_suffix('s').unwrap_or(text).parse())
        .map_err(|_| format!("`{text}` is no number of seconds"))?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

/// Prints what clap has to say; help is success, anything else is wrong usage.
pub fn refuse(error: &clap::Error) -> ExitCode {
    let code = if error.use_stderr() { failure::USAGE } else { failure::DONE };
    // Nothing is left to be done when not even this can be printed.
    let _ = error.print();
    if names_a_cluster(error) {
        eprintln!(
            "\n  tip: unlike patronictl, howdah takes no name of a cluster: --endpoint or -c leads to it"
        );
    }
    ExitCode::from(code)
}

/// Whether there is a word too many, as where somebody types what patronictl asks for.
fn names_a_cluster(error: &clap::Error) -> bool {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return false };
    error.kind() == ErrorKind::UnknownArgument && !word.starts_with('-')
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seconds_may_have_a_unit() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        assert_eq!(seconds("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(seconds("2500ms"), Ok(Duration::from_millis(2500)));
        assert!(seconds("-1").is_err());
        assert!(seconds("soon").is_err());
    }

    #[test]
    fn options_are_taken_before_and_after_the_command() {
        let cli = Cli::try_parse_from(["howdah", "-o", "json", "list"]).unwrap();
        assert_eq!(cli.global.output, Format::Json);
        let cli = Cli::try_parse_from(["howdah", "list", "-o", "yaml", "-c", "/x.yml"]).unwrap();
        assert_eq!(cli.global.output, Format::Yaml);
        assert_eq!(cli.global.config, Some(PathBuf::from("/x.yml")));
    }
}
