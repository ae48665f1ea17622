//! `howdah reload`: members read their configuration again.

use std::fmt::Write as _;

use howdah_rpc::control::ReloadRequest;
use serde::Serialize;

use super::act::members_exist;
use crate::args::{Global, ReloadArgs};
use crate::client;
use crate::failure::{DONE, Failure, REFUSED};
use crate::output;

/// What came of it at one member, for programs.
#[derive(Debug, Default, Serialize)]
pub struct ReloadView {
    /// Which.
    pub member: String,
    /// It was read.
    pub done: bool,
    /// Why it was not.
    pub error: Option<String>,
    /// Keys in force.
    pub applied: Vec<String>,
    /// Parameters that wait for `howdah restart`.
    pub needs_restart: Vec<String>,
    /// Keys that wait for a restart of howdah.
    pub needs_howdah_restart: Vec<String>,
}

pub(super) async fn run(global: &Global, args: &ReloadArgs) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    let known = &reached.status.members;
    members_exist(&reached.status, &args.members)?;
    let names: Vec<String> = known
        .iter()
        .filter(|member| args.members.is_empty() || args.members.contains(&member.name))
        .filter(|member| args.role.means(&member.role))
        .map(|member| member.name.clone())
        .collect();
    let mut views = Vec::new();
    for member in names {
        let request = ReloadRequest { member: member.clone() };
        views.push(match reached.client.reload(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                ReloadView {
                    member,
                    done: true,
                    error: None,
                    applied: answer.applied,
                    needs_restart: answer.needs_restart,
                    needs_howdah_restart: answer.needs_howdah_restart,
                }
            }
            Err(why) => {
                let error = Some(why.message().to_owned());
                ReloadView { member, error, ..ReloadView::default() }
            }
        });
    }
    output::print(&output::render(global.output, &views, || for_people(&views))?)?;
    Ok(if views.iter().all(|view| view.done) { DONE } else { REFUSED })
}

fn for_people(views: &[ReloadView]) -> String {
    let mut text = String::new();
    for view in views {
        let name = &view.member;
        if let Some(why) = &view.error {
            let _ = writeln!(text, "Failed: reload of {name}: {why}");
            continue;
        }
        let lists = [
            ("in force", &view.applied),
            ("waits for `howdah restart`", &view.needs_restart),
            ("waits for a restart of howdah", &view.needs_howdah_restart),
        ];
        let mut said = false;
        for (what, keys) in lists.iter().filter(|(_, keys)| !keys.is_empty()) {
            let _ = writeln!(text, "{name}: {what}: {}", keys.join(", "));
            said = true;
        }
        if !said {
            let _ = writeln!(text, "No changes to apply on member {name}");
        }
    }
    text
}
