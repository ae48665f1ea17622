//! CancelRequests: a connection of their own, and no answer.
//!
//! A request names a backend by its process and a secret, and nothing says on which server. Behind the
//! door for writes there is one; behind the others each that answers is told: a server that does not
//! know the secret ignores it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect;
use crate::door::Door;

/// How long a server may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Passes a request on; the end of the client's connection tells it that this was done.
pub async fn pass_on(door: &Door, request: &[u8]) {
    for address in door.addresses() {
        let passed = async {
            let mut server = connect::server(&address).await?;
            server.write_all(request).await?;
            // PostgreSQL closes when the signal is sent.
            server.read(&mut [0]).await
        };
        // One that is gone has nothing to cancel.
        let _ = tokio::time::timeout(LIMIT, passed).await;
    }
}
