//! One lazy channel per peer, with keep-alive, so that a dead connection is noticed and replaced.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// An address is not of the form HOST:PORT.
#[derive(Debug, thiserror::Error)]
#[error("`{address}` is no address; write HOST:PORT, as 10.0.0.1:7432")]
pub struct BadAddress {
    /// What was given.
    pub address: String,
}

/// A channel to `address` (HOST:PORT) that connects when first used and reconnects by itself.
/// `connect_timeout` must be below the caller's RPC timeout.
///
/// # Errors
/// `BadAddress` if `address` is malformed; an unreachable peer shows in the calls.
pub fn lazy(address: &str, connect_timeout: Duration) -> Result<Channel, BadAddress> {
    let bad = || BadAddress { address: address.to_owned() };
    if !address.contains(':') || address.contains('/') {
        return Err(bad());
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| bad())?;
    Ok(endpoint
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(1))
        .keep_alive_while_idle(true)
        .connect_lazy())
}
