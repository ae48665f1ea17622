//! `howdah agent`, hidden: what the guard starts. A normal asynchronous program.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use howdah_agent::config::{Config, DEFAULT_PATH, LogConfig, LogLevel};
use howdah_guard::client::GuardClient;
use tracing_subscriber::EnvFilter;

use crate::args::{AgentArgs, Global, LogFormat};
use crate::failure::Failure;

pub(super) fn run(global: &Global, args: &AgentArgs) -> Result<u8, Failure> {
    let (config, _) =
        Config::load(&config_file(global)).map_err(|error| Failure::Usage(error.to_string()))?;
    log_to_stderr(args.log_format, &config.log)?;
    let (guard, events) = GuardClient::from_env().map_err(|error| {
        Failure::Usage(format!("the agent is started by `howdah run`, not by hand ({error})"))
    })?;
    Ok(howdah_agent::run(config, guard, events) as u8)
}

/// The file that `run` and `agent` read.
pub(super) fn config_file(global: &Global) -> PathBuf {
    global.config.clone().unwrap_or_else(|| Path::new(DEFAULT_PATH).to_owned())
}

/// The command line goes before the configuration, HOWDAH_LOG before its level.
fn log_to_stderr(format: Option<LogFormat>, config: &LogConfig) -> Result<(), Failure> {
    let filter = match std::env::var("HOWDAH_LOG") {
        Ok(text) => EnvFilter::try_new(&text).map_err(|error| {
            Failure::Usage(format!("HOWDAH_LOG is `{text}`: {error}; write a level, as info"))
        })?,
        Err(_) => {
            let level = config.level.unwrap_or(LogLevel::Info);
            // What lies below at these levels is about frames and bytes; HOWDAH_LOG can ask for it.
            let below = if matches!(level, LogLevel::Debug | LogLevel::Trace) {
                LogLevel::Info
            } else {
                level
            };
            // Openraft calls it an error that its parts do not reach each other while it ends. What ends
            // it is told by howdah.
            EnvFilter::new(format!("{},howdah={},openraft=off", below.word(), level.word()))
        }
    };
    let written = if config.json == Some(true) { LogFormat::Json } else { LogFormat::Text };
    let format = format.unwrap_or(written);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
