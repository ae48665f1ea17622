//! REST in Patroni's language: health paths with its status codes, its shapes, its messages.
//!
//! Place: one listener per member, for load balancers, monitoring and scripts. Questions are answered
//! from what this member knows without asking anybody, so that they are answered when the group has
//! no quorum; `look` is pure. Orders go the way of the gRPC services' orders.
//! Differences from Patroni: `/primary` is 200 only where a write can succeed now (`lease_only=true`
//! for the lease alone); bodies are validated before anything is done; HEAD and OPTIONS answer like
//! GET; a path that does not exist is 404, a method that does not fit 405. The table is docs/rest.md.

mod answer;
mod body;
mod gate;
mod health;
mod metrics;
mod orders;
pub mod serve;
mod shapes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use howdah_core::rights::plain;
use howdah_rpc::access::{Caller, Tokens, Who};
use howdah_rpc::teller::Teller;

use crate::config::RestConfig;
use crate::services::control::Desk;
use crate::status::Sources;
use answer::Answer;
use gate::{About, Gate};

/// Largest body that is read, bytes.
const BODY_MAX: usize = 64 << 10;

/// Paths of orders, and the methods that they take.
const ORDERS: [(&str, &str); 6] = [
    ("switchover", "POST, DELETE"),
    ("failover", "POST"),
    ("restart", "POST, DELETE"),
    ("reload", "POST"),
    ("reinitialize", "POST"),
    ("failsafe", "GET"),
];

/// How long a body may take to come.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// How long whoever showed a wrong secret waits for his answer.
const GUESS_WAIT: Duration = Duration::from_millis(500);

/// What REST needs of the agent. Cheap to clone.
#[derive(Clone)]
pub struct Rest {
    /// The services.
    pub desk: Desk,
    /// Who may do what without a certificate.
    pub tokens: Arc<dyn Tokens>,
    /// What is configured.
    pub config: Arc<RestConfig>,
    /// Whoever can connect may do everything.
    pub insecure: bool,
    /// Tells whom it did not answer.
    pub teller: Arc<Teller>,
}

/// All paths.
pub fn router(rest: Rest) -> Router {
    Router::new().fallback(any(handle)).with_state(rest)
}

async fn handle(State(rest): State<Rest>, request: Request) -> Response {
    answer(&rest, request).await.unwrap_or_else(|refused| refused).into_response()
}

async fn answer(rest: &Rest, request: Request) -> Result<Answer, Answer> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_matches('/');
    let caller = parts.extensions.get::<Caller>().cloned();
    let mut caller = caller.unwrap_or(Caller { who: Who::Nobody, from: None });
    if rest.insecure {
        caller.who = Who::Anybody;
    }
    let gate = Gate {
        tokens: rest.tokens.as_ref(),
        password: rest.config.authentication.as_ref(),
        anonymous: rest.config.anonymous,
        private: rest.config.tls,
    };
    let place = caller.place();
    let about = About::of(&parts.method, path);
    let let_in = match gate.admit(caller, about, &parts.headers) {
        Ok(let_in) => let_in,
        Err(refused) => {
            let (method, path, code) = (&parts.method, plain(path), refused.answer.code);
            rest.teller.tell(&format!("{place} is not heard over REST: {method} /{path}: {code}"));
            if refused.guessed {
                tokio::time::sleep(GUESS_WAIT).await;
            }
            return Err(refused.answer);
        }
    };
    let query = Query::<BTreeMap<String, String>>::try_from_uri(&parts.uri);
    let Query(query) = query.map_err(|_| {
        Answer::bad("the parameters cannot be read", "write ?name=value&name=value")
    })?;
    if about != About::Order {
        let answer = rest.desk.look(|sources| look(sources, path, &query));
        return Ok(if let_in.brief { answer.briefly() } else { answer });
    }
    let body = tokio::time::timeout(BODY_WAIT, axum::body::to_bytes(body, BODY_MAX)).await;
    let body = body.map_err(|_| Answer::error(408, "the body did not come", "send it at once"))?;
    let body = body.map_err(|why| match is_too_long(&why) {
        true => Answer::too_large(BODY_MAX),
        false => Answer::bad(&why.to_string(), "send it again"),
    })?;
    Ok(orders::take(&rest.desk, &let_in.caller, &parts.method, path, &body).await)
}

/// Whether a body was given up for its length.
fn is_too_long(why: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(why);
    while let Some(inner) = cause {
        if inner.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// The answer to a question. Pure.
pub(crate) fn look(sources: &Sources<'_>, path: &str, query: &BTreeMap<String, String>) -> Answer {
    match path {
        "patroni" => Answer::json(200, shapes::member(sources)),
        "cluster" => Answer::json(200, shapes::cluster(sources)),
        "history" => Answer::json(200, shapes::history(sources.state)),
        "config" => Answer::json(200, crate::cluster_config::to_json(sources.state)),
        "events" => shapes::events(sources.state, query),
        "explain" => shapes::explain(sources, query),
        "metrics" => Answer::text(200, "text/plain; version=0.0.4", metrics::render(sources)),
        "failsafe" => {
            Answer::error(502, "failsafe mode is off", "there is no outside store to lose")
        }
        path => match health::check(sources, path, query) {
            Some(answer) => answer,
            None => match ORDERS.iter().find(|(order, _)| *order == path) {
                Some((_, allowed)) => Answer::not_allowed(allowed),
                None => Answer::no_such_path(path),
            },
        },
    }
}

#[cfg(test)]
mod tests;
