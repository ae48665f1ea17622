//! `howdah version`: this program's, and what the members run where a cluster answers.

use std::fmt::Write as _;

use serde::Serialize;

use crate::args::Global;
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output;

/// `version` for programs.
#[derive(Debug, Serialize)]
pub struct VersionView {
    /// This program's.
    pub howdah: &'static str,
    /// What it speaks.
    pub protocols: [&'static str; 3],
    /// What the members run; absent where no cluster answers.
    pub members: Option<Vec<MemberVersion>>,
}

/// One member's.
#[derive(Debug, Serialize)]
pub struct MemberVersion {
    /// Which.
    pub name: String,
    /// PostgreSQL's, as 15.18; absent while it is not running.
    pub postgresql: Option<String>,
}

/// `150018` as 15.18.
fn shown(number: u32) -> Option<String> {
    (number > 0).then(|| format!("{}.{}", number / 10_000, number % 10_000))
}

pub(super) async fn run(global: &Global) -> Result<u8, Failure> {
    let members = match client::endpoints(global) {
        Ok(endpoints) => client::reach(&endpoints).await.ok().map(|reached| {
            let members = reached.status.members.into_iter();
            members
                .map(|m| MemberVersion { name: m.name, postgresql: shown(m.server_version) })
                .collect()
        }),
        Err(_) => None,
    };
    let view = VersionView {
        howdah: env!("CARGO_PKG_VERSION"),
        protocols: ["howdah.control.v1", "howdah.peer.v1", "howdah.raft.v1"],
        members,
    };
    output::print(&output::render(global.output, &view, || for_people(&view))?)?;
    Ok(DONE)
}

fn for_people(view: &VersionView) -> String {
    let mut text = format!("howdah {}\nprotocols {}\n", view.howdah, view.protocols.join(", "));
    for member in view.members.iter().flatten() {
        let version = member.postgresql.as_deref().unwrap_or("not running");
        let _ = writeln!(text, "{}: PostgreSQL {version}", member.name);
    }
    text
}
