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
mod health;
mod metrics;
mod orders;
mod shapes;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use crate::services::control::Desk;
use crate::status::Sources;
use answer::Answer;

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

/// All paths.
pub fn router(desk: Desk) -> Router {
    Router::new().fallback(any(handle)).layer(DefaultBodyLimit::max(BODY_MAX)).with_state(desk)
}

async fn handle(
    State(desk): State<Desk>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    query: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    let path = uri.path().trim_matches('/');
    let Ok(Query(query)) = query else {
        return Answer::bad("the parameters cannot be read", "write ?name=value&name=value")
            .into_response();
    };
    let asks = matches!(method, Method::GET | Method::HEAD | Method::OPTIONS);
    if asks {
        return desk.look(|sources| look(sources, path, &query)).into_response();
    }
    if !may_order(desk.orders_from_anywhere, from.ip()) {
        return Answer::error(
            403,
            "orders over REST are taken from this machine alone",
            "use howdah's commands with a certificate, or write `insecure: true` if the network is trusted",
        )
        .into_response();
    }
    let body = match body {
        Ok(body) => body,
        Err(why) if why.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE => {
            return Answer::too_large(BODY_MAX).into_response();
        }
        Err(why) => return Answer::bad(&why.body_text(), "send it again").into_response(),
    };
    orders::take(&desk, &method, path, &body).await.into_response()
}

/// Nobody is asked here who he is: who comes from elsewhere shows a certificate at the gRPC port.
fn may_order(from_anywhere: bool, from: IpAddr) -> bool {
    from_anywhere || from.to_canonical().is_loopback()
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
