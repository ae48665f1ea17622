//! Who is let in, and whom one goes to: every pair that must fail, and those that must not.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use howdah_locks::authority::{CA_LIFETIME, LIFETIME};
use howdah_locks::keyring::{Standing, holder};
use howdah_locks::{Authority, Identity, Keyring, KeyringError, Paths, Role, Wanted, files, told};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConnection};

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// The CA of this name, made where it is not there.
    fn ca(&self, name: &str) -> Authority {
        let dir = self.dir.path().join(name);
        Authority::load(&dir).or_else(|_| Authority::create(&dir, name, CA_LIFETIME)).unwrap()
    }

    /// Files of this holder, by this CA, who believes that CA.
    fn paths(&self, ca: &str, believes: &str, identity: &Identity, lifetime: Duration) -> Paths {
        let (ours, theirs) = (self.ca(ca), self.ca(believes));
        let hosts = vec!["127.0.0.1".to_owned()];
        let issued = ours.issue(&Wanted { identity: identity.clone(), hosts, lifetime }).unwrap();
        let dir = self
            .dir
            .path()
            .join(format!("{ca}-{}-{}-{}", identity.scope, identity.role, identity.name));
        std::fs::create_dir_all(&dir).unwrap();
        let at = |name: &str| dir.join(name);
        files::write(&at("ca.crt"), theirs.cert(), 0o644).unwrap();
        files::write(&at("tls.crt"), &issued.cert, 0o644).unwrap();
        files::write(&at("tls.key"), &issued.key, 0o600).unwrap();
        Paths { ca: at("ca.crt"), cert: at("tls.crt"), key: at("tls.key") }
    }

    fn ring(&self, ca: &str, believes: &str, scope: &str, role: Role, name: &str) -> Keyring {
        let identity = Identity::new(scope, role, name).unwrap();
        Keyring::load(self.paths(ca, believes, &identity, LIFETIME), Some(scope)).unwrap()
    }
}

/// Bytes from one end to the other; the error of whoever finds one.
fn pump<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> Result<(), String> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets().map_err(|why| told(&why))?;
    }
    Ok(())
}

/// Shakes hands in memory: who the server thinks the client is.
fn shake(client: &Arc<ClientConfig>, server: &Keyring) -> Result<Option<Identity>, String> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.now().server.clone()).unwrap();
    for _ in 0..10 {
        pump(&mut client, &mut server)?;
        pump(&mut server, &mut client)?;
        if !client.is_handshaking() && !server.is_handshaking() {
            pump(&mut client, &mut server)?;
            let shown = server.peer_certificates().and_then(|chain| chain.first().cloned());
            return Ok(shown.as_ref().and_then(holder));
        }
    }
    Err("no end".into())
}

#[test]
fn only_a_chain_and_an_identity_of_this_cluster_open() {
    let bench = Bench::new();
    let member = bench.ring("ours", "ours", "demo", Role::Member, "n1");
    let ring = |ca, believes, scope, role| bench.ring(ca, believes, scope, role, "other");
    for role in Role::ALL {
        let client = ring("ours", "ours", "demo", role);
        let seen = shake(&client.now().client, &member).unwrap().unwrap();
        assert_eq!((seen.role, seen.name.as_str()), (role, "other"));
    }
    // The client, and what must stand in why it is not let in, or does not go there itself.
    let wrong = [
        (ring("theirs", "ours", "demo", Role::Member), "UnknownIssuer", None),
        (
            ring("ours", "ours", "prod", Role::Member),
            "of member other of prod",
            Some("of member n1 of demo"),
        ),
        (
            ring("ours", "ours", "prod", Role::Admin),
            "of admin other of prod",
            Some("of member n1 of demo"),
        ),
        (ring("ours", "theirs", "demo", Role::Operator), "UnknownIssuer", Some("UnknownIssuer")),
    ];
    for (client, refused, stays_away) in wrong {
        let told = shake(&client.now().client, &member).unwrap_err();
        assert!(told.contains(stays_away.unwrap_or(refused)), "{told}");
        if client.paths().ca.to_string_lossy().contains("operator") {
            continue;
        }
        // One that goes anywhere whose chain it knows is refused by the member.
        let told = shake(&careless(client.paths()), &member).unwrap_err();
        assert!(told.contains(refused), "{told}");
    }
}

