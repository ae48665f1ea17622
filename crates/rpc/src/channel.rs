//! One lazy channel per peer, with keep-alive, so that a dead connection is noticed and replaced.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::access::Access;

/// What an address begins with that is a socket's path.
pub const SOCKET: &str = "unix:";

/// An address is not of the form HOST:PORT.
#[derive(Debug, thiserror::Error)]
#[error("`{address}` is no address; write HOST:PORT, as 10.0.0.1:7432")]
pub struct BadAddress {
    /// What was given.
    pub address: String,
}

/// A channel to `address` (HOST:PORT, or unix:PATH on this machine) that connects when first used and reconnects by itself, and is believed to lead to a
/// member where there are keys. `connect_timeout` must be below the caller's RPC timeout.
///
/// # Errors
/// `BadAddress` if `address` is malformed; an unreachable peer shows in the calls.
pub fn lazy(
    address: &str,
    connect_timeout: Duration,
    access: &Access,
) -> Result<Channel, BadAddress> {
    let bad = || BadAddress { address: address.to_owned() };
    if let Some(path) = address.strip_prefix(SOCKET) {
        let path = PathBuf::from(path);
        // The address stands for nothing: a socket has none.
        let endpoint = Endpoint::from_static("http://member").connect_timeout(connect_timeout);
        let connect = move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        };
        return Ok(endpoint.connect_with_connector_lazy(tower::service_fn(connect)));
    }
    if !address.contains(':') || address.contains('/') {
        return Err(bad());
    }
    // The connector speaks TLS itself; tonic needs not know.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| bad())?;
    let endpoint = endpoint
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(1))
        .keep_alive_while_idle(true);
    Ok(match access {
        Access::Open => endpoint.connect_lazy(),
        Access::Locked(keyring) => {
            let keyring = keyring.clone();
            let keys = move || keyring.now().client.clone();
            endpoint.connect_with_connector_lazy(connector(keys, address, connect_timeout))
        }
        Access::Visitor(visitor) => {
            let config = visitor.client();
            let keys = move || config.clone();
            endpoint.connect_with_connector_lazy(connector(keys, address, connect_timeout))
        }
    })
}

/// Connects by the keys of that moment.
fn connector(
    keys: impl Fn() -> Arc<ClientConfig> + Clone + Send + 'static,
    address: &str,
    limit: Duration,
) -> impl tower::Service<
    Uri,
    Response = TokioIo<TlsStream<TcpStream>>,
    Error = io::Error,
    Future: Send + 'static,
> + Send
+ 'static {
    let address = address.to_owned();
    tower::service_fn(move |_: Uri| {
        let (keys, address) = (keys(), address.clone());
        async move { connect(keys, &address, limit).await.map(TokioIo::new) }
    })
}

async fn connect(
    keys: Arc<ClientConfig>,
    address: &str,
    limit: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    let late = |what: &str| io::Error::new(io::ErrorKind::TimedOut, what.to_owned());
    let stream = timeout(limit, TcpStream::connect(address)).await;
    let stream = stream.map_err(|_| late("no connection in time"))??;
    stream.set_nodelay(true)?;
    // Not looked at by the verifier; sent, where it is a name, for whoever routes by it.
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).or_else(|_| ServerName::try_from("member"));
    let name = name.map_err(io::Error::other)?;
    let connector = TlsConnector::from(keys);
    let shaken = timeout(limit, connector.connect(name, stream)).await;
    shaken.map_err(|_| late("TLS: no answer in time"))?.map_err(|why| in_words(&why))
}

/// What rustls says in its own types.
pub(crate) fn in_words(why: &io::Error) -> io::Error {
    let inner = why.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>());
    let text = inner.map_or_else(|| why.to_string(), howdah_locks::told);
    io::Error::new(why.kind(), format!("TLS: {text}"))
}
