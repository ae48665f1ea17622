//! `howdah config check FILE`: what is wrong or odd in a file, and on this machine.

use std::path::Path;

use howdah_agent::config::{Config, ConfigError, Finding};
use serde::Serialize;

use crate::args::Global;
use crate::failure::{DONE, Failure, USAGE};
use crate::output;

#[derive(Serialize)]
struct Verdict {
    file: String,
    fine: bool,
    errors: Vec<String>,
    warnings: Vec<String>,
}

pub(super) fn check(global: &Global, file: &Path) -> Result<u8, Failure> {
    let texts = |findings: &[Finding]| findings.iter().map(Finding::to_string).collect();
    let (errors, warnings): (Vec<String>, Vec<String>) = match Config::load(file) {
        Ok((config, warnings)) => (texts(&config.check()), texts(&warnings)),
        Err(ConfigError::Invalid { findings, warnings, .. }) => {
            (texts(&findings), texts(&warnings))
        }
        Err(error) => (vec![error.to_string()], Vec::new()),
    };
    let fine = errors.is_empty();
    let verdict = Verdict { file: file.display().to_string(), fine, errors, warnings };
    output::print(&output::render(global.output, &verdict, || for_people(&verdict))?)?;
    Ok(if fine { DONE } else { USAGE })
}

fn for_people(verdict: &Verdict) -> String {
    let mut text = String::new();
    for error in &verdict.errors {
        text += &format!("error: {error}\n");
    }
    for warning in &verdict.warnings {
        text += &format!("warning: {warning}\n");
    }
    if verdict.fine {
        text += &format!("{}: fine\n", verdict.file);
    }
    text
}
