//! What PostgreSQL, or whatever answers in its place, says on a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use howdah_postgres::fuzzing::probe;
use howdah_postgres::session::SessionError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Builder;

use crate::parts;

/// No server of these waits: whatever it says is there at once.
const LIMIT: Duration = Duration::from_secs(5);

/// A look at the server ends with an answer or with an error that has words; a server that said nothing is not
/// called alive; the password is told to nobody. The input: what the server says at first, and what it says after
/// each thing that it is told.
pub fn session(bytes: &[u8]) -> bool {
    let turns: Vec<Vec<u8>> = parts(bytes, 4).into_iter().map(<[u8]>::to_vec).collect();
    let server = Server { turns, told: 0, at: 0, turn: 0, idle: 0 };
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    match runtime.block_on(probe(server, LIMIT)) {
        Ok(probe) => {
            assert!(probe.slots.len() + probe.replication.len() <= bytes.len());
            assert!(
                !probe.wal_receiver.is_some_and(|one| one.streams() && one.status != "streaming")
            );
            true
        }
        Err(error) => {
            let told = error.to_string();
            assert!(!told.is_empty() && !told.contains("secret-of-this-test"), "{told}");
            assert!(
                !matches!(error, SessionError::TimedOut(_)),
                "it waits for a server that ended"
            );
            assert!(!error.proves_life() || !bytes.is_empty(), "{told}");
            false
        }
    }
}

/// So often a server is asked in vain, until it closes: whoever asks has nothing to tell it.
const PATIENCE: usize = 8;

/// Says its next part when it was told something, and closes behind the last one.
struct Server {
    turns: Vec<Vec<u8>>,
    told: usize,
    turn: usize,
    at: usize,
    idle: usize,
}

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while let Some(turn) = this.turns.get(this.turn) {
            if this.told <= this.turn {
                this.idle += 1;
                if this.idle > PATIENCE {
                    return Poll::Ready(Ok(()));
                }
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let left = &turn[this.at..];
            if !left.is_empty() {
                let now = left.len().min(buffer.remaining());
                buffer.put_slice(&left[..now]);
                this.at += now;
                return Poll::Ready(Ok(()));
            }
            (this.turn, this.at) = (this.turn + 1, 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Server {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        (self.told, self.idle) = (self.told + 1, 0);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
