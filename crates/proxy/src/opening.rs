//! The first part of a session's life: what a client asks for, and a server that takes it.
//!
//! A server is looked for when the first packet is there, so that whoever only looks whether the port
//! is open costs nothing. What the client sent is kept until the server has answered: one that is
//! about to stop, or not yet open, is left, and the client is led to the next one without noticing.
//! An encrypted session cannot be repeated so, since the door does not understand it.
//!
//! Invariants: at most [`packet::LONGEST`] bytes are read before there is a server; everything here ends by
//! [`STARTUP`] or the door's `hold_timeout`; a refusal is an error of PostgreSQL's protocol, wherever the
//! client can read one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer::{self, CANNOT_CONNECT_NOW, PROTOCOL_VIOLATION, Refusal};
use crate::counters::Counters;
use crate::door::{Door, Kind, Server, Turned, Way};
use crate::frames::Frames;
use crate::packet::{self, First};
use crate::{cancel, connect, header};

/// How long a client may take for each packet before it has a server, as PostgreSQL's own
/// authentication_timeout is a minute.
const STARTUP: Duration = Duration::from_secs(30);
/// How long a server may take for its first answer: it has to fork, and may be busy.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// How long a refusal may take: the client has to send its packet first.
const REFUSING: Duration = Duration::from_secs(5);
/// What one member knows, the others know by then.
const NEWS_TRAVEL: Duration = Duration::from_millis(100);
const BROKE_OFF: &str = "it broke off";
/// Longest first answer that is looked into, bytes.
const ANSWER_MAX: usize = 8192;

/// A client with a server that took it.
pub struct Opened<'a> {
    /// The client.
    pub client: TcpStream,
    /// Its server.
    pub server: Server<'a>,
    /// Follows the server's words, where the session is not encrypted.
    pub frames: Option<Frames>,
    /// What the server said already.
    pub first: Vec<u8>,
}

/// A connection that is being opened.
struct Opening<'a> {
    door: &'a Door,
    counters: &'a Counters,
    client: TcpStream,
    peer: SocketAddr,
    since: Instant,
    /// What the client sent, and nobody took yet.
    sent: Vec<u8>,
    server: Option<Server<'a>>,
}

/// Leads a client to a server. `None`: it wanted something else, was refused, or went.
pub async fn open<'a>(
    door: &'a Door,
    counters: &'a Counters,
    client: TcpStream,
    peer: SocketAddr,
    refusal: Option<Refusal>,
) -> Option<Opened<'a>> {
    let (since, sent) = (Instant::now(), Vec::new());
    let opening = Opening { door, counters, client, peer, since, sent, server: None };
    // If the client broke off, nobody is there to be told.
    opening.run(refusal).await.unwrap_or_default()
}

/// What came of a request for encryption.
enum Encryption {
    /// The server does not encrypt: another packet comes.
    Declined,
    /// What follows is not for the door to read.
    Begun,
    /// There is no server.
    Refused,
}

