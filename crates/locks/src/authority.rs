//! A small CA: makes the cluster's own, and issues certificates with it.
//!
//! Called by `howdah pki`, `howdah init` and the demo, by a member that renews its own ([`crate::renewal`]), and by tests.
//! Keys are ECDSA P-256, which every TLS library takes. State: files only. Killed half way: a CA is there when its
//! certificate is; what is issued into files is changed as a pair ([`crate::pair`]).

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::files::{self, FileError};
pub use crate::files::{CA_CERT, CA_KEY};
use crate::identity::{Identity, NotAnIdentity, Role};
use crate::keyring::Paths;
use crate::look::{Look, today};
use crate::pair;

/// What a CA of ours is called, before its cluster.
const SUBJECT: &str = "howdah CA of ";
/// How long a CA of ours lasts.
pub const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long what it issues lasts.
pub const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Clocks differ: it counts from a little before it was made.
pub(crate) const BEFORE: Duration = Duration::from_secs(3600);
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// No certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A CA is there already.
    #[error("{} is there already; whoever has its certificates would be locked out. Move it away, or name another directory", path.display())]
    There {
        /// Its certificate.
        path: PathBuf,
    },
    /// What lies there is no CA.
    #[error("{} cannot issue certificates: {why}", path.display())]
    NoCa {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A host that is neither a name nor an address.
    #[error("`{host}` is no host; write a DNS name or an IP address")]
    Host {
        /// What was given.
        host: String,
    },
    /// A certificate that is to be issued anew names nobody.
    #[error("the certificate names nobody: {0}")]
    Nobody(#[from] NotAnIdentity),
    /// What the library says.
    #[error("the certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// What is to be issued.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// For whom.
    pub identity: Identity,
    /// Hosts under which it is reached; none for people.
    pub hosts: Vec<String>,
    /// For how long.
    pub lifetime: Duration,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

/// A CA that can issue.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: String,
}

impl Authority {
    /// Makes a CA for a cluster, in a directory that has none.
    ///
    /// # Errors
    /// If there is one, or files cannot be written.
    pub fn create(dir: &Path, scope: &str, lifetime: Duration) -> Result<Self, AuthorityError> {
        let (cert_file, key_file) = (dir.join(CA_CERT), dir.join(CA_KEY));
        if cert_file.exists() {
            return Err(AuthorityError::There { path: cert_file });
        }
        let mut params = params(&format!("{SUBJECT}{scope}"), lifetime);
        // It issues no other CA.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?.pem();
        files::make_dir(dir)?;
        // The certificate last: where it stands the CA is whole.
        files::write(&key_file, &key.serialize_pem(), 0o600)?;
        files::write(&cert_file, &cert, 0o644)?;
        Ok(Self { issuer: Issuer::new(params, key), cert })
    }

    /// Takes up the CA of a directory.
    ///
    /// # Errors
    /// If there is none, its key is open to others, or the two do not belong together.
    pub fn load(dir: &Path) -> Result<Self, AuthorityError> {
        Self::of(&dir.join(CA_CERT), &dir.join(CA_KEY))
    }

    /// Takes up a CA by its key; its certificate is one of those in a file.
    ///
    /// # Errors
    /// If none of them belongs to the key or that one may not issue, or the key is open to others.
    pub fn of(certs: &Path, key_file: &Path) -> Result<Self, AuthorityError> {
        let no_ca = |why: &dyn std::fmt::Display| AuthorityError::NoCa {
            path: certs.to_owned(),
            why: why.to_string(),
        };
        let text = files::read(certs)?;
        let key = KeyPair::from_pem(&files::read_key(key_file)?).map_err(|why| {
            AuthorityError::NoCa { path: key_file.to_owned(), why: format!("its key: {why}") }
        })?;
        let (mut own, mut empty) = (None, true);
        for part in text.split_inclusive(PEM_END) {
            let Some(block) = part.find(PEM_BEGIN).map(|at| &part[at..]) else { continue };
            empty = false;
            let der =
                CertificateDer::from_pem_slice(block.as_bytes()).map_err(|why| no_ca(&why))?;
            if belongs(&der, &key) {
                own = Some((der, format!("{block}\n")));
                break;
            }
        }
        if empty {
            return Err(no_ca(&"there is no certificate in it"));
        }
        let (der, cert) =
            own.ok_or_else(|| no_ca(&format!("{} is not its key", key_file.display())))?;
        let look = Look::at(&der).map_err(|why| no_ca(&why))?;
        if !look.is_ca {
            return Err(no_ca(&"its certificate is not a CA's"));
        }
        if look.left(today()).is_zero() {
            return Err(no_ca(&"it has expired"));
        }
        Ok(Self { issuer: Issuer::from_ca_cert_der(&der, key)?, cert })
    }

    /// The cluster that it was made for; none: it is not of [`Authority::create`].
    pub fn scope(&self) -> Option<String> {
        let der = CertificateDer::from_pem_slice(self.cert.as_bytes()).ok()?;
        let look = Look::at(&der).ok()?;
        look.subject.strip_prefix(&format!("CN={SUBJECT}")).map(str::to_owned)
    }

    /// Its certificate, PEM.
    pub fn cert(&self) -> &str {
        &self.cert
    }

    /// Issues a certificate with a fresh key.
    ///
    /// # Errors
    /// If a host is none.
    pub fn issue(&self, wanted: &Wanted) -> Result<Issued, AuthorityError> {
        let Wanted { identity, hosts, lifetime } = wanted;
        let mut params = params(&identity.name, *lifetime);
        let uri = identity.uri().try_into()?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        for host in hosts {
            params.subject_alt_names.push(san(host)?);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if identity.role == Role::Member {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// Issues a certificate into these files, and has its holder believe this CA too. Wherever it is broken off, what
    /// lies there fits together: the old pair, or the new one.
    ///
    /// # Errors
    /// If a host is none, or a file cannot be written.
    pub fn issue_into(&self, wanted: &Wanted, paths: &Paths) -> Result<(), AuthorityError> {
        let issued = self.issue(wanted)?;
        for path in [&paths.ca, &paths.cert, &paths.key] {
            if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                files::make_dir(dir)?;
            }
        }
        // First, as others show certificates of it as well; beside a successor that a person put there it stays.
        let mut known = files::read(&paths.ca).unwrap_or_default();
        if !known.contains(self.cert.trim_end()) {
            if !known.is_empty() && !known.ends_with('\n') {
                known.push('\n');
            }
            files::write(&paths.ca, &format!("{known}{}", self.cert), 0o644)?;
        }
        Ok(pair::write(paths, &issued)?)
    }
}

fn params(name: &str, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = today();
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + lifetime).into();
    params
}

/// Whether a certificate can be good for this host.
///
/// # Errors
/// If it is neither a DNS name nor an IP address.
pub fn check_host(host: &str) -> Result<(), AuthorityError> {
    san(host).map(drop)
}

fn san(host: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let bad = || AuthorityError::Host { host: host.to_owned() };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || host.len() > 253 || !host.chars().all(fits) {
        return Err(bad());
    }
    host.try_into().map(SanType::DnsName).map_err(|_| bad())
}

/// Whether this is the key of that certificate.
fn belongs(cert: &CertificateDer<'_>, key: &KeyPair) -> bool {
    use rcgen::PublicKeyData as _;
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    X509Certificate::from_der(cert)
        .is_ok_and(|(_, cert)| cert.public_key().raw == key.subject_public_key_info())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_is_made_once_and_taken_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        Authority::create(&pki, "demo", CA_LIFETIME).unwrap();
        let again = Authority::create(&pki, "demo", CA_LIFETIME);
        assert!(matches!(again, Err(AuthorityError::There { .. })));
        let ca = Authority::load(&pki).unwrap();
        assert_eq!(ca.scope().as_deref(), Some("demo"));
        let identity = Identity::new("demo", Role::Member, "n1").unwrap();
        let hosts = vec!["10.0.0.1".to_owned(), "n1.example.org".to_owned(), "fd00::1".to_owned()];
        let wanted =
            Wanted { identity: identity.clone(), hosts: hosts.clone(), lifetime: LIFETIME };
        let issued = ca.issue(&wanted).unwrap();
        let look = Look::at(&CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap());
        let look = look.unwrap();
        assert_eq!((look.identity, look.hosts), (Ok(identity), hosts));
        assert!(!look.is_ca && look.issuer.contains("howdah CA of demo"));
        for host in ["", "a b", "a/b", "10.0.0.0/8"] {
            let wanted = Wanted { hosts: vec![host.to_owned()], ..wanted.clone() };
            assert!(matches!(ca.issue(&wanted), Err(AuthorityError::Host { .. })), "{host}");
        }
    }

    #[test]
    fn what_is_no_ca_issues_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        let ca = Authority::create(&one, "demo", CA_LIFETIME).unwrap();
        Authority::create(&other, "demo", CA_LIFETIME).unwrap();
        let why = |dir: &Path| Authority::load(dir).err().unwrap().to_string();
        std::fs::copy(other.join(CA_KEY), one.join(CA_KEY)).unwrap();
        assert!(why(&one).contains("is not its key"), "{}", why(&one));
        let identity = Identity::new("demo", Role::Member, "n1").unwrap();
        let issued = ca.issue(&Wanted { identity, hosts: Vec::new(), lifetime: LIFETIME }).unwrap();
        files::write(&one.join(CA_CERT), &issued.cert, 0o644).unwrap();
        files::write(&one.join(CA_KEY), &issued.key, 0o600).unwrap();
        assert!(why(&one).contains("not a CA's"), "{}", why(&one));
        files::write(&one.join(CA_CERT), "-----BEGIN CERTIFICATE-----\nAA\n", 0o644).unwrap();
        assert!(why(&one).contains("cannot issue"), "{}", why(&one));
        let old = dir.path().join("old");
        Authority::create(&old, "demo", Duration::ZERO).unwrap();
        assert!(why(&old).contains("expired"), "{}", why(&old));
    }

    #[test]
    fn a_ca_is_found_by_its_key_among_those_that_are_believed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let [one, two] =
            ["one", "two"].map(|name| Authority::create(&at(name), "demo", CA_LIFETIME).unwrap());
        // As a person might put them together: a remark, and no line's end at the last one.
        let both = format!("# the old one\n{}{}", one.cert(), two.cert().trim_end());
        files::write(&at("both.crt"), &both, 0o644).unwrap();
        let found = Authority::of(&at("both.crt"), &at("two").join(CA_KEY)).unwrap();
        assert_eq!(found.cert(), two.cert());
        let strange = Authority::of(&at("one").join(CA_CERT), &at("two").join(CA_KEY));
        assert!(strange.err().unwrap().to_string().contains("two/ca.key is not its key"));
        // What it issues believes all that were believed before, each once.
        let identity = Identity::new("demo", Role::Member, "n1").unwrap();
        let wanted = Wanted { identity, hosts: Vec::new(), lifetime: LIFETIME };
        let paths = Paths::in_dir(&at("n1"));
        files::make_dir(&at("n1")).unwrap();
        files::write(&paths.ca, one.cert().trim_end(), 0o644).unwrap();
        found.issue_into(&wanted, &paths).unwrap();
        found.issue_into(&wanted, &paths).unwrap();
        assert_eq!(crate::look::in_file(&paths.ca).unwrap().len(), 2);
    }
}
