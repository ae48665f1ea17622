//! The wire: generated gRPC types, channels to other members, connections that come, and who may call what.
//!
//! Place: used by consensus (`raft`), agent (`peer`, `control`), the CLI and tests. No state.

pub mod access;
pub mod channel;
mod crowd;
pub mod doorkeeper;
pub mod incoming;
pub mod needs;
pub mod refusal;
pub mod teller;

/// Messages and services of `howdah.raft.v1`.
pub mod raft {
    #![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::too_many_lines)]
    tonic::include_proto!("howdah.raft.v1");
}

/// Messages and services of `howdah.peer.v1`.
pub mod peer {
    #![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::too_many_lines)]
    tonic::include_proto!("howdah.peer.v1");
}

/// Messages and services of `howdah.control.v1`.
pub mod control {
    #![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::too_many_lines)]
    tonic::include_proto!("howdah.control.v1");
}

/// Encoded descriptors of all services, for reflection and for the wire-compatibility test.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
