//! Ports and addresses, as this machine sees them.
//!
//! Place: `howdah config check`. Opens each of the member's ports for a moment and closes it again,
//! and tries to reach the partners; changes nothing. A partner that does not answer is a warning:
//! it may not have been started yet.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::addresses::host_port;
use super::{Config, Finding, Place, Warning};

/// How long one partner may take to accept a connection.
const CONNECT: Duration = Duration::from_millis(1000);

pub(super) fn check(config: &Config, running: bool) -> (Vec<Finding>, Vec<Warning>) {
    let mut network = Network { config, errors: Vec::new(), warnings: Vec::new() };
    if !running {
        network.port("raft.bind_addr", config.raft.bind_addr);
        network.port("restapi.listen", config.restapi.listen);
        for (kind, address) in &config.proxy.listen {
            network.port(&format!("proxy.{}", kind.word()), *address);
        }
        if let Some(address) = config.proxy.agent_check {
            network.port("proxy.agent_check", address);
        }
        network.postgresql();
    }
    network.own_address();
    network.partners();
    (network.errors, network.warnings)
}

struct Network<'a> {
    config: &'a Config,
    errors: Vec<Finding>,
    warnings: Vec<Warning>,
}

impl Network<'_> {
    fn finding(&self, key: &str, what: String, remedy: String) -> Finding {
        let file = self.config.file.clone();
        Finding { file, place: Place::Whole, key: key.to_owned(), what, remedy }
    }

    fn error(&mut self, key: &str, what: String, remedy: String) {
        self.errors.push(self.finding(key, what, remedy));
    }

    fn warn(&mut self, key: &str, what: String, remedy: &str) {
        self.warnings.push(self.finding(key, what, remedy.to_owned()));
    }

    fn postgresql(&mut self) {
        const KEY: &str = "postgresql.listen";
        let port = self.config.postgresql.port;
        for host in self.config.postgresql.listen_hosts.clone() {
            if host == "*" {
                self.port(KEY, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
                continue;
            }
            match (host.as_str(), port).to_socket_addrs() {
                // A name may have addresses of both families; PostgreSQL needs one of them.
                Ok(mut addresses) => {
                    if let Some(address) = addresses.next() {
                        self.port(KEY, address);
                    }
                }
                Err(error) => {
                    let what = format!("`{host}` has no address ({error})");
                    self.error(KEY, what, "write an IP address, or * for all".to_owned());
                }
            }
        }
    }

    fn port(&mut self, key: &str, address: SocketAddr) {
        let Err(error) = TcpListener::bind(address) else { return };
        match error.kind() {
            ErrorKind::AddrInUse => {
                let what = format!("{address} is taken by another program");
                let remedy = format!(
                    "see `ss -ltnp 'sport = :{}'`, and stop it or write another port; if it is \
                     this member itself, say --running",
                    address.port()
                );
                self.error(key, what, remedy);
            }
            ErrorKind::AddrNotAvailable => {
                let what = format!("{} is no address of this machine", address.ip());
                self.error(key, what, "write one that `ip address` shows, or 0.0.0.0".to_owned());
            }
            ErrorKind::PermissionDenied => {
                let what = format!("{address} may not be opened by this user");
                self.error(key, what, "write a port of 1024 or more".to_owned());
            }
            _ => {
                let what = format!("{address} cannot be opened ({error})");
                self.error(key, what, "write another address".to_owned());
            }
        }
    }

    /// The others connect to it; that it is none of ours is odd, though a translated address is.
    fn own_address(&mut self) {
        for (key, text) in [
            ("raft.self_addr", self.config.raft.self_addr.clone()),
            ("postgresql.connect_address", self.config.postgresql.connect_address.to_string()),
            ("restapi.connect_address", self.config.restapi.connect_address.clone()),
        ] {
            match resolved(&text) {
                Err(why) => self.warn(key, why, "correct the name, or let this machine know it"),
                Ok(addresses) if !addresses.iter().any(|address| is_own(address.ip())) => {
                    let what = format!("`{text}` leads to no address of this machine");
                    self.warn(key, what, "correct it, unless addresses are translated on the way");
                }
                Ok(_) => {}
            }
        }
    }

    fn partners(&mut self) {
        const KEY: &str = "raft.partner_addrs";
        let partners = &self.config.raft.partner_addrs;
        let answers: Vec<Result<(), String>> = std::thread::scope(|scope| {
            let tries: Vec<_> =
                partners.iter().map(|partner| scope.spawn(|| reached(partner))).collect();
            let failed = |_| Err("could not be tried".to_owned());
            tries.into_iter().map(|tried| tried.join().unwrap_or_else(failed)).collect()
        });
        for why in answers.into_iter().filter_map(Result::err) {
            self.warn(KEY, why, "correct it, or open the way to it, unless it is not started yet");
        }
    }
}

fn resolved(text: &str) -> Result<Vec<SocketAddr>, String> {
    let at = host_port(text).ok_or_else(|| format!("`{text}` is no address"))?;
    let addresses = (at.host.as_str(), at.port).to_socket_addrs();
    let addresses = addresses.map_err(|error| format!("`{}` has no address ({error})", at.host))?;
    Ok(addresses.collect())
}

fn is_own(ip: IpAddr) -> bool {
    TcpListener::bind(SocketAddr::new(ip, 0)).is_ok()
}

fn reached(partner: &str) -> Result<(), String> {
    let mut last = format!("`{partner}` has no address");
    for address in resolved(partner)? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(_) => return Ok(()),
            Err(error) => last = format!("`{partner}` does not answer ({error})"),
        }
    }
    Err(last)
}
