//! What a process shows of itself, and whom it believes: CA, certificate and key, as one.
//!
//! Made at the start by agent and command line. [`Keyring::reload`] reads the files anew; what is under way goes on
//! with what it began with. Failure: files that do not fit together are refused as a whole, and the last good ones stay.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::files::{self, CA_CERT, CERT, FileError, KEY};
use crate::identity::{Identity, NotAnIdentity};
use crate::look::{Look, today};
use crate::pair;
use crate::verify::{Clients, Servers, identity};

/// The files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Certificates of the CAs that are believed; more than one while they change.
    pub ca: PathBuf,
    /// The own certificate, and what leads from it to a CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Paths {
    /// A holder's files in its directory, as [`crate::Authority::issue_into`] writes them there.
    pub fn in_dir(dir: &Path) -> Self {
        Self { ca: dir.join(CA_CERT), cert: dir.join(CERT), key: dir.join(KEY) }
    }
}

/// The files are no keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// One of them cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// One of them does not hold what it should.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The certificate names nobody.
    #[error("{}: {why}; issue one with `howdah pki issue`, or have your CA put that name among its URIs", path.display())]
    Nobody {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: NotAnIdentity,
    },
    /// The certificate is somebody else's.
    #[error("{} is of {found}, not of {wanted}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// Who it is.
        found: Identity,
        /// Who it should be.
        wanted: String,
    },
    /// It is not good for a host that others look for.
    #[error("{} is not good for {host}, which the other members look for ({key}); issue it with --host {host}", path.display())]
    Host {
        /// The file.
        path: PathBuf,
        /// The host.
        host: String,
        /// Where that is configured.
        key: &'static str,
    },
    /// It has expired.
    #[error("{} has expired; renew it with `howdah pki renew`", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
    },
}

/// What was read last.
#[derive(Debug)]
pub struct Loaded {
    /// For those who connect with a certificate.
    pub server: Arc<ServerConfig>,
    /// For those too who have none, and show a token with each call.
    pub guests: Arc<ServerConfig>,
    /// For those who come to REST, with a certificate or without.
    pub rest: Arc<ServerConfig>,
    /// To connect with.
    pub client: Arc<ClientConfig>,
    /// Who this is.
    pub identity: Identity,
    /// The own certificate.
    pub cert: Look,
    /// The CA that ends first.
    pub ca: Look,
    /// Whom a server believes.
    clients: Arc<dyn ClientCertVerifier>,
    text: String,
}

/// For how long what somebody showed when a connection began counts on it: as long as his certificate does, and a CA
/// that is believed has issued it. The time is taken from the calendar at the handshake alone, so that a calendar that
/// jumps ends no connection.
#[derive(Debug)]
pub struct Standing {
    keyring: Keyring,
    chain: Vec<CertificateDer<'static>>,
    shaken: UnixTime,
    ends: Option<Instant>,
    /// What was in force when this was last asked.
    seen: Arc<Loaded>,
}

impl Standing {
    /// Of this chain, which `seen` has verified just now.
    pub fn new(keyring: Keyring, seen: Arc<Loaded>, chain: &[CertificateDer<'_>]) -> Self {
        let look = chain.first().and_then(|first| Look::at(first).ok());
        let left = look.map(|look| look.left(today())).unwrap_or_default();
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        let since = today().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let shaken = UnixTime::since_unix_epoch(since);
        // Beyond what the clock can say it counts for ever.
        Self { keyring, chain, shaken, ends: Instant::now().checked_add(left), seen }
    }

    /// Whether it still counts.
    pub fn counts(&mut self) -> bool {
        if self.ends.is_some_and(|ends| Instant::now() >= ends) {
            return false;
        }
        let now = self.keyring.now();
        if !Arc::ptr_eq(&now, &self.seen) {
            let Some((own, between)) = self.chain.split_first() else { return false };
            if now.clients.verify_client_cert(own, between, self.shaken).is_err() {
                return false;
            }
            self.seen = now;
        }
        true
    }
}

/// A keyring. Clones share it.
#[derive(Clone, Debug)]
pub struct Keyring {
    paths: Arc<Paths>,
    loaded: Arc<RwLock<Arc<Loaded>>>,
}

impl Keyring {
    /// Reads it. `scope`, where known, is the cluster that it must be of.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn load(paths: Paths, scope: Option<&str>) -> Result<Self, KeyringError> {
        let loaded = load(&paths)?;
        if scope.is_some_and(|scope| scope != loaded.identity.scope) {
            let wanted = format!("cluster `{}`", scope.unwrap_or_default());
            return Err(KeyringError::Other { path: paths.cert, found: loaded.identity, wanted });
        }
        if loaded.cert.left(today()).is_zero() {
            return Err(KeyringError::Expired { path: paths.cert });
        }
        Ok(Self { paths: Arc::new(paths), loaded: Arc::new(RwLock::new(Arc::new(loaded))) })
    }

    /// What was read last.
    pub fn now(&self) -> Arc<Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files anew; whether something changed.
    ///
    /// # Errors
    /// What is wrong with them; the last good ones stay in force.
    pub fn reload(&self) -> Result<bool, KeyringError> {
        let (fresh, known) = (load(&self.paths)?, self.now());
        if fresh.text == known.text {
            return Ok(false);
        }
        if fresh.identity != known.identity {
            return Err(KeyringError::Other {
                path: self.paths.cert.clone(),
                found: fresh.identity,
                wanted: known.identity.to_string(),
            });
        }
        if fresh.cert.left(today()).is_zero() {
            return Err(KeyringError::Expired { path: self.paths.cert.clone() });
        }
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(true)
    }

