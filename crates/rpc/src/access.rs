//! Who may connect, and who it is that has.
//!
//! Place: under every channel and every server of this crate's services. State: the keyring, which may be read anew
//! at any time; a connection keeps what it began with.

use std::net::SocketAddr;

use howdah_core::MemberName;
use howdah_locks::{Identity, Keyring, Role};
use tonic::Status;

/// How members and people reach each other.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Anybody, unseen: `insecure: true`, and tests.
    #[default]
    Open,
    /// By certificates, both ways.
    Locked(Keyring),
}

/// Who is at the other end of a connection. In the extensions of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who, by the certificate; none: the door is open.
    pub who: Option<Identity>,
    /// From where; none where the connection ended before it could be asked.
    pub from: Option<SocketAddr>,
}

impl Caller {
    /// Whoever sent this; a server without such connections is open.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let open = Self { who: None, from: None };
        request.extensions().get::<Self>().cloned().unwrap_or(open)
    }

    /// Whether it may do what that role may.
    pub fn may(&self, role: Role) -> bool {
        self.who.as_ref().is_none_or(|who| who.role >= role)
    }

    /// That it is this member and not another one, which could otherwise speak for it.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, with who it is.
    pub fn speaks_for(&self, member: &MemberName) -> Result<(), Status> {
        match &self.who {
            Some(who) if who.role != Role::Member || who.name != member.0 => {
                Err(Status::permission_denied(format!("{who} cannot speak for member {member}")))
            }
            _ => Ok(()),
        }
    }

    /// For people: who, and from where.
    pub fn told(&self) -> String {
        let who = self.who.as_ref().map(ToString::to_string);
        let who = who.unwrap_or_else(|| "somebody".to_owned());
        match self.from {
            Some(from) => format!("{who} at {from}"),
            None => who,
        }
    }
}
