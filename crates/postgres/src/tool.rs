//! Runs the helper programs of PostgreSQL as child processes.
//!
//! Used by [`crate::control`], [`crate::initdb`], [`crate::rewind`], [`crate::clone`]. A child ends
//! with the future that waits for it, and the caller sets the time limit by dropping that future.
//! The environment is cleaned of libpq's variables, so that what a person exported for psql cannot
//! send a clone to another server; messages come in English, for they are parsed.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::install::Install;

/// Lines of a child's error output that its error repeats.
const TAIL_LINES: usize = 12;
/// A helper that writes more than this on its standard output is cut off there.
const MAX_STDOUT: u64 = 64 << 20;

/// A helper program could not be run, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("cannot run {}: {source}; is bin_dir right?", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Its output could not be read.
    #[error("lost the output of {}: {source}", program.display())]
    Output {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("{} failed ({status}): {message}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// Exit code or signal.
        status: ExitStatus,
        /// The last lines that it wrote.
        message: String,
    },
}

/// What a helper program left when it ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// The last lines of the error output.
    pub message: String,
}

/// One call of a helper program.
pub struct Tool {
    program: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(&'static str, OsString)>,
}

impl Tool {
    /// A call of the program `name` of this installation.
    pub fn new(install: &Install, name: &str) -> Self {
        Self::at(install.bin_dir.join(name))
    }

    /// A call of the program at this path.
    pub fn at(program: PathBuf) -> Self {
        Self { program, args: Vec::new(), envs: vec![("LC_ALL", "C".into())] }
    }

    /// Adds an argument. Never a secret: arguments are readable by every process.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds `--name=path`.
    pub fn path_arg(self, option: &str, path: &Path) -> Self {
        let mut arg = OsString::from(option);
        arg.push("=");
        arg.push(path);
        self.arg(arg)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.envs.retain(|(n, _)| *n != name);
        self.envs.push((name, value.as_ref().to_owned()));
        self
    }

    /// Leaves the locale to the environment instead of setting it to C.
    pub fn own_locale(mut self) -> Self {
        self.envs.retain(|(n, _)| *n != "LC_ALL");
        self.env("LC_MESSAGES", "C")
    }

    /// Runs it to its end, gives each line of its error output to `line`, and fails if it failed.
    pub async fn run(self, line: impl FnMut(&str)) -> Result<Finished, ToolError> {
        let program = self.program.clone();
        let finished = self.run_unchecked(line).await?;
        if finished.status.success() {
            return Ok(finished);
        }
        Err(ToolError::Failed { program, status: finished.status, message: finished.message })
    }

    /// Runs it to its end; that it failed is in the status. Errors: it could not be run at all.
    pub async fn run_unchecked(self, mut line: impl FnMut(&str)) -> Result<Finished, ToolError> {
        let Self { program, args, envs } = self;
        let mut command = Command::new(&program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|n| n.starts_with("PG")) {
                command.env_remove(&name);
            }
        }
        command.args(&args).envs(envs).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|source| ToolError::Spawn { program: program.clone(), source })?;
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        let stderr = child.stderr.take().expect("stderr was asked to be a pipe");
        let mut tail = Vec::new();
        let mut on_line = |text: &str| {
            line(text);
            if tail.len() == TAIL_LINES {
                tail.remove(0);
            }
            tail.push(text.to_owned());
        };
        let both = async { tokio::try_join!(read_all(stdout), read_lines(stderr, &mut on_line)) };
        let output = |source| ToolError::Output { program: program.clone(), source };
        let (stdout, ()) = both.await.map_err(output)?;
        let status = child.wait().await.map_err(output)?;
        Ok(Finished { status, stdout, message: tail.join(" | ") })
    }
}

async fn read_all(mut from: impl AsyncRead + Unpin) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    (&mut from).take(MAX_STDOUT).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Progress is written over itself with carriage returns, so these end a line too.
async fn read_lines(
    mut from: impl AsyncRead + Unpin,
    on_line: &mut impl FnMut(&str),
) -> std::io::Result<()> {
    let mut buffer = [0_u8; 4096];
    let mut line = Vec::new();
    let mut flush = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        line.clear();
        if !text.is_empty() {
            on_line(&text);
        }
    };
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            flush(&mut line);
            return Ok(());
        }
        for &byte in &buffer[..count] {
            // The cap keeps a child that never ends its line from filling our memory.
            if byte == b'\n' || byte == b'\r' || line.len() >= 64 * 1024 {
                flush(&mut line);
            } else {
                line.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_status_and_tail() {
        let shell = |script: &str| Tool::at("/bin/sh".into()).arg("-c").arg(script);
        let mut lines = Vec::new();
        let done = shell("echo out; printf 'a\\rb\\nc' >&2; exit 3");
        let error = done.run(|l| lines.push(l.to_owned())).await.unwrap_err();
        assert_eq!(lines, ["a", "b", "c"]);
        assert!(error.to_string().contains("a | b | c"), "{error}");
        let done = shell("echo $LC_ALL$PGX").env("PGX", "x").run(|_| ()).await.unwrap();
        assert_eq!(done.stdout, "Cx\n");
        let none = Tool::at("/nonexistent/howdah".into()).run(|_| ()).await.unwrap_err();
        assert!(none.to_string().contains("bin_dir"), "{none}");
    }
}
