//! Connections that come, after their handshake.
//!
//! Place: below the agent's gRPC server. One task accepts, each handshake has one of its own; whoever shows nothing
//! good in time is gone before anything above hears of it.
//! Invariants: so many handshakes at once at most, and of one address fewer, so that a flood from one place does not keep members
//! from each other. Failure: an error of one connection is that one's.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use howdah_locks::Keyring;
use howdah_locks::keyring::holder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::access::{Access, Caller};
use crate::channel::in_words;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at once.
const AT_ONCE: usize = 512;
/// Of one address.
const AT_ONCE_EACH: usize = 32;
/// Refused connections are told of at most so often.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// After an error of the listener itself, as too many open files.
const BREATH: Duration = Duration::from_millis(50);

/// A connection, encrypted or not.
pub enum Stream {
    /// As it came.
    Plain(TcpStream),
    /// Through TLS.
    Locked(Box<TlsStream<TcpStream>>),
}

/// A connection and who it is from.
pub struct Shielded {
    stream: Stream,
    caller: Caller,
}

/// Connections of `listener` whose handshake was good.
pub fn incoming(listener: TcpListener, access: Access) -> ReceiverStream<io::Result<Shielded>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(accept(listener, access, sender));
    ReceiverStream::new(receiver)
}

async fn accept(listener: TcpListener, access: Access, sender: mpsc::Sender<io::Result<Shielded>>) {
    let (crowd, teller) = (Arc::new(Crowd::default()), Arc::new(Teller::default()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                teller.tell(&format!("a connection could not be taken: {error}"));
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        // An answer that waits for the acknowledgement of the last one costs 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection answers with delay");
        }
        match &access {
            Access::Open => {
                let caller = Caller { who: None, from: Some(from) };
                let open = Shielded { stream: Stream::Plain(stream), caller };
                if sender.send(Ok(open)).await.is_err() {
                    return;
                }
            }
            Access::Locked(keyring) => {
                let Some(place) = Crowd::enter(&crowd, from.ip()) else {
                    teller.tell(&format!("{from}: too many handshakes at once"));
                    continue;
                };
                let (keyring, sender, teller) = (keyring.clone(), sender.clone(), teller.clone());
                tokio::spawn(async move {
                    match shake(&keyring, stream, from).await {
                        Ok(shielded) => drop(sender.send(Ok(shielded)).await),
                        Err(why) => teller.tell(&format!("{from} is not let in: {why}")),
                    }
                    drop(place);
                });
            }
        }
    }
}

async fn shake(keyring: &Keyring, stream: TcpStream, from: SocketAddr) -> io::Result<Shielded> {
    let acceptor = TlsAcceptor::from(keyring.now().server.clone());
    let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = shaken
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS: no handshake in time"))?
        .map_err(|why| in_words(&why))?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let who = shown.and_then(holder);
    // The verifier let in nobody without; this is for whoever changes it.
    let who = who.ok_or_else(|| io::Error::other("TLS: the certificate names nobody"))?;
    let caller = Caller { who: Some(who), from: Some(from) };
    Ok(Shielded { stream: Stream::Locked(Box::new(stream)), caller })
}

/// Handshakes under way, by address.
#[derive(Default)]
struct Crowd(Mutex<HashMap<IpAddr, usize>>);

/// One of them, until dropped.
struct Place(Arc<Crowd>, IpAddr);

impl Crowd {
    fn enter(crowd: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let mut places = crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = places.values().sum();
        let own = places.entry(from).or_default();
        if all >= AT_ONCE || *own >= AT_ONCE_EACH {
            return None;
        }
        *own += 1;
        Some(Place(crowd.clone(), from))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = places.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                places.remove(&self.1);
            }
        }
    }
}

/// Tells now and then, and counts what it does not tell.
#[derive(Default)]
struct Teller(Mutex<(Option<Instant>, u64)>);

impl Teller {
    fn tell(&self, text: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            told.1 += 1;
            return;
        }
        let others = std::mem::take(&mut told.1);
        told.0 = Some(Instant::now());
        tracing::warn!(others, "{text}");
    }
}

impl Connected for Shielded {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl Shielded {
    fn stream(self: Pin<&mut Self>) -> &mut Stream {
        &mut self.get_mut().stream
    }
}

impl AsyncRead for Shielded {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.stream() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Locked(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Shielded {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.stream() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Locked(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.stream() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Stream::Locked(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Locked(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Locked(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Locked(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
