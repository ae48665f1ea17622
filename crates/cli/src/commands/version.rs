//! `howdah version`.

use serde::Serialize;

use crate::args::Global;
use crate::failure::{DONE, Failure};
use crate::output;

#[derive(Serialize)]
struct Version {
    howdah: &'static str,
    protocols: [&'static str; 3],
}

pub(super) fn run(global: &Global) -> Result<u8, Failure> {
    let version = Version {
        howdah: env!("CARGO_PKG_VERSION"),
        protocols: ["howdah.control.v1", "howdah.peer.v1", "howdah.raft.v1"],
    };
    let text = output::render(global.output, &version, || {
        format!("howdah {}\nprotocols {}\n", version.howdah, version.protocols.join(", "))
    })?;
    output::print(&text)?;
    Ok(DONE)
}
