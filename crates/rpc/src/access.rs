//! Who may connect, and who it is that has.
//!
//! Place: under every channel and every server of this crate's services. State: the keyring, which may be read anew
//! at any time; a connection keeps what it began with.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use howdah_core::MemberName;
use howdah_locks::{Identity, Keyring, Role, Visitor};
use tonic::Status;

/// How members and people reach each other.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Anybody, unseen: `insecure: true`, and tests.
    #[default]
    Open,
    /// By certificates, both ways.
    Locked(Keyring),
    /// As somebody who has no certificate, and knows the CA of those that he asks: for whoever has a token.
    Visitor(Visitor),
}

/// How somebody has shown who he is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By a certificate of this cluster.
    Certificate,
    /// By a token that the log knows.
    Token,
    /// By the name and password in `restapi.authentication`.
    Password,
    /// By being root, or howdah's own user, on this machine.
    Socket,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Token => "token",
            Self::Password => "password",
            Self::Socket => "socket",
        })
    }
}

/// Somebody who has shown who he is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// What he may do.
    pub role: Role,
    /// His name, or his certificate's or token's.
    pub name: String,
    /// How he has shown it.
    pub by: By,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever it is: the door is open.
    Anybody,
    /// Somebody who has shown nothing, or nothing that counts.
    Nobody,
    /// This one.
    Known(Person),
}

/// Who is at the other end of a connection, and where. In the extensions of every request that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub who: Who,
    /// From where; none: from this machine, by a socket.
    pub from: Option<SocketAddr>,
}

/// Whether a connection has shown a token that is good; one that has not ends after a while.
#[derive(Clone, Debug, Default)]
pub struct Proof(Arc<AtomicBool>);

impl Proof {
    /// It has.
    pub fn give(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    pub fn given(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the server knows of a connection. In the extensions of every request that comes by it.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Who is at the other end.
    pub caller: Caller,
    /// What he has shown since.
    pub proof: Proof,
}

/// Whoever knows tokens.
pub trait Tokens: Send + Sync + 'static {
    /// Whether there are any: where there are none, nobody is heard who has no certificate.
    fn any(&self) -> bool;

    /// Whose token this is, if it is good.
    fn holder(&self, token: &str) -> Option<Person>;
}

/// There are none.
#[derive(Clone, Copy, Debug)]
pub struct NoTokens;

impl Tokens for NoTokens {
    fn any(&self) -> bool {
        false
    }

    fn holder(&self, _: &str) -> Option<Person> {
        None
    }
}

impl Person {
    /// The holder of a certificate.
    pub fn with_certificate(identity: Identity) -> Self {
        Self { role: identity.role, name: identity.name, by: By::Certificate }
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.role, self.name, self.by)
    }
}

impl Caller {
    /// Whoever sent this.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let nobody = Self { who: Who::Nobody, from: None };
        request.extensions().get::<Self>().cloned().unwrap_or(nobody)
    }

    /// Whether it may do what that role may.
    pub fn may(&self, role: Role) -> bool {
        match &self.who {
            Who::Anybody => true,
            Who::Nobody => false,
            Who::Known(person) => person.role >= role,
        }
    }

    /// That it is this member and not another one, which could otherwise speak for it.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, with who it is.
    pub fn speaks_for(&self, member: &MemberName) -> Result<(), Status> {
        let speaks = match &self.who {
            Who::Anybody => true,
            Who::Nobody => false,
            Who::Known(person) => person.role == Role::Member && person.name == member.0,
        };
        if speaks {
            return Ok(());
        }
        let who = self.who();
        Err(Status::permission_denied(format!("{who} cannot speak for member {member}")))
    }

    /// For people: who.
    pub fn who(&self) -> String {
        match &self.who {
            Who::Anybody => "anybody (insecure: true)".to_owned(),
            Who::Nobody => "somebody".to_owned(),
            Who::Known(person) => person.to_string(),
        }
    }

    /// For people: from where.
    pub fn place(&self) -> String {
        self.from.map_or_else(|| "this machine".to_owned(), |from| from.to_string())
    }

    /// For people: who, and from where.
    pub fn told(&self) -> String {
        format!("{} at {}", self.who(), self.place())
    }
}
