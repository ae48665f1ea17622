//! One file per command. [`dispatch`] chooses, prints a failure, and makes the exit code.

mod act;
mod agent;
pub mod config;
pub(crate) mod doctor;
pub(crate) mod dsn;
mod events;
mod explain;
mod failover;
mod fence;
mod front;
mod history;
pub(crate) mod init;
mod list;
mod pause;
pub(crate) mod pki;
mod reinit;
pub(crate) mod reload;
mod restart;
mod rights;
mod run;
mod shell;
mod show_config;
mod switchover;
pub(crate) mod version;

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

use crate::args::{
    Cli, Command, ConfigCommand, HaproxyCommand, PgbouncerCommand, PkiCommand, TokenCommand,
};
use crate::demo;
use crate::failure::Failure;

/// Runs one command to its end.
pub fn dispatch(cli: Cli) -> ExitCode {
    let global = cli.global;
    let result = match cli.command {
        Command::Run(args) => run::run(&global, &args),
        Command::Agent(args) => agent::run(&global, &args),
        Command::Init(args) => init::run(&global, &args),
        Command::Demo(args) => wait(demo::run(&args, global.output)),
        Command::List(args) => wait(list::run(&global, &args, false)),
        Command::Topology(args) => wait(list::run(&global, &args, true)),
        Command::History(args) => wait(history::run(&global, &args)),
        Command::Explain(args) => wait(explain::run(&global, &args)),
        Command::Events(args) => wait(events::run(&global, &args)),
        Command::Switchover(args) => wait(switchover::run(&global, &args)),
        Command::Failover(args) => wait(failover::run(&global, &args)),
        Command::Reinit(args) => wait(reinit::run(&global, &args)),
        Command::Config(ConfigCommand::Check(args)) => config::check(&global, &args),
        Command::Config(ConfigCommand::Explain { key }) => wait(config::explain(&global, &key)),
        Command::Restart(args) => wait(restart::run(&global, &args)),
        Command::Reload(args) => wait(reload::run(&global, &args)),
        Command::Pause(_) => wait(pause::run(&global, true)),
        Command::Resume(_) => wait(pause::run(&global, false)),
        Command::Fence(args) => wait(fence::run(&global, &args, true)),
        Command::Unfence(args) => wait(fence::run(&global, &args, false)),
        Command::ShowConfig => wait(show_config::run(&global)),
        Command::Dsn(args) => wait(dsn::run(&global, &args)),
        Command::Psql(args) => wait(dsn::psql(&global, &args)),
        Command::Haproxy(HaproxyCommand::Config(args)) => wait(front::haproxy(&global, &args)),
        Command::Pgbouncer(PgbouncerCommand::Config(args)) => front::pgbouncer(&global, &args),
        Command::Pki(PkiCommand::Init(args)) => pki::init(&global, &args),
        Command::Pki(PkiCommand::Issue(args)) => pki::issue(&global, &args),
        Command::Pki(PkiCommand::Renew(args)) => pki::renew(&global, &args),
        Command::Pki(PkiCommand::Status(args)) => pki::status(&global, &args),
        Command::Token(TokenCommand::Create(args)) => wait(rights::create(&global, &args)),
        Command::Token(TokenCommand::List) => wait(rights::list(&global)),
        Command::Token(TokenCommand::Revoke(args)) => wait(rights::revoke(&global, &args.name)),
        Command::Audit => wait(rights::audit(&global)),
        Command::RotatePasswords => wait(rights::rotate(&global)),
        Command::Doctor => wait(doctor::run(&global)),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
        Command::Version => wait(version::run(&global)),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !matches!(failure, Failure::BrokenPipe) {
                // stderr may be gone like stdout; the exit code still tells.
                let _ = writeln!(std::io::stderr(), "howdah: {failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs a future on this thread. One thread is enough for a client, and the demo's children must be
/// started by the thread that lives longest, because their death signal is bound to it.
fn wait(future: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("the runtime cannot be started"))?;
    runtime.block_on(future)
}
