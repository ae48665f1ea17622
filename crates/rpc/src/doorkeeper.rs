//! Refuses calls of those whose role does not reach so far, before anything of them is read; and knows those who show a
//! token with each call instead of a certificate once.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response, header};
use tower::{Layer, Service};

use crate::access::{Arrived, Caller, Tokens, Who};
use crate::needs::needed;
use crate::teller::Teller;

/// Puts a doorkeeper before a server's services.
#[derive(Clone)]
pub struct Doorkeeper(Arc<Book>);

struct Book {
    tokens: Arc<dyn Tokens>,
    teller: Teller,
}

/// A service that is guarded so.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    book: Arc<Book>,
}

impl Doorkeeper {
    /// One who knows these tokens.
    pub fn new(tokens: Arc<dyn Tokens>) -> Self {
        Self(Arc::new(Book { tokens, teller: Teller::default() }))
    }
}

impl<S> Layer<S> for Doorkeeper {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, book: self.0.clone() }
    }
}

/// The token in `Authorization: Bearer TOKEN`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl Book {
    /// Who it is, by what the call itself shows where the connection has shown nothing.
    fn known(&self, caller: Caller, headers: &HeaderMap) -> Result<Caller, Status> {
        if caller.who != Who::Nobody {
            return Ok(caller);
        }
        let Some(token) = bearer(headers) else {
            let text = "show a certificate (--keys DIR) or a token (--token-file FILE)";
            return Err(Status::unauthenticated(text));
        };
        match self.tokens.holder(token) {
            Some(person) => Ok(Caller { who: Who::Known(person), from: caller.from }),
            None => Err(Status::unauthenticated(
                "the token is not good: revoked, expired, or of another cluster",
            )),
        }
    }

    /// Whether this may be called, and by whom it is.
    fn admit(
        &self,
        caller: Option<Caller>,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Caller, Status> {
        // A server whose connections are not these: a mistake of ours, and no way in.
        let caller = caller.ok_or_else(|| Status::unauthenticated("nobody knows who calls"))?;
        let place = caller.place();
        let caller = self.known(caller, headers).inspect_err(|status| {
            self.teller.tell(&format!("{place} is not heard: {}", status.message()));
        })?;
        let needed = needed(path);
        if caller.may(needed) {
            return Ok(caller);
        }
        let method = path.rsplit('/').next().unwrap_or_default();
        let text = format!("{} may not call {method}: it takes role {needed}", caller.told());
        self.teller.tell(&text);
        Err(Status::permission_denied(text))
    }
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let arrived = request.extensions_mut().remove::<Arrived>();
        let (caller, proof) = arrived.map(|one| (one.caller, one.proof)).unzip();
        match self.book.admit(caller, request.uri().path(), request.headers()) {
            Ok(caller) => {
                proof.unwrap_or_default().give();
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use howdah_locks::{Identity, Role};
    use tonic::Code;

    use super::*;
    use crate::access::{By, Person};

    struct One;

    impl Tokens for One {
        fn any(&self) -> bool {
            true
        }

        fn holder(&self, token: &str) -> Option<Person> {
            let person = Person { role: Role::Operator, name: "robot".into(), by: By::Token };
            (token == "good").then_some(person)
        }
    }

    const SWITCHOVER: &str = "/howdah.control.v1.Control/Switchover";
    const VOTE: &str = "/howdah.raft.v1.Raft/Vote";

    fn admit(who: Option<Who>, path: &str, authorization: Option<&str>) -> Result<Caller, Code> {
        let book = Book { tokens: Arc::new(One), teller: Teller::default() };
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        let caller = who.map(|who| Caller { who, from: None });
        book.admit(caller, path, &headers).map_err(|status| status.code())
    }

    #[test]
    fn a_role_reaches_as_far_as_the_table_says() {
        let may = |role, path| {
            let identity = Identity::new("demo", role, "x").unwrap();
            let known = Who::Known(Person::with_certificate(identity));
            admit(Some(known), path, None).is_ok()
        };
        assert!(!may(Role::Viewer, SWITCHOVER) && may(Role::Operator, SWITCHOVER));
        assert!(!may(Role::Admin, VOTE) && may(Role::Member, VOTE));
        assert!(may(Role::Viewer, "/howdah.control.v1.Control/Status"));
        assert!(admit(Some(Who::Anybody), SWITCHOVER, None).is_ok());
        assert_eq!(admit(None, SWITCHOVER, Some("Bearer good")), Err(Code::Unauthenticated));
    }

    #[test]
    fn a_token_is_known_where_no_certificate_was_shown() {
        let nobody = || Some(Who::Nobody);
        let by_token = admit(nobody(), SWITCHOVER, Some("Bearer good")).unwrap();
        assert_eq!(by_token.who(), "operator robot (token)");
        assert!(admit(nobody(), SWITCHOVER, Some("bearer  good")).is_ok());
        assert_eq!(admit(nobody(), VOTE, Some("Bearer good")), Err(Code::PermissionDenied));
        for wrong in ["Bearer bad", "Bearer ", "Bearer", "good", "Basic good", ""] {
            let refused = admit(nobody(), SWITCHOVER, Some(wrong));
            assert_eq!(refused, Err(Code::Unauthenticated), "{wrong:?}");
        }
        assert_eq!(admit(nobody(), SWITCHOVER, None), Err(Code::Unauthenticated));
        // A viewer's certificate is not made more by a token beside it.
        let viewer = Identity::new("demo", Role::Viewer, "x").unwrap();
        let viewer = Who::Known(Person::with_certificate(viewer));
        let beside = admit(Some(viewer), SWITCHOVER, Some("Bearer good"));
        assert_eq!(beside, Err(Code::PermissionDenied));
    }
}
