//! Configurations of what people put in front of a cluster: HAProxy and PgBouncer. Pure.

use std::fmt::Write as _;

/// A member as a load balancer sees it.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// HOST:PORT of its PostgreSQL.
    pub postgres: String,
    /// Port of its REST API.
    pub rest_port: u16,
}

/// What HAProxy is to do.
#[derive(Clone, Debug)]
pub struct Haproxy {
    /// Name of the cluster.
    pub scope: String,
    /// Its members.
    pub backends: Vec<Backend>,
    /// Where it listens for writes.
    pub write: String,
    /// Where it listens for reads.
    pub read: String,
    /// Most connections to each server.
    pub max_connections: u32,
    /// Port of the members' agent check, where they have one.
    pub agent_port: Option<u16>,
}

/// haproxy.cfg.
pub fn haproxy(wanted: &Haproxy) -> String {
    let most = u64::from(wanted.max_connections) * wanted.backends.len() as u64 * 2;
    let mut text = format!(
        "# HAProxy before cluster {scope}, as it is now: print it again when members come or go.\n\
         global\n    maxconn {most}\n\n\
         defaults\n    mode tcp\n    log global\n    retries 2\n    timeout connect 2s\n    \
         timeout client 30m\n    timeout server 30m\n    timeout queue 30s\n    timeout check 1s\n    \
         option clitcpka\n    option srvtcpka\n    option redispatch\n",
        scope = wanted.scope,
    );
    for (name, bind, path, asks) in [
        ("primary", &wanted.write, "/primary", "primary"),
        ("replicas", &wanted.read, "/replica", "replica"),
    ] {
        let _ = write!(
            text,
            "\nlisten {scope}_{name}\n    bind {bind}\n    option httpchk OPTIONS {path}\n    \
             http-check expect status 200\n",
            scope = wanted.scope,
        );
        if name == "replicas" {
            text.push_str("    balance leastconn\n");
        }
        // Sessions of a server that is no primary any more are worth nothing.
        text.push_str(
            "    default-server inter 1s fastinter 250ms downinter 500ms fall 2 rise 1 \
             on-marked-down shutdown-sessions",
        );
        if let Some(port) = wanted.agent_port {
            let _ = write!(
                text,
                " agent-check agent-port {port} agent-inter 250ms agent-send \"{asks}\\n\""
            );
        }
        text.push('\n');
        for backend in &wanted.backends {
            let _ = writeln!(
                text,
                "    server {} {} maxconn {} check port {}",
                backend.name, backend.postgres, wanted.max_connections, backend.rest_port
            );
        }
    }
    text
}

/// What PgBouncer is to do.
#[derive(Clone, Debug)]
pub struct Pgbouncer {
    /// Host and port of the door that it goes through.
    pub door: (String, String),
    /// Host and port where it listens.
    pub listen: (String, String),
    /// Directory of its socket.
    pub socket_dir: String,
    /// Its file of users and passwords.
    pub auth_file: String,
    /// Who may give it commands.
    pub admin: String,
}

/// pgbouncer.ini.
pub fn pgbouncer(wanted: &Pgbouncer) -> String {
    let (door_host, door_port) = &wanted.door;
    let (host, port) = &wanted.listen;
    let Pgbouncer { socket_dir, auth_file, admin, .. } = wanted;
    format!(
        "; PgBouncer before howdah's door for writes. Have howdah pause it while the primary changes:\n\
         ;   pgbouncer:\n\
         ;     addresses: ['{socket_dir}:{port}']\n\
         ;     username: {admin}\n\
         [databases]\n\
         * = host={door_host} port={door_port}\n\n\
         [pgbouncer]\n\
         listen_addr = {host}\n\
         listen_port = {port}\n\
         unix_socket_dir = {socket_dir}\n\
         auth_type = scram-sha-256\n\
         auth_file = {auth_file}\n\
         admin_users = {admin}\n\
         pool_mode = transaction\n\
         default_pool_size = 20\n\
         max_client_conn = 1000\n\
         ; The door holds a connection for 30 s while there is no primary.\n\
         server_connect_timeout = 35\n\
         server_login_retry = 1\n\
         query_wait_timeout = 60\n\
         ; A server that is gone is noticed.\n\
         tcp_keepalive = 1\n\
         tcp_keepidle = 30\n\
         tcp_keepintvl = 5\n\
         tcp_keepcnt = 3\n\
         ; What drivers set without asking.\n\
         ignore_startup_parameters = extra_float_digits,options\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_stands_in_both_lists_with_its_check() {
        let backend = |name: &str| Backend {
            name: name.into(),
            postgres: format!("{name}:5432"),
            rest_port: 8008,
        };
        let mut wanted = Haproxy {
            scope: "demo".into(),
            backends: vec![backend("n1"), backend("n2")],
            write: "*:5000".into(),
            read: "*:5001".into(),
            max_connections: 100,
            agent_port: None,
        };
        let text = haproxy(&wanted);
        for name in ["n1", "n2"] {
            let line = format!("    server {name} {name}:5432 maxconn 100 check port 8008\n");
            assert_eq!(text.matches(&line).count(), 2, "{text}");
        }
        assert!(text.contains("maxconn 400") && !text.contains("agent-check"), "{text}");
        wanted.agent_port = Some(8009);
        let text = haproxy(&wanted);
        assert!(text.contains("agent-port 8009 agent-inter 250ms agent-send \"replica\\n\""));
    }

    #[test]
    fn pgbouncer_goes_through_the_door() {
        let pair = |host: &str, port: &str| (host.to_owned(), port.to_owned());
        let text = pgbouncer(&Pgbouncer {
            door: pair("127.0.0.1", "5000"),
            listen: pair("127.0.0.1", "6432"),
            socket_dir: "/run/postgresql".into(),
            auth_file: "/etc/pgbouncer/userlist.txt".into(),
            admin: "pgbouncer".into(),
        });
        assert!(text.contains("* = host=127.0.0.1 port=5000\n"), "{text}");
        assert!(text.contains("addresses: ['/run/postgresql:6432']"), "{text}");
    }
}
