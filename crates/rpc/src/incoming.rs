//! Connections that come, after their handshake.
//!
//! Place: below the agent's gRPC and REST servers. One task accepts, each handshake has one of its own; whoever shows nothing
//! good in time is gone before anything above hears of it.
//! Invariants: so many handshakes at once at most, and of one address fewer; so many connections of others than members, and of one
//! address fewer: a flood does not keep members from each other. Failure: an error of one connection is that one's.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use howdah_locks::keyring::holder;
use howdah_locks::{Keyring, Role};
use nix::unistd::{Uid, User};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::access::{Access, By, Caller, Person, Tokens, Who};
use crate::channel::in_words;
use crate::crowd::{Crowd, Place};
use crate::teller::Teller;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at once.
const HANDSHAKES: usize = 512;
/// Of one address.
const HANDSHAKES_EACH: usize = 32;
/// Connections of others than members.
const GUESTS: usize = 1024;
/// Of one address.
const GUESTS_EACH: usize = 128;
/// After an error of the listener itself, as too many open files.
const BREATH: Duration = Duration::from_millis(50);

/// What is spoken behind a door.
#[derive(Clone)]
pub enum Door {
    /// gRPC: a certificate, or a token with each call where there are tokens.
    Grpc(Arc<dyn Tokens>),
    /// HTTP/1.1: whoever comes may speak, and shows what he has with each request.
    Rest,
}

/// A connection, encrypted or not.
enum Stream {
    /// As it came.
    Plain(TcpStream),
    /// Through TLS.
    Locked(Box<TlsStream<TcpStream>>),
    /// From this machine.
    Local(UnixStream),
}

/// A connection and who it is from.
pub struct Shielded {
    stream: Stream,
    caller: Caller,
    /// Given back when the connection ends.
    _place: Option<Place>,
}

type Sender = mpsc::Sender<io::Result<Shielded>>;

/// What all connections of one door have in common.
struct Porch {
    access: Access,
    door: Door,
    handshakes: Arc<Crowd>,
    guests: Arc<Crowd>,
    teller: Teller,
}

/// Connections of `listener` whose handshake was good.
pub fn incoming(
    listener: TcpListener,
    access: Access,
    door: Door,
) -> ReceiverStream<io::Result<Shielded>> {
    let (sender, receiver) = mpsc::channel(64);
    let porch = Porch {
        access,
        door,
        handshakes: Crowd::new(HANDSHAKES, HANDSHAKES_EACH),
        guests: Crowd::new(GUESTS, GUESTS_EACH),
        teller: Teller::default(),
    };
    tokio::spawn(accept(listener, Arc::new(porch), sender));
    ReceiverStream::new(receiver)
}

async fn accept(listener: TcpListener, porch: Arc<Porch>, sender: Sender) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                porch.teller.tell(&format!("a connection could not be taken: {error}"));
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        // An answer that waits for the acknowledgement of the last one costs 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection answers with delay");
        }
        match &porch.access {
            Access::Locked(keyring) => {
                let Some(place) = Crowd::enter(&porch.handshakes, from.ip()) else {
                    porch.teller.tell(&format!("{from}: too many handshakes at once"));
                    continue;
                };
                let (keyring, sender, porch) = (keyring.clone(), sender.clone(), porch.clone());
                tokio::spawn(async move {
                    match shake(&keyring, stream, from, &porch).await {
                        Ok(shielded) => drop(sender.send(Ok(shielded)).await),
                        Err(why) => porch.teller.tell(&format!("{from} is not let in: {why}")),
                    }
                    drop(place);
                });
            }
            Access::Open | Access::Visitor(_) => {
                // Without certificates a member looks like anybody. Who has only a visitor's access opens nothing by it.
                let (who, place) = match (&porch.access, &porch.door) {
                    (Access::Open, Door::Grpc(_)) => (Who::Anybody, Ok(None)),
                    _ => (Who::Nobody, porch.admit(&Who::Nobody, from).map(Some)),
                };
                let Ok(place) = place else { continue };
                let caller = Caller { who, from: Some(from) };
                let open = Shielded { stream: Stream::Plain(stream), caller, _place: place };
                if sender.send(Ok(open)).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Porch {
    /// A place for a guest.
    fn admit(&self, who: &Who, from: SocketAddr) -> io::Result<Place> {
        let place = Crowd::enter(&self.guests, from.ip());
        place.ok_or_else(|| {
            let text = format!("{from}: too many connections at once");
            if matches!(who, Who::Nobody) {
                self.teller.tell(&text);
            }
            io::Error::other(text)
        })
    }
}

async fn shake(
    keyring: &Keyring,
    stream: TcpStream,
    from: SocketAddr,
    porch: &Porch,
) -> io::Result<Shielded> {
    let loaded = keyring.now();
    let config = match &porch.door {
        Door::Rest => &loaded.rest,
        Door::Grpc(tokens) if tokens.any() => &loaded.guests,
        Door::Grpc(_) => &loaded.server,
    };
    let acceptor = TlsAcceptor::from(config.clone());
    let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = shaken
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS: no handshake in time"))?
        .map_err(|why| in_words(&why))?;
    let who = match stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
        // The verifier let in nobody whose certificate names nobody; this is for whoever changes it.
        Some(shown) => Who::Known(Person::with_certificate(
            holder(shown).ok_or_else(|| io::Error::other("TLS: the certificate names nobody"))?,
        )),
        None => Who::Nobody,
    };
    let is_member = matches!(&who, Who::Known(person) if person.role == Role::Member);
    let place = if is_member { None } else { Some(porch.admit(&who, from)?) };
    let caller = Caller { who, from: Some(from) };
    Ok(Shielded { stream: Stream::Locked(Box::new(stream)), caller, _place: place })
}

/// Connections of root and of this process's user, by a socket of this machine; each may what an administrator may.
pub fn local(listener: UnixListener) -> ReceiverStream<io::Result<Shielded>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let teller = Teller::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted.and_then(|(stream, _)| known(stream)) {
                Ok(shielded) => {
                    if sender.send(Ok(shielded)).await.is_err() {
                        return;
                    }
                }
                Err(why) => {
                    teller.tell(&format!("a local connection is not let in: {why}"));
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Who it is, as the kernel says.
fn known(stream: UnixStream) -> io::Result<Shielded> {
    let uid = Uid::from_raw(stream.peer_cred()?.uid());
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    if !uid.is_root() && uid != nix::unistd::geteuid() {
        return Err(io::Error::other(format!("{name} is neither root nor howdah's own user")));
    }
    let who = Who::Known(Person { role: Role::Admin, name, by: By::Socket });
    let caller = Caller { who, from: None };
    Ok(Shielded { stream: Stream::Local(stream), caller, _place: None })
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
            Stream::Local(stream) => Pin::new(stream).poll_read(context, buffer),
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
            Stream::Local(stream) => Pin::new(stream).poll_write(context, bytes),
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
            Stream::Local(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Locked(stream) => stream.is_write_vectored(),
            Stream::Local(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Locked(stream) => Pin::new(stream).poll_flush(context),
            Stream::Local(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Locked(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Local(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
