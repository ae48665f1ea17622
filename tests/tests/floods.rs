//! Strangers that come in numbers: the lease keeps its rhythm.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_tests::checks::{Calm, first_acks};
use howdah_tests::cluster::printed;
use howdah_tests::rest::{self, Ask, get};
use howdah_tests::{Cluster, Options, Writer, wait_for};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};

const SETTLE: Duration = Duration::from_secs(60);
/// Each kind goes on for so many renewals.
const RENEWALS: u64 = 8;
/// Threads that come again and again.
const STRANGERS: usize = 4;

/// Threads that do one thing until they are told to stop.
struct Flood {
    stop: Arc<AtomicBool>,
    times: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(come: impl Fn() -> Result<()> + Clone + Send + 'static) -> Self {
        let (stop, times) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = |_| {
            let (stop, times, come) = (stop.clone(), times.clone(), come.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Refused is as good as answered.
                    let _ = come();
                    times.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads = (0..STRANGERS).map(thread).collect();
        Self { stop, times, threads }
    }

    fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("a stranger panicked"))?;
        }
        Ok(self.times.load(Ordering::Relaxed))
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    Ok(stream)
}

/// Says something and waits for the end of the answer.
fn say(address: SocketAddr, text: &[u8]) -> Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(text)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A handshake to its end, without a certificate.
fn shake(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<()> {
    let name = address.ip().to_string().try_into()?;
    let session = ClientConnection::new(config.clone(), name)?;
    let mut stream = StreamOwned::new(session, connect(address)?);
    stream.write_all(b"x")?;
    stream.flush()?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Renewals so far by upper bound of their time, as /metrics tells.
async fn renewals(cluster: &Cluster, leader: usize) -> Result<Vec<(f64, u64)>> {
    let (_, page) = rest::send(&cluster.members[leader], None, get("/metrics")).await?;
    let mut buckets = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("howdah_lease_renew_seconds_bucket")) {
        let bound = line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
        let bound = bound.context("a bound")?.replace("+Inf", "inf").parse()?;
        buckets.push((bound, line.rsplit(' ').next().context("a count")?.parse()?));
    }
    ensure!(!buckets.is_empty(), "no histogram in {} bytes", page.len());
    Ok(buckets)
}

/// Upper bound of the time of 99 of 100 renewals in between, and how many there were.
fn p99(before: &[(f64, u64)], after: &[(f64, u64)]) -> (f64, u64) {
    let count = |nth: usize| after[nth].1 - before[nth].1;
    let all = count(after.len() - 1);
    let nth = (0..after.len()).find(|nth| count(*nth) * 100 >= all * 99).unwrap_or(after.len() - 1);
    (after[nth].0, all)
}

/// A name, and what begins it.
type Kind = (&'static str, Box<dyn Fn() -> Flood>);

/// Whoever says this at a port, again and again.
fn saying(at: SocketAddr, text: impl Into<Vec<u8>>) -> Box<dyn Fn() -> Flood> {
    let text = text.into();
    Box::new(move || {
        let text = text.clone();
        Flood::start(move || say(at, &text))
    })
}

fn kinds(grpc: SocketAddr, rest_at: SocketAddr, config: Arc<ClientConfig>) -> Vec<Kind> {
    let head = "HTTP/1.1\r\nHost: x\r\n";
    let question = format!("GET /cluster {head}Connection: close\r\n\r\n");
    let order = format!("POST /switchover {head}Content-Length: 99999999\r\n\r\n{{");
    let endless = format!("GET / {head}X: {}\r\n", "y".repeat(1 << 20));
    let guess =
        format!("POST /restart {head}Authorization: Basic eDp5\r\nConnection: close\r\n\r\n");
    let silent = move || Flood::start(move || connect(grpc).map(drop));
    let shaking = move || {
        let config = config.clone();
        Flood::start(move || shake(grpc, &config))
    };
    vec![
        ("connections that say nothing, at gRPC", Box::new(silent)),
        ("noise at gRPC", saying(grpc, [0x16; 4096])),
        ("handshakes without certificate", Box::new(shaking)),
        ("questions at REST", saying(rest_at, question)),
        ("orders of nobody at REST", saying(rest_at, order)),
        ("endless heads at REST", saying(rest_at, endless)),
        ("wrong passwords", saying(rest_at, guess)),
    ]
}

#[tokio::test]
async fn floods_at_both_ports_leave_the_lease_its_rhythm() -> Result<()> {
    let options = Options::default();
    let ttl = Duration::from_secs(options.ttl);
    let cluster = Cluster::healthy("floods", options).await?;
    let leader = cluster.leader().await?;
    let calm = Calm::of(&cluster).await?;
    let member = &cluster.members[leader];
    let grpc: SocketAddr = member.control().parse()?;
    let rest_at: SocketAddr = format!("{}:{}", member.host, member.rest_port).parse()?;
    let ca = howdah_tests::keys::authority(&cluster.ground.dir)?;
    let config = rest::client(ca.cert(), None)?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    let kinds = kinds(grpc, rest_at, config);
    for (name, start) in kinds {
        let first = renewals(&cluster, leader).await?;
        let (flood, began) = (start(), Instant::now());
        // Which REST tells all the while.
        let last = wait_for("the leader renews", SETTLE, || async {
            let now = renewals(&cluster, leader).await?;
            let (_, count) = p99(&first, &now);
            ensure!(count >= RENEWALS, "{count} times so far");
            Ok(now)
        })
        .await?;
        let (times, took) = (flood.end()?, began.elapsed());
        let (slow, count) = p99(&first, &last);
        eprintln!("{name}: {times} times, {count} renewals, 99 of 100 within {slow} s");
        // They come every fifth of a ttl.
        let late = took.saturating_sub(ttl / 5 * u32::try_from(count + 1)?);
        ensure!(late < ttl / 4, "{name}: {count} renewals took {took:?}");
        ensure!(slow <= ttl.as_secs_f64() / 4.0, "{name}: renewals took {slow} s");
        ensure!(times > 10, "{name}: came {times} times");
    }
    // Held open, as many as it lets in, and members and operators come all the same.
    let held: Vec<TcpStream> = (0..400).filter_map(|_| connect(rest_at).ok()).collect();
    let silent: Vec<TcpStream> = (0..400).filter_map(|_| connect(grpc).ok()).collect();
    let quorum = cluster.status_of((leader + 1) % 3).await.context("another member")?.quorum;
    ensure!(quorum, "members lost each other");
    // Whoever shares the address of those must wait, but not on the machine itself.
    let file = member.dir.join("howdah.yml");
    printed(cluster.command().env_remove("HOWDAH_KEYS").arg("-c").arg(file).arg("list"))?;
    drop((held, silent));
    wait_for("REST answers again", SETTLE, || async {
        let ask = Ask { method: "GET", path: "/health", body: "", shown: None };
        let (code, _) = rest::send(&cluster.members[leader], None, ask).await?;
        ensure!(code == 200, "{code}");
        Ok(())
    })
    .await?;
    calm.holds(&cluster, &cluster.status().await?)?;
    writer.finish().await;
    cluster.check_logs()
}
