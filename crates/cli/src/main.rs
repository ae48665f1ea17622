//! The binary `howdah`. Everything is in the library, so that tests reach it.

use std::process::ExitCode;

use clap::Parser;

/// No runtime and no thread exists here: `run` forks, and must be alone in its process to do so.
fn main() -> ExitCode {
    match howdah_cli::args::Cli::try_parse() {
        Ok(cli) => howdah_cli::commands::dispatch(cli),
        Err(error) => howdah_cli::args::refuse(&error),
    }
}
