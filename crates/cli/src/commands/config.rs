//! `howdah config check`: what is wrong or odd in a configuration, and on this machine.
//! `howdah config explain`: which layer sets a key.

pub mod explain;

use howdah_agent::config::{Config, ConfigError, Finding, Place, Warning};
use serde::Serialize;

use super::agent::config_file;
use crate::args::{CheckArgs, Global};
use crate::failure::{DONE, Failure, USAGE};
use crate::output;

pub(super) use explain::explain;

/// The answer, as programs read it. Fields are added, never renamed.
#[derive(Serialize)]
pub struct Verdict {
    file: String,
    fine: bool,
    /// `static` or `machine`.
    checked: &'static str,
    errors: Vec<Fault>,
    warnings: Vec<Fault>,
}

/// One finding; what does not apply is null.
#[derive(Serialize)]
pub struct Fault {
    file: Option<String>,
    line: Option<u64>,
    column: Option<u64>,
    variable: Option<String>,
    key: Option<String>,
    what: String,
    remedy: String,
    #[serde(skip)]
    text: String,
}

impl Verdict {
    /// For docs/cli.md.
    pub(crate) fn example() -> Self {
        let fault = Fault {
            file: Some("/etc/howdah/howdah.yml".to_owned()),
            line: Some(2),
            column: Some(1),
            variable: None,
            key: Some("nmae".to_owned()),
            what: "is no key".to_owned(),
            remedy: "did you mean `name`?".to_owned(),
            text: String::new(),
        };
        Verdict {
            file: "/etc/howdah/howdah.yml".to_owned(),
            fine: false,
            checked: "static",
            errors: vec![fault],
            warnings: Vec::new(),
        }
    }
}

impl Fault {
    fn new(finding: &Finding) -> Self {
        let (file, line, column, variable) = placed(&finding.place);
        Fault {
            file: match &finding.place {
                Place::Whole => Some(finding.file.display().to_string()),
                _ => file,
            },
            line,
            column,
            variable,
            key: Some(finding.key.clone()).filter(|key| !key.is_empty()),
            what: finding.what.clone(),
            remedy: finding.remedy.clone(),
            text: finding.to_string(),
        }
    }

    /// An error about a whole file; its text ends with the remedy.
    fn of(error: &ConfigError) -> Self {
        let text = error.to_string();
        let (file, line, column) = match error {
            ConfigError::Syntax { file, line, column, .. } => (file, Some(*line), Some(*column)),
            ConfigError::Read { file, .. }
            | ConfigError::Empty { file }
            | ConfigError::Large { file, .. }
            | ConfigError::Invalid { file, .. } => (file, None, None),
        };
        let (what, remedy) = text.split_once("; ").unwrap_or((&text, ""));
        Fault {
            file: Some(file.display().to_string()),
            line,
            column,
            variable: None,
            key: None,
            what: what.to_owned(),
            remedy: remedy.to_owned(),
            text,
        }
    }
}

/// File, line, column, variable.
fn placed(place: &Place) -> (Option<String>, Option<u64>, Option<u64>, Option<String>) {
    match place {
        Place::Whole => (None, None, None, None),
        Place::Line { file, line, column } => {
            (Some(file.display().to_string()), Some(*line), Some(*column), None)
        }
        Place::Env(name) => (None, None, None, Some(name.clone())),
    }
}

pub(super) fn check(global: &Global, args: &CheckArgs) -> Result<u8, Failure> {
    let file = args.file.clone().unwrap_or_else(|| config_file(global));
    let faults = |findings: &[Finding]| findings.iter().map(Fault::new).collect();
    let (errors, warnings): (Vec<Fault>, Vec<Fault>) = match Config::load(&file) {
        Ok((config, mut warnings)) => {
            let errors = if args.only_static {
                Vec::new()
            } else {
                machine(&config, args.running, &mut warnings)
            };
            (faults(&errors), faults(&warnings))
        }
        Err(ConfigError::Invalid { findings, warnings, .. }) => {
            (faults(&findings), faults(&warnings))
        }
        Err(error) => (vec![Fault::of(&error)], Vec::new()),
    };
    let verdict = Verdict {
        file: file.display().to_string(),
        fine: errors.is_empty(),
        checked: if args.only_static { "static" } else { "machine" },
        errors,
        warnings,
    };
    output::print(&output::render(global.output, &verdict, || for_people(&verdict))?)?;
    Ok(if verdict.fine { DONE } else { USAGE })
}

fn machine(config: &Config, running: bool, warnings: &mut Vec<Warning>) -> Vec<Finding> {
    let mut errors = config.check();
    let (wrong, odd) = config.check_network(running);
    errors.extend(wrong);
    warnings.extend(odd);
    errors
}

fn for_people(verdict: &Verdict) -> String {
    let mut text = String::new();
    for error in &verdict.errors {
        text += &format!("error: {}\n", error.text);
    }
    for warning in &verdict.warnings {
        text += &format!("warning: {}\n", warning.text);
    }
    if verdict.fine {
        text += &format!("{}: fine\n", verdict.file);
    }
    text
}
