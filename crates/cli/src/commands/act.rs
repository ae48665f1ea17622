//! What `switchover`, `failover` and `reinit` have in common: to ask before, to show each step, and
//! to say at the end whether it was done.

use std::io::{IsTerminal, Write};

use howdah_rpc::control::{ClusterStatus, Progress};
use tonic::Streaming;

use crate::args::Format;
use crate::client::Reached;
use crate::failure::{DONE, Failure, REFUSED};
use crate::output::{self, progress, status};

/// How a person confirms.
pub(super) enum Confirm<'a> {
    /// y or yes.
    Yes,
    /// The name of the cluster, typed: something may be lost.
    Type(&'a str),
}

/// Asks on the terminal. Without one nobody can be asked, so `--yes` is required.
pub(super) fn confirm(question: &str, how: &Confirm<'_>, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{question} Nobody can be asked, stdin is no terminal; write --yes to confirm"
        )));
    }
    let hint = match how {
        Confirm::Yes => "[y/N]".to_owned(),
        Confirm::Type(name) => format!("Type the name of the cluster ({name}) to confirm"),
    };
    let mut stderr = std::io::stderr().lock();
    let asked = write!(stderr, "{question} {hint}: ").and_then(|()| stderr.flush());
    asked.map_err(Failure::io("the question cannot be asked"))?;
    drop(stderr);
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Failure::io("the answer cannot be read"))?;
    if confirms(how, answer.trim()) {
        Ok(())
    } else {
        Err(Failure::Refused("not confirmed; nothing was changed".to_owned()))
    }
}

fn confirms(how: &Confirm<'_>, answer: &str) -> bool {
    match how {
        Confirm::Yes => matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"),
        Confirm::Type(name) => answer == *name,
    }
}

/// The table before and after, for people only.
pub(super) fn show_cluster(format: Format, reached: &Reached) -> Result<(), Failure> {
    match format {
        Format::Table => output::print(&status::list(&reached.status, false)),
        Format::Json | Format::Yaml => Ok(()),
    }
}

/// Follows the steps to the end. Not done, or broken off: exit code 1.
/// Names on a command line are those of members; asked before a person is.
pub(super) fn members_exist(status: &ClusterStatus, names: &[String]) -> Result<(), Failure> {
    let unknown = |name: &&String| !status.members.iter().any(|member| member.name == **name);
    names.iter().find(unknown).map_or(Ok(()), |name| {
        Err(Failure::Refused(format!("there is no member {name}; see `howdah list`")))
    })
}

pub(super) async fn follow(
    format: Format,
    dry_run: bool,
    mut stream: Streaming<Progress>,
) -> Result<u8, Failure> {
    let mut view = progress::ActionView::new(dry_run);
    let mut finished = false;
    while let Some(step) = stream.message().await? {
        view.add(&step);
        finished |= step.finished;
        if format == Format::Table {
            if !step.text.is_empty() {
                output::print(&format!("{}\n", step.text))?;
            }
            if !step.checks.is_empty() {
                output::print(&progress::checks(&step.checks))?;
            }
        }
    }
    output::print(&output::render(format, &view, String::new)?)?;
    if !finished {
        return Err(Failure::Error(
            "the member went away before the action ended; look at `howdah list` for what became \
             of it"
                .to_owned(),
        ));
    }
    Ok(if view.done() { DONE } else { REFUSED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_name_confirms_a_loss() {
        assert!(confirms(&Confirm::Yes, "Y") && confirms(&Confirm::Yes, "yes"));
        assert!(!confirms(&Confirm::Yes, "") && !confirms(&Confirm::Yes, "demo"));
        assert!(confirms(&Confirm::Type("demo"), "demo"));
        assert!(!confirms(&Confirm::Type("demo"), "y"));
    }
}
