//! `howdah doctor`: what is wrong in the cluster, and on this machine where its configuration is here.

use std::path::Path;

use howdah_agent::config::{Config, ConfigError, DEFAULT_PATH};
use howdah_rpc::control::{ClusterStatus, LogRequest, LogResponse};
use serde::Serialize;

use crate::args::Global;
use crate::client::{self, Client, Endpoints};
use crate::failure::{DONE, Failure, REFUSED};
use crate::output;
use crate::output::doctor::{self, Finding, Severity};

/// `doctor` for programs.
#[derive(Debug, Serialize)]
pub struct DoctorView {
    /// Nothing is wrong.
    pub healthy: bool,
    /// What is.
    pub findings: Vec<Finding>,
}

pub(super) async fn run(global: &Global) -> Result<u8, Failure> {
    let mut findings = here(global);
    match client::endpoints(global) {
        Ok(endpoints) => match client::reach(&endpoints).await {
            Ok(reached) => {
                findings.extend(doctor::findings(&reached.status));
                findings.extend(doctor::disagreement(&logs(&reached.status, &endpoints).await));
            }
            Err(why) => findings.push(Finding {
                severity: Severity::Error,
                member: String::new(),
                what: why.to_string(),
                remedy: "start `howdah run` (systemctl status howdah), or name a member with \
                         --endpoint"
                    .to_owned(),
            }),
        },
        // Told with its place by `here`.
        Err(_) if !findings.is_empty() => {}
        Err(why) => return Err(why),
    }
    findings.sort_by_key(|finding| finding.severity);
    let view = DoctorView { healthy: findings.is_empty(), findings };
    output::print(&output::render(global.output, &view, || doctor::for_people(&view.findings))?)?;
    Ok(if view.healthy { DONE } else { REFUSED })
}

/// What each member's copy of the log says; who is silent is found otherwise.
async fn logs(status: &ClusterStatus, endpoints: &Endpoints) -> Vec<LogResponse> {
    let mut logs = Vec::new();
    for member in &status.members {
        let ask = async |client: &mut Client| client.log(LogRequest {}).await;
        logs.extend(client::ask_one(&member.control_address, endpoints, ask).await);
    }
    logs
}

/// The configuration file that is here, if one is.
fn here(global: &Global) -> Vec<Finding> {
    let file = match (&global.config, &global.endpoint) {
        (Some(file), _) => file.as_path(),
        (None, Some(_)) => return Vec::new(),
        (None, None) if Path::new(DEFAULT_PATH).exists() => Path::new(DEFAULT_PATH),
        (None, None) => return Vec::new(),
    };
    let finding = |severity, what: String| Finding {
        severity,
        member: String::new(),
        what,
        remedy: format!("edit {}, then `howdah config check`", file.display()),
    };
    match Config::load(file) {
        Ok((_, warnings)) => {
            warnings.iter().map(|warning| finding(Severity::Warning, warning.to_string())).collect()
        }
        Err(ConfigError::Invalid { findings, .. }) => {
            findings.iter().map(|found| finding(Severity::Error, found.to_string())).collect()
        }
        Err(error) => vec![finding(Severity::Error, error.to_string())],
    }
}
