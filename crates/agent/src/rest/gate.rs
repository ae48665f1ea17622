//! Who may ask what over REST. Pure but for the clock that a wrong password waits for, which is the server's.
//!
//! Rule (docs/rest.md, "Who may ask"): orders take an operator; questions a viewer, unless they come from this machine or
//! `restapi.anonymous` names them. A password or token that could be read on its way is not taken.

use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use howdah_locks::{Role, token};
use howdah_rpc::access::{By, Caller, Person, Tokens, Who};
use howdah_rpc::doorkeeper::bearer;

use super::answer::Answer;
use super::health;
use crate::config::{Anonymous, BasicAuth};

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// A health check: a code, and a few words.
    Health,
    /// `/metrics`.
    Metrics,
    /// Anything else that changes nothing.
    Question,
    /// What changes something.
    Order,
}

impl About {
    /// What this request is about.
    pub fn of(method: &Method, path: &str) -> Self {
        if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Self::Order;
        }
        match path {
            "metrics" => Self::Metrics,
            path if health::is_path(path) => Self::Health,
            _ => Self::Question,
        }
    }

    /// The least role.
    fn needs(self) -> Role {
        match self {
            Self::Health | Self::Metrics | Self::Question => Role::Viewer,
            Self::Order => Role::Operator,
        }
    }

    fn is_open(self, anonymous: Anonymous) -> bool {
        match self {
            Self::Health => anonymous.health,
            Self::Metrics => anonymous.metrics,
            Self::Question => anonymous.questions,
            Self::Order => false,
        }
    }
}

/// Who has shown what, by this request where the connection has shown nothing.
pub(super) struct Gate<'g> {
    pub tokens: &'g dyn Tokens,
    pub password: Option<&'g BasicAuth>,
    pub anonymous: Anonymous,
    /// What is sent can be read by nobody on its way.
    pub private: bool,
}

/// Not let in.
#[derive(Debug, PartialEq)]
pub(super) struct Refused {
    pub answer: Answer,
    /// A wrong secret was shown: whoever guesses is to wait.
    pub guessed: bool,
}

/// Let in.
#[derive(Debug, PartialEq)]
pub(super) struct LetIn {
    pub caller: Caller,
    /// Nobody that is known: he hears no more than he needs.
    pub brief: bool,
}

impl Gate<'_> {
    /// Whether this request is answered.
    pub fn admit(
        &self,
        caller: Caller,
        about: About,
        headers: &HeaderMap,
    ) -> Result<LetIn, Refused> {
        let local = caller.from.is_some_and(|from| from.ip().to_canonical().is_loopback());
        let shown = match &caller.who {
            Who::Nobody => self.shown(headers, local),
            _ => Ok(None),
        };
        let caller = match &shown {
            Ok(Some(person)) => Caller { who: Who::Known(person.clone()), ..caller },
            _ => caller,
        };
        if caller.may(about.needs()) {
            return Ok(LetIn { caller, brief: false });
        }
        let asks = about != About::Order;
        if asks && (local || about.is_open(self.anonymous)) {
            return Ok(LetIn { brief: !local && about == About::Health, caller });
        }
        match (shown, &caller.who) {
            (Err(refused), _) => Err(refused),
            (Ok(_), Who::Known(_)) => {
                let error = format!("{} may not do this: it takes {}", caller.who(), about.needs());
                let remedy = "show another certificate, token or password";
                Err(Refused { answer: Answer::error(403, &error, remedy), guessed: false })
            }
            (Ok(_), _) => Err(Refused { answer: unknown("nobody knows who asks"), guessed: false }),
        }
    }

    /// Whose token or password it is.
    fn shown(&self, headers: &HeaderMap, local: bool) -> Result<Option<Person>, Refused> {
        if !headers.contains_key(header::AUTHORIZATION) {
            return Ok(None);
        }
        if !self.private && !local {
            let error = "a token or password is not taken over plain HTTP from another machine";
            let remedy = "set restapi.tls: true, and use https";
            return Err(Refused { answer: Answer::error(403, error, remedy), guessed: false });
        }
        let person = match bearer(headers) {
            Some(token) => self.tokens.holder(token),
            None => self.password.and_then(|known| known.holder(headers)),
        };
        let wrong =
            || Refused { answer: unknown("the token or password is not good"), guessed: true };
        person.map(Some).ok_or_else(wrong)
    }
}

fn unknown(error: &str) -> Answer {
    let remedy = "show a certificate, a token (Authorization: Bearer ...) or restapi.authentication's password";
    Answer { authenticate: true, ..Answer::error(401, error, remedy) }
}

impl BasicAuth {
    /// Who it is, if name and password are these. Both are compared whole.
    fn holder(&self, headers: &HeaderMap) -> Option<Person> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, encoded) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let expected = STANDARD.encode(format!("{}:{}", self.username, self.password.reveal()));
        token::same(encoded.trim(), &expected).then(|| Person {
            role: Role::Operator,
            name: self.username.clone(),
            by: By::Password,
        })
    }
}

#[cfg(test)]
mod tests;