impl<'a> Opening<'a> {
    async fn run(mut self, refusal: Option<Refusal>) -> io::Result<Option<Opened<'a>>> {
        connect::prepare(&self.client)?;
        if self.door.limits.accept_proxy_protocol {
            let (source, more) = header::receive(&mut self.client, STARTUP).await?;
            (self.peer, self.sent) = (source.unwrap_or(self.peer), more);
        }
        if let Some(refusal) = refusal {
            self.refuse(&refusal).await?;
            return Ok(None);
        }
        loop {
            let (kind, length) = match self.packet().await? {
                Ok(packet) => packet,
                Err(garbage) => {
                    let refusal = Refusal::new(PROTOCOL_VIOLATION, garbage.to_string());
                    self.counters.refuse();
                    self.client.write_all(&refusal.fatal()).await?;
                    return Ok(None);
                }
            };
            match kind {
                First::Cancel => {
                    self.counters.cancel();
                    cancel::pass_on(self.door, &self.sent[..length]).await;
                    return Ok(None);
                }
                First::Encrypt => match self.encrypt().await? {
                    Encryption::Declined => {}
                    Encryption::Begun => return self.encrypted().await,
                    Encryption::Refused => return Ok(None),
                },
                First::Tls => return self.encrypted().await,
                First::Startup => return self.startup().await,
            }
        }
    }

    /// The client's next packet, whole, at the beginning of `sent`.
    async fn packet(&mut self) -> io::Result<Result<(First, usize), packet::Garbage>> {
        let deadline = Instant::now() + STARTUP;
        loop {
            match packet::first(&self.sent) {
                Err(garbage) => return Ok(Err(garbage)),
                Ok(Some((kind, length))) if self.sent.len() >= length => {
                    return Ok(Ok((kind, length)));
                }
                Ok(_) => {}
            }
            let mut room = (&mut self.client).take(packet::LONGEST as u64);
            let read = timeout_at(deadline, room.read_buf(&mut self.sent)).await;
            if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// A server, kept or found. `None`: the client was refused.
    async fn server(&mut self) -> io::Result<Option<Server<'a>>> {
        if let Some(server) = self.server.take() {
            return Ok(Some(server));
        }
        match self.door.server(&self.client, self.since, self.counters).await {
            Ok(mut server) => {
                if self.door.limits.send_proxy_protocol {
                    let header = header::send(self.peer, self.client.local_addr()?)?;
                    server.stream.write_all(&header).await?;
                }
                Ok(Some(server))
            }
            Err(Turned::Gone) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Turned::Away(refusal)) => {
                self.refuse(&refusal).await?;
                Ok(None)
            }
        }
    }

    /// Passes a request for encryption on, and the answer back.
    async fn encrypt(&mut self) -> io::Result<Encryption> {
        loop {
            let Some(mut server) = self.server().await? else {
                return Ok(Encryption::Refused);
            };
            let mut answer = [0];
            let asked = async {
                server.stream.write_all(&self.sent[..8]).await?;
                server.stream.read_exact(&mut answer).await
            };
            if !matches!(timeout(FIRST_ANSWER, asked).await, Ok(Ok(_))) {
                let way = server.let_go();
                if let Some(refusal) = self.again(&way, BROKE_OFF).await? {
                    self.refuse(&refusal).await?;
                    return Ok(Encryption::Refused);
                }
                continue;
            }
            self.sent.drain(..8);
            self.client.write_all(&answer).await?;
            self.server = Some(server);
            return Ok(if answer == *b"N" { Encryption::Declined } else { Encryption::Begun });
        }
    }

    /// A session that the door cannot read.
    async fn encrypted(mut self) -> io::Result<Option<Opened<'a>>> {
        let Some(mut server) = self.server().await? else { return Ok(None) };
        server.stream.write_all(&self.sent).await?;
        let (client, first) = (self.client, Vec::new());
        Ok(Some(Opened { client, server, frames: None, first }))
    }

    /// A session that it can read: the server's first answer is looked at.
    async fn startup(mut self) -> io::Result<Option<Opened<'a>>> {
        loop {
            let Some(mut server) = self.server().await? else { return Ok(None) };
            let mut first = Vec::new();
            let asked = async {
                server.stream.write_all(&self.sent).await?;
                first_answer(&mut server.stream, &mut first).await
            };
            let why = match timeout(FIRST_ANSWER, asked).await {
                Ok(Ok(())) => self.turned_away(&first, &server.way).await,
                _ => Some(BROKE_OFF.to_owned()),
            };
            let Some(why) = why else {
                // Commits are the primary's.
                let frames = (self.door.kind != Kind::Read).then(Frames::default);
                return Ok(Some(Opened { client: self.client, server, frames, first }));
            };
            let way = server.let_go();
            if let Some(refusal) = self.again(&way, &why).await? {
                self.refuse(&refusal).await?;
                return Ok(None);
            }
        }
    }

    /// What a server said that does not take this client now, though it or another one soon may.
    async fn turned_away(&self, first: &[u8], way: &Way) -> Option<String> {
        let body = first.strip_prefix(b"E").and_then(|message| message.get(4..))?;
        let code = answer::field(body, b'C')?;
        let moved = match code {
            code if code == CANNOT_CONNECT_NOW.as_bytes() => true,
            // Clients are kept out by pg_hba.conf until a primary is open, which may be known here a
            // moment later than there. Also a person's own lines say so.
            b"28000" | b"57P01" | b"57P02" => {
                tokio::time::sleep(NEWS_TRAVEL).await;
                !self.door.leads_to(way)
            }
            _ => false,
        };
        let message = answer::field(body, b'M').unwrap_or_default();
        moved.then(|| String::from_utf8_lossy(message).into_owned())
    }

    /// Until it is worth to look for a server again; or why the client is refused.
    async fn again(&mut self, way: &Way, why: &str) -> io::Result<Option<Refusal>> {
        self.counters.repeat();
        let why = format!("{} at {}: {why}", way.name, way.address);
        match self.door.pause(&self.client, self.since, self.counters, &why).await {
            Ok(()) => Ok(None),
            Err(Turned::Away(refusal)) => Ok(Some(refusal)),
            Err(Turned::Gone) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Tells the client; one that wants encryption first is told that there is none, since it could
    /// not read an error now.
    async fn refuse(&mut self, refusal: &Refusal) -> io::Result<()> {
        self.counters.refuse();
        let told = async {
            loop {
                match self.packet().await? {
                    Ok((First::Encrypt, length)) => {
                        self.sent.drain(..length);
                        self.client.write_all(b"N").await?;
                    }
                    Ok((First::Startup, _)) => {
                        return self.client.write_all(&refusal.fatal()).await;
                    }
                    _ => return Ok(()),
                }
            }
        };
        timeout(REFUSING, told).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// Reads until it is clear whether the server refuses, and a refusal whole.
async fn first_answer(server: &mut TcpStream, first: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let header = first.get(1..5).and_then(|four| <[u8; 4]>::try_from(four).ok());
        if let Some(header) = header {
            let whole = 1 + u32::from_be_bytes(header) as usize;
            if first[0] != b'E' || first.len() >= whole.min(ANSWER_MAX) {
                return Ok(());
            }
        }
        if server.read_buf(first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
