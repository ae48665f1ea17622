//! Connections that come, after their handshake.
//!
//! Place: below the agent's gRPC and REST servers. One task accepts, each handshake has one of its own; whoever shows nothing
//! good in time is gone before anything above hears of it.
//! Invariants: so many handshakes at once at most, and of one address fewer; so many connections of others than members, and of one
//! address fewer: a flood does not keep members from each other, nor strangers those who have a certificate. A connection ends when
//! what was shown at its beginning counts no more. Failure: an error of one connection is that one's.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use howdah_locks::keyring::{Standing, holder};
use howdah_locks::{Keyring, Role};
use nix::unistd::{Uid, User};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::access::{Access, Arrived, By, Caller, Person, Proof, Tokens, Who};
use crate::channel::in_words;
use crate::crowd::{Crowd, Place};
use crate::teller::Teller;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at once.
const HANDSHAKES: usize = 512;
/// Of one address.
const HANDSHAKES_EACH: usize = 32;
/// From where members came before.
const MEMBERS_KNOWN: usize = 64;
/// Connections of others than members: with certificates, and as many without.
const GUESTS: usize = 1024;
/// Of one address.
const GUESTS_EACH: usize = 128;
/// How long a connection may stand on which nothing good was shown.
const UNPROVEN: Duration = Duration::from_secs(30);
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
    /// Of whoever showed a certificate.
    standing: Option<Standing>,
    /// Of whoever did not, until he shows a token.
    unproven: Option<Pin<Box<Sleep>>>,
    proof: Proof,
    /// Given back when the connection ends.
    _place: Option<Place>,
}

type Sender = mpsc::Sender<io::Result<Shielded>>;

/// What all connections of one door have in common.
struct Porch {
    access: Access,
    door: Door,
    handshakes: Arc<Crowd>,
    /// Of addresses from which members came before: those have places of their own.
    members: Arc<Crowd>,
    known: Mutex<BTreeSet<IpAddr>>,
    guests: Arc<Crowd>,
    certified: Arc<Crowd>,
    teller: Teller,
}

