//! What a session that is silent costs in memory: `cargo run --release -p howdah-proxy --example idle`.
//!
//! This program is the door; a server that takes everybody and the clients are processes of their own, so
//! that their memory is not counted. `IDLE` (2000) sessions are opened, one query long, and left alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use howdah_core::{BootInstant, Epoch};
use howdah_proxy::route::{Leader, Picture};
use howdah_proxy::{Doors, Kind, Limits, Options, gate};

type Any = Box<dyn std::error::Error>;

/// A server's first words: the client is in, and may ask.
const GREETING: [u8; 15] = [b'R', 0, 0, 0, 8, 0, 0, 0, 0, b'Z', 0, 0, 0, 5, b'I'];
const STARTUP: [u8; 17] = [0, 0, 0, 17, 0, 3, 0, 0, b'u', b's', b'e', b'r', 0, b'a', 0, 0, 0];

fn main() -> Result<(), Any> {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("server") => server(),
        Some("clients") => clients(&words[2], words[3].parse()?),
        _ => door(),
    }
}

fn door() -> Result<(), Any> {
    let count: usize = std::env::var("IDLE").map_or(Ok(2000), |count| count.parse())?;
    let mut server = child(&["server"])?;
    let address = first_line(&mut server)?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let limits = Limits {
        hold_timeout: Duration::from_secs(30),
        hold_limit: count,
        max_connections: count + 100,
        idle_timeout: None,
        accept_proxy_protocol: false,
        send_proxy_protocol: false,
    };
    let listen = BTreeMap::from([(Kind::Write, any)]);
    let doors = Doors::open(&Options { listen, limits, threads: 2 })?;
    let leader = Leader {
        name: "n1".into(),
        address: address.trim().to_owned(),
        epoch: Epoch(1),
        until: Some(BootInstant(gate::now().0 + 3_600_000_000_000)),
        open: true,
        why_not: String::new(),
        closing: false,
        behind: Vec::new(),
    };
    doors.update(&Picture { leader: Some(leader), ..Picture::default() });
    let open_at = doors.status()[0].address.to_string();
    // What the first sessions need once is not theirs.
    let mut few = child(&["clients", &open_at, "20"])?;
    first_line(&mut few)?;
    let before = resident()?;
    let mut many = child(&["clients", &open_at, &count.to_string()])?;
    first_line(&mut many)?;
    let sessions = doors.status()[0].sessions;
    let grown = resident()?.saturating_sub(before);
    println!(
        "{sessions} sessions, {count} of them new: {grown} kB more, {} bytes each",
        grown * 1024 / count as u64
    );
    for mut one in [server, few, many] {
        one.kill()?;
        one.wait()?;
    }
    Ok(())
}

fn child(words: &[&str]) -> Result<Child, Any> {
    Ok(Command::new(std::env::current_exe()?).args(words).stdout(Stdio::piped()).spawn()?)
}

fn first_line(child: &mut Child) -> Result<String, Any> {
    let mut line = String::new();
    let out = child.stdout.as_mut().ok_or("no output")?;
    BufReader::new(out).read_line(&mut line)?;
    Ok(line)
}

/// Kilobytes of memory that are in use.
fn resident() -> Result<u64, Any> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

fn more_files() -> Result<(), Any> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

fn server() -> Result<(), Any> {
    more_files()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.read_exact(&mut [0; STARTUP.len()])?;
        stream.write_all(&GREETING)?;
        kept.push(stream);
    }
    Ok(())
}

fn clients(address: &str, count: usize) -> Result<(), Any> {
    more_files()?;
    let mut kept = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&STARTUP)?;
        stream.read_exact(&mut [0; GREETING.len()])?;
        kept.push(stream);
    }
    println!("all are in");
    loop {
        std::thread::park();
    }
}
