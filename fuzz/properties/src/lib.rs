//! What must hold of everything that reads bytes from outside: one function for each, and its name.
//!
//! Place: the tests beside this crate run each function on its corpus, on inputs that once broke it, and on
//! random changes of them; `fuzz/fuzz_targets` gives each to libFuzzer, which `tools/fuzz` runs.
//! Contract: a function takes any bytes, panics if something that must hold does not, and answers whether
//! the input was taken, so that a test can see that a corpus has both kinds. It leaves nothing behind and
//! depends on nothing but its input.

mod apply;
mod certificate;
mod conf_text;
mod config;
mod control_data;
mod data_files;
mod decide;
mod draw;
mod environment;
mod guard_wire;
mod history;
mod netlink;
mod picture;
mod procfs;
mod proxy_header;
mod raft_message;
mod raft_store;
mod rest;
mod scene;
mod server_words;
mod session;
mod startup_packet;
mod tool_output;
mod wal_pages;

pub use apply::apply;
pub use certificate::certificate;
pub use conf_text::conf_text;
pub use config::config;
pub use control_data::control_data;
pub use data_files::data_files;
pub use decide::decide;
pub use environment::environment;
pub use guard_wire::guard_wire;
pub use history::history;
pub use netlink::netlink;
pub use picture::picture;
pub use procfs::procfs;
pub use proxy_header::proxy_header;
pub use raft_message::raft_message;
pub use raft_store::raft_store;
pub use rest::rest;
pub use server_words::server_words;
pub use session::session;
pub use startup_packet::startup_packet;
pub use tool_output::tool_output;
pub use wal_pages::wal_pages;

/// One target: its name, and its property.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub const TARGETS: [Target; 22] = [
    ("apply", apply),
    ("certificate", certificate),
    ("conf_text", conf_text),
    ("config", config),
    ("control_data", control_data),
    ("data_files", data_files),
    ("decide", decide),
    ("environment", environment),
    ("guard_wire", guard_wire),
    ("history", history),
    ("netlink", netlink),
    ("picture", picture),
    ("procfs", procfs),
    ("proxy_header", proxy_header),
    ("raft_message", raft_message),
    ("raft_store", raft_store),
    ("rest", rest),
    ("server_words", server_words),
    ("session", session),
    ("startup_packet", startup_packet),
    ("tool_output", tool_output),
    ("wal_pages", wal_pages),
];

/// Stands between the parts of an input that has several.
pub const PARTS: &[u8] = b"\n=====\n";

/// The parts of an input, at most `most`; the last one takes the rest.
fn parts(bytes: &[u8], most: usize) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (Vec::new(), bytes);
    while parts.len() + 1 < most {
        let Some(at) = rest.windows(PARTS.len()).position(|window| window == PARTS) else { break };
        parts.push(&rest[..at]);
        rest = &rest[at + PARTS.len()..];
    }
    parts.push(rest);
    parts
}

/// Text as files are read that may hold anything.
fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
