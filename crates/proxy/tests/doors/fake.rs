//! Servers and clients that speak as much of PostgreSQL's protocol as a door looks at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use howdah_core::{BootInstant, Epoch};
use howdah_proxy::route::{Leader, Picture, Place, PrimaryReads, Unfit};
use howdah_proxy::{Doors, Kind, Limits, Options, gate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(20);

/// What a server does with a client.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Takes it, says its name, and sends back what comes.
    Echo,
    /// Says this, and closes; after so many takes all others.
    Refuse { words: Vec<u8>, times: usize },
    /// Takes it, and talks for ever.
    Talk,
    /// Declines encryption first.
    Decline,
    /// Agrees to it where it is asked for, and sends back what comes from then on.
    Encrypt,
    /// Answers everything behind the startup with these words.
    Say(Vec<u8>),
}

/// A server until dropped.
pub struct Server {
    pub address: SocketAddr,
    /// Connections that came.
    pub came: Arc<AtomicUsize>,
    /// Bytes that a talker could write.
    pub written: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend(body);
    message
}

/// An ErrorResponse or NoticeResponse.
pub fn said(kind: u8, severity: &str, code: &str) -> Vec<u8> {
    message(kind, format!("S{severity}\0V{severity}\0C{code}\0Mso it is\0\0").as_bytes())
}

pub fn startup() -> Vec<u8> {
    let mut packet = 17u32.to_be_bytes().to_vec();
    packet.extend(0x0003_0000u32.to_be_bytes());
    packet.extend(b"user\0a\0\0\0");
    packet.truncate(17);
    packet
}

pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What a server says first, with its name in a parameter.
pub fn greeting(name: &str) -> Vec<u8> {
    let parameter = message(b'S', format!("server\0{name}\0").as_bytes());
    [message(b'R', &[0; 4]), parameter, message(b'Z', b"I")].concat()
}

pub async fn server(name: &'static str, manner: Manner) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, came) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let written = Arc::new(AtomicUsize::new(0));
    let (count, bytes) = (came.clone(), written.clone());
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let number = count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, name, manner.clone(), number, bytes.clone()));
        }
    });
    Server { address, came, written, task }
}

async fn serve(
    mut stream: TcpStream,
    name: &str,
    manner: Manner,
    number: usize,
    written: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    if matches!(manner, Manner::Encrypt) {
        return encrypt(stream).await;
    }
    let mut packet = vec![0; 17];
    if matches!(manner, Manner::Decline) {
        stream.read_exact(&mut packet[..8]).await?;
        stream.write_all(b"N").await?;
    }
    stream.read_exact(&mut packet).await?;
    match &manner {
        Manner::Refuse { words, times } if number < *times => {
            return stream.write_all(words).await;
        }
        _ => stream.write_all(&greeting(name)).await?,
    }
    let mut buffer = vec![0; 4096];
    loop {
        if matches!(manner, Manner::Talk) {
            written.fetch_add(stream.write(&message(b'D', &[7; 4000])).await?, Ordering::SeqCst);
            continue;
        }
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        match &manner {
            Manner::Say(words) => stream.write_all(words).await?,
            _ => stream.write_all(&buffer[..read]).await?,
        }
    }
}

async fn encrypt(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 4096];
    let read = stream.read(&mut buffer).await?;
    match buffer[..read] == SSL_REQUEST {
        true => stream.write_all(b"S").await?,
        false => stream.write_all(&buffer[..read]).await?,
    }
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
}

/// A client behind its startup.
pub async fn client(door: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(door).await.unwrap();
    stream.write_all(&startup()).await.unwrap();
    stream
}

/// What the other side says until it has said `bytes` of them, or closed.
pub async fn hear(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < bytes {
        match tokio::time::timeout(LONG, stream.read_buf(&mut heard)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => {}
            Err(_) => panic!("silence after {heard:?}"),
        }
    }
    heard
}

/// The name of the server that took the client.
pub async fn who(stream: &mut TcpStream) -> String {
    let heard = hear(stream, greeting("n1").len()).await;
    let text = String::from_utf8_lossy(&heard).into_owned();
    let name = text.split('\0').skip_while(|part| !part.ends_with("server")).nth(1);
    name.unwrap_or_else(|| panic!("no greeting: {text:?}")).to_owned()
}

/// A doorful of members: the first leads, the others can be read from.
pub fn picture(epoch: u64, members: &[(&str, SocketAddr)]) -> Picture {
    let leader = members.first().map(|(name, address)| Leader {
        name: (*name).into(),
        address: address.to_string(),
        epoch: Epoch(epoch),
        until: Some(BootInstant(gate::now().0 + 60_000_000_000)),
        open: true,
        why_not: String::new(),
        closing: false,
        behind: Vec::new(),
    });
    let places = members.iter().enumerate().map(|(index, (name, address))| Place {
        name: (*name).into(),
        address: address.to_string(),
        zone: String::new(),
        serves: true,
        unfit: (index == 0).then_some(Unfit::Leads),
    });
    Picture {
        leader,
        why_none: "an election is open for epoch 9".into(),
        members: places.collect(),
        primary_reads: PrimaryReads::Never,
        zone: String::new(),
    }
}

pub fn limits() -> Limits {
    Limits {
        hold_timeout: LONG,
        hold_limit: 1000,
        max_connections: 1000,
        idle_timeout: None,
        accept_proxy_protocol: false,
        send_proxy_protocol: false,
    }
}

/// Doors for writes and for reads, on ports that were free.
pub fn doors(limits: Limits) -> (Doors, SocketAddr, SocketAddr) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = BTreeMap::from([(Kind::Write, any), (Kind::Read, any)]);
    let doors = Doors::open(&Options { listen, limits, threads: 2 }).unwrap();
    let at = |kind| doors.status().into_iter().find(|door| door.kind == kind).unwrap().address;
    let (write, read) = (at(Kind::Write), at(Kind::Read));
    (doors, write, read)
}

/// Until this is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LONG;
    while !so() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// SQLSTATE and detail of an ErrorResponse that a client got, and nothing but that.
pub async fn refused(stream: &mut TcpStream) -> (String, String) {
    let heard = hear(stream, usize::MAX).await;
    assert_eq!(heard.first(), Some(&b'E'), "{}", String::from_utf8_lossy(&heard));
    let field = |kind| {
        let field = howdah_proxy::answer::field(&heard[5..], kind).unwrap_or_default();
        String::from_utf8_lossy(field).into_owned()
    };
    (field(b'C'), field(b'D'))
}
