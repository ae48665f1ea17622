//! The `restapi` section: where REST listens, whom it answers. Pure but for the file of a password.

use std::net::SocketAddr;

use super::addresses::{checked, host_port, listen};
use super::postgresql::read_role;
use super::reader::Section;
use super::{HostPort, RaftConfig, Secret};

/// REST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestConfig {
    /// Address to bind.
    pub listen: SocketAddr,
    /// HOST:PORT under which others reach it.
    pub connect_address: String,
    /// Spoken through TLS, by the member's certificate.
    pub tls: bool,
    /// What is answered to whoever asks.
    pub anonymous: Anonymous,
    /// An operator's name and password, as Patroni's tools send them.
    pub authentication: Option<BasicAuth>,
}

/// What is answered to whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anonymous {
    /// Health checks, by their code and a few words.
    pub health: bool,
    /// `/metrics`.
    pub metrics: bool,
    /// All questions.
    pub questions: bool,
}

/// A name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

impl Default for Anonymous {
    fn default() -> Self {
        Self { health: true, metrics: true, questions: false }
    }
}

const PORT: u16 = 8008;

pub(super) fn read(top: &Section<'_>, raft: &RaftConfig, has_keys: bool) -> RestConfig {
    let own_host = host_port(&raft.self_addr).map(|own| own.host).unwrap_or_default();
    let mut rest = RestConfig {
        listen: SocketAddr::new(raft.bind_addr.ip(), PORT),
        connect_address: String::new(),
        tls: false,
        anonymous: Anonymous::default(),
        authentication: None,
    };
    if let Some(section) = top.section("restapi") {
        if let Some(address) =
            section.text("listen").and_then(|text| listen(&section, "listen", &text))
        {
            rest.listen = address;
        }
        if let Some(text) = section.text("connect_address") {
            checked(&section, "connect_address", &text);
            rest.connect_address = text;
        }
        rest.tls = section.boolean("tls").unwrap_or(false);
        if rest.tls && !has_keys {
            section.error("tls", "has no certificate", "name the member's in `tls`");
        }
        rest.anonymous = anonymous(&section);
        rest.authentication = authentication(&section);
        section.finish();
    }
    if rest.connect_address.is_empty() {
        let own = HostPort { host: own_host, port: rest.listen.port() };
        rest.connect_address = own.to_string();
    }
    rest
}

fn anonymous(section: &Section<'_>) -> Anonymous {
    let Some(words) = section.list("anonymous") else { return Anonymous::default() };
    let mut open = Anonymous { health: false, metrics: false, questions: false };
    for (word, _) in words {
        match word.as_str() {
            "health" => open.health = true,
            "metrics" => open.metrics = true,
            "questions" => open = Anonymous { health: true, metrics: true, questions: true },
            "none" => {}
            other => {
                let what = format!("`{other}` is nothing that can be asked");
                section.error(
                    "anonymous",
                    what,
                    "list health, metrics or questions; or write none",
                );
            }
        }
    }
    open
}

fn authentication(section: &Section<'_>) -> Option<BasicAuth> {
    let given = section.section("authentication")?;
    let role = read_role(given, "");
    let Some(password) = role.password else {
        let remedy = "write password_file: /etc/howdah/rest.password, or password";
        section.error("authentication", "has no password", remedy);
        return None;
    };
    if role.username.contains(':') {
        section.error("authentication", "has a colon in its username", "HTTP allows none there");
    }
    Some(BasicAuth { username: role.username, password })
}

/// The value of a key as it is in force.
pub(super) fn value(rest: &RestConfig, key: &str) -> Option<String> {
    Some(match key {
        "listen" => rest.listen.to_string(),
        "connect_address" => rest.connect_address.clone(),
        "tls" => rest.tls.to_string(),
        "anonymous" => {
            let Anonymous { health, metrics, questions } = rest.anonymous;
            let words = [("health", health), ("metrics", metrics), ("questions", questions)];
            let open: Vec<&str> =
                words.iter().filter(|(_, open)| *open).map(|(word, _)| *word).collect();
            if open.is_empty() { "none".to_owned() } else { open.join(", ") }
        }
        "authentication.username" => rest.authentication.as_ref()?.username.clone(),
        _ => return None,
    })
}
