//! REST: whole requests, to a member that knows of nobody yet.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use howdah_agent::board::Board;
use howdah_agent::clock::SystemClock;
use howdah_agent::config::{Anonymous, Config, RestConfig};
use howdah_agent::counters::Counters;
use howdah_agent::order::Orders;
use howdah_agent::rest::{Rest, router};
use howdah_agent::services::control::Desk;
use howdah_consensus::{Node, Options, Timings as RaftTimings};
use howdah_core::{MemberName, Profile, Settings, Timings};
use howdah_rpc::access::{Caller, NoTokens, Who};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// Codes that an answer may have.
const CODES: [u16; 14] = [200, 202, 400, 401, 403, 404, 405, 412, 413, 409, 422, 501, 502, 503];
/// Largest body that is read, bytes.
const BODY_MAX: usize = 64 << 10;
/// Largest answer to a request that holds little.
const ANSWER_MAX: usize = 1 << 20;

thread_local! {
    /// A member that takes no part in anything, for each thread that asks: as it is by default, and open to everybody.
    static MEMBER: OnceCell<(Runtime, Router, Router)> = const { OnceCell::new() };
}

/// Every request gets an answer of its form, and one that is refused says what to do; who
/// shows nothing gives no orders. The input: `METHOD TARGET`, a line break, and the body; with a `!` before it, it comes from another
/// machine to a member that is not open to everybody.
pub fn rest(bytes: &[u8]) -> bool {
    let (elsewhere, bytes) = match bytes.strip_prefix(b"!") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else { return false };
    let body = bytes.get(end + 1..).unwrap_or_default();
    let Some((method, target)) = line.split_once(' ') else { return false };
    let from = if elsewhere { "10.0.0.9:40000" } else { "127.0.0.1:40000" };
    let from: SocketAddr = from.parse().expect("an address");
    let caller = Caller { who: Who::Nobody, from: Some(from) };
    let request = Request::builder().method(method).uri(target).extension(caller);
    // What is no request never gets here.
    let Ok(request) = request.body(Body::from(body.to_vec())) else { return false };
    let asks = matches!(method, "GET" | "HEAD" | "OPTIONS");
    MEMBER.with(|member| {
        let (runtime, shut, open) = member.get_or_init(begin);
        let router = if elsewhere { shut } else { open };
        runtime.block_on(async {
            let answer = router.clone().oneshot(request).await;
            let answer = answer.unwrap_or_else(|never| match never {});
            judged(answer, asks, elsewhere, body.len()).await
        })
    })
}

async fn judged(answer: Response<Body>, asks: bool, elsewhere: bool, sent: usize) -> bool {
    let code = answer.status().as_u16();
    assert!(CODES.contains(&code), "{code}");
    assert!(asks || !elsewhere || code == 401, "an order from elsewhere: {code}");
    assert!(asks || sent <= BODY_MAX || matches!(code, 400 | 401 | 413), "{sent} bytes: {code}");
    assert_eq!(code == 405, answer.headers().contains_key("allow"));
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    let json = kind.expect("a kind").starts_with("application/json");
    let body = axum::body::to_bytes(answer.into_body(), ANSWER_MAX).await.expect("a body");
    let text = std::str::from_utf8(&body).expect("text");
    if json && !text.is_empty() {
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        if matches!(code, 400 | 401 | 403 | 404 | 405 | 413 | 422 | 501) {
            for part in ["error", "remedy"] {
                assert!(
                    value[part].as_str().is_some_and(|said| !said.is_empty()),
                    "{code}: {text}"
                );
            }
            assert!(value["field"].is_null() || value["field"].is_string(), "{text}");
        }
    }
    matches!(code, 200 | 202)
}

fn configuration() -> Config {
    let text = "scope: demo\nname: n1\ninsecure: true\nraft: {data_dir: /r, self_addr: '127.0.0.1:1', \
                partner_addrs: ['127.0.0.1:2']}\npostgresql: {data_dir: /d, bin_dir: /b}\n";
    Config::from_text("n1.yml".as_ref(), text, 0o600, &Default::default())
        .expect("a configuration")
        .0
}

fn begin() -> (Runtime, Router, Router) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let mut timings =
        Timings::for_profile(Profile::Default, Profile::Default.ttl()).expect("timings");
    let options = Options {
        dir: dir.path().join("raft"),
        scope: "demo".to_owned(),
        member: MemberName::from("n1"),
        self_addr: "127.0.0.1:1".to_owned(),
        partner_addrs: vec!["127.0.0.1:2".to_owned()],
        access: Default::default(),
        timings: RaftTimings {
            heartbeat: timings.heartbeat,
            election_min: timings.election_min,
            election_max: timings.election_max,
            rpc_timeout: timings.rpc_timeout,
            connect_timeout: timings.connect_timeout,
        },
        settings: Settings::default(),
        max_voters: 5,
    };
    let node = runtime.block_on(Node::open(options)).expect("a node");
    // It is never started, and writes nothing any more.
    drop(dir);
    // There will be no leader: nobody waits for one.
    timings.election_max = Duration::ZERO;
    // Nobody takes orders: each is answered by that.
    let (orders, _) = Orders::channel();
    let desk = Desk {
        me: MemberName::from("n1"),
        node: Arc::new(node),
        board: Arc::new(Board::default()),
        orders,
        timings,
        clock: Arc::new(SystemClock),
        counters: Arc::new(Counters::default()),
        data_dir: "/nonexistent".into(),
        configured: tokio::sync::watch::channel(Arc::new(configuration())).1,
    };
    let config = Arc::new(RestConfig {
        listen: "127.0.0.1:8008".parse().expect("an address"),
        connect_address: "127.0.0.1:8008".to_owned(),
        tls: false,
        anonymous: Anonymous::default(),
        authentication: None,
    });
    let shut =
        Rest { desk, tokens: Arc::new(NoTokens), config, insecure: false, teller: Arc::default() };
    let open = Rest { insecure: true, ..shut.clone() };
    (runtime, router(shut), router(open))
}