/// Connections of `listener` whose handshake was good.
pub fn incoming(
    listener: TcpListener,
    access: Access,
    door: Door,
) -> ReceiverStream<io::Result<Shielded>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(accept(listener, Arc::new(Porch::new(access, door)), sender));
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
                let Some(place) = Crowd::enter(porch.handshakes_of(from.ip()), from.ip()) else {
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
                let open = Shielded::new(Stream::Plain(stream), caller, place);
                if sender.send(Ok(open)).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Porch {
    fn new(access: Access, door: Door) -> Self {
        Self {
            access,
            door,
            handshakes: Crowd::new(HANDSHAKES, HANDSHAKES_EACH),
            members: Crowd::new(HANDSHAKES, HANDSHAKES_EACH),
            known: Mutex::default(),
            guests: Crowd::new(GUESTS, GUESTS_EACH),
            certified: Crowd::new(GUESTS, GUESTS_EACH),
            teller: Teller::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<IpAddr>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a handshake of this address has its place.
    fn handshakes_of(&self, from: IpAddr) -> &Arc<Crowd> {
        if self.known().contains(&from) { &self.members } else { &self.handshakes }
    }

    /// A member came from there.
    fn member_came(&self, from: IpAddr) {
        let mut known = self.known();
        if known.len() < MEMBERS_KNOWN {
            known.insert(from);
        }
    }

    /// A place for a guest.
    fn admit(&self, who: &Who, from: SocketAddr) -> io::Result<Place> {
        let crowd = if *who == Who::Nobody { &self.guests } else { &self.certified };
        let place = Crowd::enter(crowd, from.ip());
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
    let place = match is_member {
        true => {
            porch.member_came(from.ip());
            None
        }
        false => Some(porch.admit(&who, from)?),
    };
    let chain = stream.get_ref().1.peer_certificates();
    let standing = chain.map(|chain| Standing::new(keyring.clone(), loaded.clone(), chain));
    // REST has limits of its own for those who show nothing.
    let waits = standing.is_none() && matches!(porch.door, Door::Grpc(_));
    let caller = Caller { who, from: Some(from) };
    Ok(Shielded {
        standing,
        unproven: waits.then(|| Box::pin(tokio::time::sleep(UNPROVEN))),
        ..Shielded::new(Stream::Locked(Box::new(stream)), caller, place)
    })
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
    Ok(Shielded::new(Stream::Local(stream), caller, None))
}

impl Connected for Shielded {
    type ConnectInfo = Arrived;

    fn connect_info(&self) -> Arrived {
        Arrived { caller: self.caller.clone(), proof: self.proof.clone() }
    }
}

impl Shielded {
    fn new(stream: Stream, caller: Caller, place: Option<Place>) -> Self {
        let (standing, unproven, proof) = (None, None, Proof::default());
        Self { stream, caller, standing, unproven, proof, _place: place }
    }

    /// The connection, as long as whoever is at the other end may have it.
    fn stream(self: Pin<&mut Self>, context: &mut Context<'_>) -> io::Result<&mut Stream> {
        let own = self.get_mut();
        if own.standing.as_mut().is_some_and(|standing| !standing.counts()) {
            return Err(io::Error::other("the certificate that was shown counts no more"));
        }
        if own.proof.given() {
            own.unproven = None;
        }
        if let Some(sleep) = &mut own.unproven
            && sleep.as_mut().poll(context).is_ready()
        {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no token was shown in time"));
        }
        Ok(&mut own.stream)
    }
}

impl AsyncRead for Shielded {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.stream(context)? {
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
        match self.stream(context)? {
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
        match self.stream(context)? {
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
        match self.stream(context)? {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Locked(stream) => Pin::new(stream).poll_flush(context),
            Stream::Local(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream(context)? {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Locked(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Local(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use howdah_locks::authority::{CA_LIFETIME, LIFETIME};
    use howdah_locks::{Authority, Identity, Paths, Wanted, files};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_stream::StreamExt;

    use super::*;
    use crate::access::NoTokens;

    fn ring(ca: &Authority, dir: &std::path::Path, role: Role, name: &str) -> Keyring {
        let (paths, hosts) = (Paths::in_dir(&dir.join(name)), vec!["127.0.0.1".to_owned()]);
        let identity = Identity::new("demo", role, name).unwrap();
        ca.issue_into(&Wanted { identity, hosts, lifetime: LIFETIME }, &paths).unwrap();
        Keyring::load(paths, Some("demo")).unwrap()
    }

    #[tokio::test]
    async fn a_connection_ends_when_its_ca_is_believed_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let ca = |name: &str| Authority::create(&dir.path().join(name), name, CA_LIFETIME).unwrap();
        let (ours, next) = (ca("ours"), ca("next"));
        let member = ring(&ours, dir.path(), Role::Member, "n1");
        let operator = ring(&ours, dir.path(), Role::Operator, "ops");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let access = Access::Locked(member.clone());
        let mut arriving = incoming(listener, access, Door::Grpc(Arc::new(NoTokens)));
        let connector = TlsConnector::from(operator.now().client.clone());
        let (name, stream) =
            (ServerName::try_from("n1").unwrap(), TcpStream::connect(address).await.unwrap());
        let mut client = connector.connect(name, stream).await.unwrap();
        let mut server = arriving.next().await.unwrap().unwrap();
        client.write_all(b"a").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'a');
        let both = format!("{}{}", ours.cert(), next.cert());
        for (believed, stays) in [(both.as_str(), true), (next.cert(), false)] {
            files::write(&member.paths().ca, believed, 0o644).unwrap();
            assert!(member.reload().unwrap());
            client.write_all(b"b").await.unwrap();
            assert_eq!(server.read_u8().await.is_ok(), stays, "{stays}");
        }
        let why = server.write_all(b"c").await.unwrap_err().to_string();
        assert!(why.contains("counts no more"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_shows_nothing_is_gone_after_a_while() {
        for shows in [false, true] {
            let (mut client, stream) = UnixStream::pair().unwrap();
            let caller = Caller { who: Who::Nobody, from: None };
            let mut server = Shielded {
                unproven: Some(Box::pin(tokio::time::sleep(UNPROVEN))),
                ..Shielded::new(Stream::Local(stream), caller, None)
            };
            if shows {
                server.proof.give();
            }
            tokio::time::sleep(UNPROVEN * 2).await;
            client.write_all(b"a").await.unwrap();
            match server.read_u8().await {
                Ok(_) => assert!(shows, "somebody stays who showed nothing"),
                Err(why) => assert!(!shows && why.kind() == io::ErrorKind::TimedOut, "{why}"),
            }
        }
    }

    #[test]
    fn where_members_came_from_handshakes_have_places_of_their_own() {
        let porch = Porch::new(Access::Open, Door::Rest);
        let (member, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        porch.member_came(member);
        assert!(Arc::ptr_eq(porch.handshakes_of(member), &porch.members));
        assert!(Arc::ptr_eq(porch.handshakes_of(other), &porch.handshakes));
        for last in 0..=255 {
            porch.member_came(IpAddr::from([10, 0, 1, last]));
        }
        assert_eq!(porch.known().len(), MEMBERS_KNOWN);
    }
}
