//! Bytes between one client and one server.
//!
//! Place: the last part of a session's life, and nearly all of it.
//! Invariants: nothing of the server's reaches the client after the gate's deadline; each way has at
//! most one chunk in memory, and reads nothing more until that is gone, so that a slow reader slows
//! the other side down; a session that is silent has no buffer at all.
//! Failure: dropped half way (cut, or ended by an error), both connections are reset, so that
//! neither side lingers.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::counters::Counters;
use crate::frames::{Frames, Verdict};
use crate::gate::Gate;

/// Bytes taken at once.
const CHUNK: usize = 64 * 1024;

thread_local! {
    /// One for all sessions of a thread: what is in it is passed on, or copied, before the next one
    /// is polled.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// What others want to know of a session.
#[derive(Debug)]
pub struct Vital {
    /// Set with each chunk.
    pub moved: AtomicBool,
    /// The server was ready for a query once.
    settled: AtomicBool,
    /// It is not encrypted.
    readable: bool,
    since: Instant,
}

impl Vital {
    /// Of a session that begins.
    pub fn new(readable: bool) -> Self {
        let (moved, settled) = (AtomicBool::new(true), AtomicBool::new(false));
        Self { moved, settled, readable, since: Instant::now() }
    }

    /// Whether the server lets the client in just now. An encrypted session counts as one for as long
    /// as that takes as a rule.
    pub fn is_young(&self) -> bool {
        const AS_A_RULE: Duration = Duration::from_millis(200);
        let known = self.readable || self.since.elapsed() < AS_A_RULE;
        known && !self.settled.load(Ordering::Relaxed)
    }
}

/// A session that goes on.
pub struct Relay {
    /// The client's connection.
    client: TcpStream,
    /// The server's.
    server: TcpStream,
    /// Whether the server may be heard.
    gate: Arc<Gate>,
    /// Follows the server's words, where they can be read.
    frames: Option<Frames>,
    /// What others want to know of it.
    vital: Arc<Vital>,
    /// What is counted.
    counters: Arc<Counters>,
    /// Both sides are done: the connections need no reset.
    done: bool,
}

impl Drop for Relay {
    fn drop(&mut self) {
        if !self.done {
            reset_on_close(&self.client);
            reset_on_close(&self.server);
        }
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both sides are done.
    Done,
    /// The lease is not known to hold any more.
    Shut,
    /// One side broke off.
    Broken,
}

/// One direction.
#[derive(Default)]
struct Way {
    /// What the receiver did not take at once.
    pending: Vec<u8>,
    /// How much of it is gone since.
    sent: usize,
    /// The sender is done.
    over: bool,
    /// The receiver was told.
    told: bool,
}

/// What is to be done with a chunk.
enum Look {
    Pass,
    Instead(Vec<u8>, bool),
    Shut,
}

impl Relay {
    /// Between these two.
    pub fn new(
        client: TcpStream,
        server: TcpStream,
        gate: Arc<Gate>,
        frames: Option<Frames>,
        vital: Arc<Vital>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { client, server, gate, frames, vital, counters, done: false }
    }

    /// Moves bytes until both sides are done, or one breaks off. `first` is for the client: what the
    /// server said already.
    pub async fn run(mut self, first: Vec<u8>) -> Ended {
        let (mut up, mut down) = (Way::default(), Way::default());
        if !first.is_empty() {
            self.counters.bytes_down(first.len());
            match look(&self.gate, self.frames.as_mut(), &self.vital, &self.counters, &first) {
                Look::Pass => down.pending = first,
                Look::Instead(bytes, over) => (down.pending, down.over) = (bytes, over),
                Look::Shut => return Ended::Shut,
            }
        }
        let ended = poll_fn(|cx| self.poll(cx, &mut up, &mut down)).await;
        self.done = ended == Ended::Done;
        ended
    }

    fn poll(&mut self, cx: &mut Context<'_>, up: &mut Way, down: &mut Way) -> Poll<Ended> {
        SCRATCH.with_borrow_mut(|scratch| {
            let (mut client_reads, mut client_writes) = self.client.split();
            let (mut server_reads, mut server_writes) = self.server.split();
            let (vital, counters) = (&self.vital, &self.counters);
            let mut upwards = |chunk: &[u8]| {
                vital.moved.store(true, Ordering::Relaxed);
                counters.bytes_up(chunk.len());
                Look::Pass
            };
            let sent = up.poll(cx, &mut client_reads, &mut server_writes, scratch, &mut upwards);
            if let Poll::Ready(Err(ended)) = sent {
                return Poll::Ready(ended);
            }
            let (gate, frames) = (&self.gate, &mut self.frames);
            let mut downwards = |chunk: &[u8]| {
                vital.moved.store(true, Ordering::Relaxed);
                counters.bytes_down(chunk.len());
                look(gate, frames.as_mut(), vital, counters, chunk)
            };
            match down.poll(cx, &mut server_reads, &mut client_writes, scratch, &mut downwards) {
                Poll::Ready(Err(ended)) => Poll::Ready(ended),
                // A server that has said its last word listens no longer either.
                Poll::Ready(Ok(())) => Poll::Ready(Ended::Done),
                Poll::Pending => Poll::Pending,
            }
        })
    }
}

/// Whether, and how, a chunk of the server's is passed on.
fn look(
    gate: &Gate,
    frames: Option<&mut Frames>,
    vital: &Vital,
    counters: &Counters,
    chunk: &[u8],
) -> Look {
    if !gate.lets_through() {
        return Look::Shut;
    }
    let Some(frames) = frames else { return Look::Pass };
    let mut out = Vec::new();
    let verdict = frames.take(chunk, &mut out);
    if frames.is_ready() && !vital.settled.load(Ordering::Relaxed) {
        vital.settled.store(true, Ordering::Relaxed);
    }
    if verdict != Verdict::Pass && frames.take_sprung() {
        counters.trap();
    }
    match verdict {
        Verdict::Pass => Look::Pass,
        Verdict::Instead => Look::Instead(out, false),
        Verdict::End => Look::Instead(out, true),
    }
}

impl Way {
    /// Moves what can be moved. Ready: the sender is done, and the receiver knows.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        scratch: &mut [u8],
        look: &mut dyn FnMut(&[u8]) -> Look,
    ) -> Poll<Result<(), Ended>> {
        loop {
            if !self.pending.is_empty() {
                ready!(self.poll_pending(cx, to)).map_err(|_| Ended::Broken)?;
            }
            if self.over {
                if !self.told {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| Ended::Broken)?;
                    self.told = true;
                }
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer)).map_err(|_| Ended::Broken)?;
            let chunk = buffer.filled();
            if chunk.is_empty() {
                self.over = true;
                continue;
            }
            match look(chunk) {
                Look::Pass => self.pass(cx, to, chunk)?,
                Look::Instead(bytes, over) => {
                    self.over = over;
                    self.pass(cx, to, &bytes)?;
                }
                Look::Shut => return Poll::Ready(Err(Ended::Shut)),
            }
        }
    }

    /// Writes a chunk; what is not taken at once is kept.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut WriteHalf<'_>,
        chunk: &[u8],
    ) -> Result<(), Ended> {
        let taken = match Pin::new(to).poll_write(cx, chunk) {
            Poll::Ready(Ok(taken)) => taken,
            Poll::Ready(Err(_)) => return Err(Ended::Broken),
            Poll::Pending => 0,
        };
        if taken < chunk.len() {
            self.pending = chunk[taken..].to_vec();
        }
        Ok(())
    }

    fn poll_pending(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut WriteHalf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.pending.len() {
            let rest = &self.pending[self.sent..];
            match ready!(Pin::new(&mut *to).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.sent += taken,
            }
        }
        (self.pending, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

/// Resets a connection when it is closed: what lies in the kernel is thrown away.
pub fn reset_on_close(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    // It is closed in any case.
    let _ = socket.set_linger(Some(Duration::ZERO));
}