    /// Its files.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }
}

/// To connect with to a program that knows nothing of identities, as PostgreSQL: by the chain and the host's name.
///
/// # Errors
/// Which file is wrong, and how.
pub fn of_a_program(paths: &Paths) -> Result<ClientConfig, KeyringError> {
    let content = |path: &PathBuf, why: &dyn std::fmt::Display| KeyringError::Content {
        path: path.clone(),
        why: why.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for der in certificates(&paths.ca, &files::read(&paths.ca)?)? {
        roots.add(der).map_err(|why| content(&paths.ca, &why))?;
    }
    let (cert_text, key_text) = pair::read(paths)?;
    let chain = certificates(&paths.cert, &cert_text)?;
    let key = PrivateKeyDer::from_pem_slice(key_text.as_bytes());
    let key = key.map_err(|why| content(&paths.key, &why))?;
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|why| content(&paths.key, &why))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|why| content(&paths.key, &why))
}

/// Who shows this certificate, whose chain TLS has verified.
pub fn holder(certificate: &CertificateDer<'_>) -> Option<Identity> {
    identity(certificate).ok()
}

/// gRPC.
pub(crate) const H2: &[u8] = b"h2";
/// REST.
const HTTP: &[u8] = b"http/1.1";

fn load(paths: &Paths) -> Result<Loaded, KeyringError> {
    let content = |path: &PathBuf, why: &dyn std::fmt::Display| KeyringError::Content {
        path: path.clone(),
        why: why.to_string(),
    };
    let ca_text = files::read(&paths.ca)?;
    let (cert_text, key_text) = pair::read(paths)?;
    let mut roots = RootCertStore::empty();
    let mut ca: Option<Look> = None;
    for der in certificates(&paths.ca, &ca_text)? {
        let look = Look::at(&der).map_err(|why| content(&paths.ca, &why))?;
        if !look.is_ca {
            return Err(content(&paths.ca, &format!("{} is no CA", look.subject)));
        }
        roots.add(der).map_err(|why| content(&paths.ca, &why))?;
        ca = ca.filter(|known| known.not_after <= look.not_after).or(Some(look));
    }
    let ca = ca.ok_or_else(|| content(&paths.ca, &"there is no certificate in it"))?;
    let chain = certificates(&paths.cert, &cert_text)?;
    let own =
        chain.first().ok_or_else(|| content(&paths.cert, &"there is no certificate in it"))?;
    let cert = Look::at(own).map_err(|why| content(&paths.cert, &why))?;
    let nobody = |why| KeyringError::Nobody { path: paths.cert.clone(), why };
    let identity = cert.identity.clone().map_err(nobody)?;
    let key = PrivateKeyDer::from_pem_slice(key_text.as_bytes());
    let key = key.map_err(|why| content(&paths.key, &format!("no private key in it: {why}")))?;
    let configs = configs(roots, &identity.scope, &chain, &key)
        .map_err(|why| content(&paths.key, &format!("not the key of the certificate: {why}")))?;
    let [server, guests, rest] = configs.servers;
    let (client, clients) = (configs.client, configs.clients);
    // Of the key a hash would do; it is compared within this process alone.
    let text = format!("{ca_text}\n{cert_text}");
    Ok(Loaded { server, guests, rest, client, identity, cert, ca, clients, text })
}

pub(crate) fn certificates(
    path: &Path,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, KeyringError> {
    CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(|why| {
        KeyringError::Content { path: path.to_owned(), why: format!("not PEM: {why}") }
    })
}

/// What one set of files makes.
struct Configs {
    servers: [Arc<ServerConfig>; 3],
    client: Arc<ClientConfig>,
    clients: Arc<dyn ClientCertVerifier>,
}

fn configs(
    roots: RootCertStore,
    scope: &str,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<Configs, String> {
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(roots);
    let inner = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let inner = inner.build().map_err(|why| why.to_string())?;
    let verifier = |mandatory: bool| {
        let (inner, scope) = (inner.clone(), scope.to_owned());
        Arc::new(Clients { inner, scope, mandatory })
    };
    let server = |mandatory: bool, protocol: &[u8]| {
        let clients = verifier(mandatory);
        let told = |why: rustls::Error| why.to_string();
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(told)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.to_vec(), key.clone_key())
            .map_err(told)?;
        server.alpn_protocols = vec![protocol.to_vec()];
        // A resumed session would go on believing what a reload has taken away.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok::<_, String>(Arc::new(server))
    };
    let servers = [server(true, H2)?, server(false, H2)?, server(false, HTTP)?];
    let clients = verifier(true);
    let told = |why: rustls::Error| why.to_string();
    let scope = scope.to_owned();
    let verifier = Arc::new(Servers { roots, scope, provider: provider.clone() });
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(told)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain.to_vec(), key.clone_key())
        .map_err(told)?;
    client.alpn_protocols = vec![H2.to_vec()];
    client.resumption = Resumption::disabled();
    Ok(Configs { servers, client: Arc::new(client), clients })
}
