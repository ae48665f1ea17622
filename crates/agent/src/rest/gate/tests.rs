//! Every kind of request from every kind of person, over every kind of connection, against a written table.

use std::net::SocketAddr;

use axum::http::HeaderValue;

use super::*;
use crate::config::Secret;

struct Known;

impl Tokens for Known {
    fn any(&self) -> bool {
        true
    }

    fn holder(&self, token: &str) -> Option<Person> {
        let role = match token {
            "v" => Role::Viewer,
            "o" => Role::Operator,
            _ => return None,
        };
        Some(Person { role, name: "robot".into(), by: By::Token })
    }
}

const HERE: &str = "127.0.0.1:9";
const THERE: &str = "10.0.0.9:9";
const OPERATOR: &str = "Basic b3BzOmh1bnRlcjI="; // ops:hunter2
const WRONG: &str = "Basic b3BzOmh1bnRlcjM=";

fn code(
    who: Who,
    from: &str,
    shown: Option<&str>,
    private: bool,
    anonymous: Anonymous,
    about: About,
) -> u16 {
    let password = BasicAuth { username: "ops".into(), password: Secret::new("hunter2") };
    let gate = Gate { tokens: &Known, password: Some(&password), anonymous, private };
    let mut headers = HeaderMap::new();
    if let Some(shown) = shown {
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(shown).unwrap());
    }
    let from: SocketAddr = from.parse().unwrap();
    match gate.admit(Caller { who, from: Some(from) }, about, &headers) {
        Ok(_) => 200,
        Err(refused) => refused.answer.code,
    }
}

/// Health, metrics, a question, an order.
const ALL: [About; 4] = [About::Health, About::Metrics, About::Question, About::Order];

/// Name, who, from where, what is shown, whether through TLS, and what comes of each of `ALL`.
type Row<'r> = (&'r str, Who, &'r str, Option<&'r str>, bool, [u16; 4]);

#[test]
fn who_may_what() {
    let by = |role| Who::Known(Person { role, name: "x".into(), by: By::Certificate });
    // Who, from where, what is shown, through TLS: what comes of health, metrics, a question, an order.
    let table: &[Row] = &[
        ("nobody, there", Who::Nobody, THERE, None, false, [200, 200, 401, 401]),
        ("nobody, there, TLS", Who::Nobody, THERE, None, true, [200, 200, 401, 401]),
        ("nobody, here", Who::Nobody, HERE, None, false, [200, 200, 200, 401]),
        ("nobody, here, IPv6", Who::Nobody, "[::1]:9", None, false, [200, 200, 200, 401]),
        ("nobody, mapped", Who::Nobody, "[::ffff:127.0.0.1]:9", None, false, [200, 200, 200, 401]),
        ("insecure", Who::Anybody, THERE, None, false, [200, 200, 200, 200]),
        ("viewer's certificate", by(Role::Viewer), THERE, None, true, [200, 200, 200, 403]),
        ("operator's certificate", by(Role::Operator), THERE, None, true, [200, 200, 200, 200]),
        ("admin's certificate", by(Role::Admin), THERE, None, true, [200, 200, 200, 200]),
        ("member's certificate", by(Role::Member), THERE, None, true, [200, 200, 200, 200]),
        ("viewer's token", Who::Nobody, THERE, Some("Bearer v"), true, [200, 200, 200, 403]),
        ("operator's token", Who::Nobody, THERE, Some("Bearer o"), true, [200, 200, 200, 200]),
        ("revoked token", Who::Nobody, THERE, Some("Bearer x"), true, [200, 200, 401, 401]),
        ("no token", Who::Nobody, THERE, Some("Bearer "), true, [200, 200, 401, 401]),
        ("token in the clear", Who::Nobody, THERE, Some("Bearer o"), false, [200, 200, 403, 403]),
        (
            "token in the clear, here",
            Who::Nobody,
            HERE,
            Some("Bearer o"),
            false,
            [200, 200, 200, 200],
        ),
        ("revoked token, here", Who::Nobody, HERE, Some("Bearer x"), false, [200, 200, 200, 401]),
        ("password", Who::Nobody, THERE, Some(OPERATOR), true, [200, 200, 200, 200]),
        ("password in the clear", Who::Nobody, THERE, Some(OPERATOR), false, [200, 200, 403, 403]),
        ("wrong password", Who::Nobody, THERE, Some(WRONG), true, [200, 200, 401, 401]),
        ("no scheme", Who::Nobody, THERE, Some("hunter2"), true, [200, 200, 401, 401]),
        (
            "token beside a viewer's certificate",
            by(Role::Viewer),
            THERE,
            Some("Bearer o"),
            true,
            [200, 200, 200, 403],
        ),
    ];
    for (name, who, from, shown, private, expected) in table {
        let found =
            ALL.map(|about| code(who.clone(), from, *shown, *private, Anonymous::default(), about));
        assert_eq!(found, *expected, "{name}");
    }
}

#[test]
fn what_is_open_is_said_by_the_configuration_and_orders_never_are() {
    for (health, metrics, questions) in
        [(false, false, false), (true, false, false), (true, true, true)]
    {
        let open = Anonymous { health, metrics, questions };
        let found = ALL.map(|about| code(Who::Nobody, THERE, None, true, open, about));
        let of = |open| if open { 200 } else { 401 };
        assert_eq!(found, [of(health), of(metrics), of(questions), 401], "{open:?}");
    }
}

#[test]
fn a_wrong_secret_waits_and_a_missing_one_does_not() {
    let password = BasicAuth { username: "ops".into(), password: Secret::new("hunter2") };
    let anonymous = Anonymous::default();
    let gate = Gate { tokens: &Known, password: Some(&password), anonymous, private: true };
    let guessed = |shown: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        if let Some(shown) = shown {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(shown));
        }
        let caller = Caller { who: Who::Nobody, from: Some(THERE.parse().unwrap()) };
        let refused = gate.admit(caller, About::Order, &headers).unwrap_err();
        assert!(refused.answer.authenticate, "{refused:?}");
        refused.guessed
    };
    assert!(guessed(Some(WRONG)) && guessed(Some("Bearer x")) && !guessed(None));
}

#[test]
fn whoever_is_not_known_hears_briefly() {
    let anonymous = Anonymous::default();
    let gate = Gate { tokens: &Known, password: None, anonymous, private: false };
    let brief = |from: &str, about| {
        let caller = Caller { who: Who::Nobody, from: Some(from.parse().unwrap()) };
        gate.admit(caller, about, &HeaderMap::new()).unwrap().brief
    };
    assert!(brief(THERE, About::Health) && !brief(HERE, About::Health));
    assert!(!brief(THERE, About::Metrics));
    let answer = Answer::json(503, serde_json::json!({"state": "running", "replication": ["x"]}));
    assert_eq!(answer.briefly().body, r#"{"state":"running"}"#);
}

#[test]
fn each_path_is_about_something() {
    let of = |method: Method, path| About::of(&method, path);
    for path in ["", "primary", "replica", "master/x", "liveness", "writable", "health"] {
        assert_eq!(of(Method::GET, path), About::Health, "{path}");
        assert_eq!(of(Method::OPTIONS, path), About::Health, "{path}");
        assert_eq!(of(Method::POST, path), About::Order, "{path}");
    }
    for path in ["patroni", "cluster", "history", "config", "events", "explain", "no-such-path"] {
        assert_eq!(of(Method::HEAD, path), About::Question, "{path}");
    }
    assert_eq!(of(Method::GET, "metrics"), About::Metrics);
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE] {
        assert_eq!(of(method.clone(), "switchover"), About::Order, "{method}");
    }
}