/// A client that looks at the chain and the address alone.
fn careless(paths: &Paths) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pem = |path: &Path| std::fs::read(path).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem(&paths.ca)).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&pem(&paths.cert)).unwrap()];
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&pem(&paths.key)).unwrap())
        .unwrap();
    client.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(client)
}

#[test]
fn whoever_shows_nothing_is_not_let_in() {
    let bench = Bench::new();
    let member = bench.ring("ours", "ours", "demo", Role::Member, "n1");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let pem = bench.ca("ours").cert().to_owned();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let mut silent = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    silent.alpn_protocols = vec![b"h2".to_vec()];
    let told = shake(&Arc::new(silent), &member).unwrap_err();
    assert!(told.contains("no certificates"), "{told}");
}

#[test]
fn a_client_is_no_server() {
    let bench = Bench::new();
    let client = bench.ring("ours", "ours", "demo", Role::Member, "n1");
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        let false_member = bench.ring("ours", "ours", "demo", role, "mallory");
        let told = shake(&client.now().client, &false_member).unwrap_err();
        assert!(told.contains("extended key usage"), "{told}");
    }
}

#[test]
fn one_that_expires_is_let_in_no_more() {
    let bench = Bench::new();
    let identity = Identity::new("demo", Role::Member, "n2").unwrap();
    let member = bench.ring("ours", "ours", "demo", Role::Member, "n1");
    let paths = bench.paths("ours", "ours", &identity, Duration::from_secs(2));
    let short = Keyring::load(paths.clone(), Some("demo")).unwrap();
    shake(&short.now().client, &member).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(10);
    let told = loop {
        match shake(&short.now().client, &member) {
            Err(told) => break told,
            Ok(_) => assert!(std::time::Instant::now() < until, "it never ends"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(told.contains("xpired"), "{told}");
    assert!(matches!(Keyring::load(paths, None), Err(KeyringError::Expired { .. })));
}

#[test]
fn a_reload_takes_what_is_whole_and_of_the_same_holder() {
    let bench = Bench::new();
    let identity = Identity::new("demo", Role::Member, "n1").unwrap();
    let paths = bench.paths("ours", "ours", &identity, LIFETIME);
    let ring = Keyring::load(paths.clone(), Some("demo")).unwrap();
    let before = ring.now();
    assert!(!ring.reload().unwrap());
    // The key of another certificate.
    let good = std::fs::read_to_string(&paths.cert).unwrap();
    let stranger = Identity::new("demo", Role::Member, "n9").unwrap();
    let other = bench.paths("ours", "ours", &stranger, LIFETIME);
    std::fs::copy(&other.cert, &paths.cert).unwrap();
    let why = ring.reload().unwrap_err().to_string();
    assert!(why.contains("not the key"), "{why}");
    // Whole, and somebody else's.
    let key = std::fs::read_to_string(&paths.key).unwrap();
    std::fs::copy(&other.key, &paths.key).unwrap();
    assert!(matches!(ring.reload(), Err(KeyringError::Other { .. })));
    files::write(&paths.key, &key, 0o600).unwrap();
    files::write(&paths.cert, &good, 0o644).unwrap();
    assert!(!ring.reload().unwrap());
    assert!(Arc::ptr_eq(&before, &ring.now()));
    // A new CA beside the old one, and a new certificate by it.
    let both = format!("{}{}", bench.ca("ours").cert(), bench.ca("next").cert());
    files::write(&paths.ca, &both, 0o644).unwrap();
    assert!(ring.reload().unwrap());
    let by_next = bench.ring("next", "next", "demo", Role::Operator, "ops");
    assert!(shake(&by_next.now().client, &ring).unwrap_err().contains("UnknownIssuer"));
    let fresh = bench.paths("next", "ours", &identity, LIFETIME);
    std::fs::copy(&fresh.cert, &paths.cert).unwrap();
    std::fs::copy(&fresh.key, &paths.key).unwrap();
    assert!(ring.reload().unwrap());
    let seen = shake(&by_next.now().client, &ring).unwrap().unwrap();
    assert_eq!(seen.role, Role::Operator);
}

fn standing(of: &Paths, ring: &Keyring) -> Standing {
    let chain = std::fs::read(&of.cert).unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).map(Result::unwrap).collect();
    Standing::new(ring.clone(), ring.now(), &chain)
}

#[test]
fn what_was_shown_counts_until_its_ca_is_taken_out() {
    let bench = Bench::new();
    let identity = Identity::new("demo", Role::Member, "n1").unwrap();
    let paths = bench.paths("ours", "ours", &identity, LIFETIME);
    let ring = Keyring::load(paths.clone(), Some("demo")).unwrap();
    let ops = Identity::new("demo", Role::Operator, "ops").unwrap();
    let mut shown = standing(&bench.paths("ours", "ours", &ops, LIFETIME), &ring);
    assert!(shown.counts());
    // A successor beside it changes nothing.
    let (ours, next) = (bench.ca("ours").cert().to_owned(), bench.ca("next").cert().to_owned());
    files::write(&paths.ca, &format!("{ours}{next}"), 0o644).unwrap();
    assert!(ring.reload().unwrap());
    assert!(shown.counts());
    files::write(&paths.ca, &next, 0o644).unwrap();
    assert!(ring.reload().unwrap());
    assert!(!shown.counts());
    files::write(&paths.ca, &ours, 0o644).unwrap();
    assert!(ring.reload().unwrap());
    assert!(shown.counts());
}

#[test]
fn what_was_shown_counts_until_it_ends() {
    let bench = Bench::new();
    let ring = bench.ring("ours", "ours", "demo", Role::Member, "n1");
    let ops = Identity::new("demo", Role::Operator, "ops").unwrap();
    let paths = bench.paths("ours", "ours", &ops, Duration::from_secs(2));
    let mut shown = standing(&paths, &ring);
    assert!(shown.counts());
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while shown.counts() {
        assert!(std::time::Instant::now() < until, "it never ends");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn bad_files_are_told_by_name() {
    let bench = Bench::new();
    let identity = Identity::new("demo", Role::Member, "n1").unwrap();
    let whole = bench.paths("ours", "ours", &identity, LIFETIME);
    let at = |name: &str| bench.dir.path().join(name);
    let file = |name: &str, text: &str| -> PathBuf {
        files::write(&at(name), text, 0o600).unwrap();
        at(name)
    };
    let told = |paths: &Paths| Keyring::load(paths.clone(), Some("demo")).unwrap_err().to_string();
    let cases = [
        (Paths { ca: at("gone"), ..whole.clone() }, "gone"),
        (Paths { ca: file("empty", ""), ..whole.clone() }, "no certificate in it"),
        (Paths { ca: file("half", "-----BEGIN CERTIFICATE-----\nMII"), ..whole.clone() }, "half"),
        (Paths { ca: whole.cert.clone(), ..whole.clone() }, "is no CA"),
        (Paths { cert: file("text", "hello"), ..whole.clone() }, "no certificate in it"),
        (Paths { key: file("nokey", "hello"), ..whole.clone() }, "no private key"),
        (Paths { cert: ca_file(bench.dir.path()), ..whole.clone() }, "names of the form"),
    ];
    for (paths, why) in cases {
        assert!(told(&paths).contains(why), "{}", told(&paths));
    }
    let scope = Keyring::load(whole, Some("prod")).unwrap_err().to_string();
    assert!(scope.contains("is of member n1 of demo, not of cluster `prod`"), "{scope}");
}

fn ca_file(dir: &Path) -> PathBuf {
    dir.join("ours/ca.crt")
}
