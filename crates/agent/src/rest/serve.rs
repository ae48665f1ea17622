//! The REST port: HTTP/1.1, through TLS where that is configured.
//!
//! Place: a task of the agent. Limits: connections at once (`howdah_rpc::incoming`), how long a request's head may take, one
//! request at a time on a connection. Failure: of one connection, that one's.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use howdah_rpc::access::{Access, Arrived};
use howdah_rpc::incoming::{Door, Shielded, incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tonic::transport::server::Connected as _;
use tower::ServiceExt as _;

/// How long a request's head may take, and a connection may stand idle.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// Largest head, bytes.
const HEAD_MAX: usize = 16 << 10;

/// Answers until the listener is gone.
pub async fn serve(listener: TcpListener, access: Access, router: Router) {
    let mut connections = incoming(listener, access, Door::Rest);
    while let Some(Ok(connection)) = connections.next().await {
        tokio::spawn(answer(connection, router.clone()));
    }
}

async fn answer(connection: Shielded, router: Router) {
    let Arrived { caller, .. } = connection.connect_info();
    let service = tower::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(caller.clone());
        router.clone().oneshot(request)
    });
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT).max_buf_size(HEAD_MAX);
    let served =
        builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service)).await;
    if let Err(why) = served {
        tracing::debug!(%why, "a REST connection ended");
    }
}
