//! Refuses calls of those whose role does not reach so far, before anything of them is read.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use crate::access::Caller;
use crate::needs::needed;

/// Puts a doorkeeper before a server's services.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doorkeeper;

/// A service that is guarded so.
#[derive(Clone, Debug)]
pub struct Guarded<S>(S);

impl<S> Layer<S> for Doorkeeper {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded(inner)
    }
}

/// Why this caller may not call that path.
fn refusal(caller: Option<&Caller>, path: &str) -> Option<Status> {
    let needed = needed(path);
    match caller {
        Some(caller) if caller.may(needed) => None,
        Some(caller) => {
            let method = path.rsplit('/').next().unwrap_or_default();
            let text = format!("{} may not call {method}: it takes role {needed}", caller.told());
            tracing::warn!("{text}");
            Some(Status::permission_denied(text))
        }
        // A server whose connections are not these: a mistake of ours, and no way in.
        None => Some(Status::unauthenticated("nobody knows who calls")),
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
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let refused = refusal(request.extensions().get::<Caller>(), request.uri().path());
        match refused {
            Some(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
            None => Box::pin(self.0.call(request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use howdah_locks::{Identity, Role};

    use super::*;

    #[test]
    fn a_role_reaches_as_far_as_the_table_says() {
        let caller = |role| Caller { who: Identity::new("demo", role, "x").ok(), from: None };
        let may = |role, path| refusal(Some(&caller(role)), path).is_none();
        let switchover = "/howdah.control.v1.Control/Switchover";
        assert!(!may(Role::Viewer, switchover) && may(Role::Operator, switchover));
        assert!(!may(Role::Admin, "/howdah.raft.v1.Raft/Vote"));
        assert!(may(Role::Member, "/howdah.raft.v1.Raft/Vote"));
        assert!(may(Role::Viewer, "/howdah.control.v1.Control/Status"));
        let open = Caller { who: None, from: None };
        assert!(refusal(Some(&open), switchover).is_none());
        assert!(refusal(None, switchover).is_some());
    }
}
