//! The locks: who is let in, by certificates that name a cluster, a role and a name.
//!
//! Place: below the wire, the agent and the command line. [`identity`] is what a certificate says of its holder, pure;
//! [`authority`] makes certificates; [`keyring`] is what a process shows and whom it believes, and is read anew
//! while it runs; [`renewal`] is a member's that has the CA's key; [`files`] keeps keys closed.
//! Survives a restart: files only. State in memory: the keyring that was read last.
//! Invariants: a peer is believed by the chain to the cluster's CA *and* by the identity in the certificate itself; a
//! certificate of another cluster, or without an identity, opens nothing even if the same CA signed it; no
//! private key is written where others may read it, and one that others may read is not used.
//! Killed half way: files are put in place whole, a certificate and its key as a pair ([`pair`]).

pub mod authority;
pub mod files;
pub mod identity;
pub mod keyring;
pub mod look;
mod pair;
pub mod renewal;
pub mod token;
mod verify;
mod visitor;

pub use authority::{Authority, AuthorityError, Wanted};
pub use identity::{Identity, Role};
pub use keyring::{Keyring, KeyringError, Paths};
pub use renewal::Renewal;
pub use verify::told;
pub use visitor::Visitor;
