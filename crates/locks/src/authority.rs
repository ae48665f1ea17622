//! A small CA: makes the cluster's own, and issues certificates with it.
//!
//! Called by `howdah pki` and `howdah init`, and by tests. Keys are ECDSA P-256, which every TLS library takes.

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
use crate::identity::{Identity, Role};
use crate::look::{Look, today};

/// The CA's certificate in its directory.
pub const CA_CERT: &str = "ca.crt";
/// Its private key.
pub const CA_KEY: &str = "ca.key";
/// What a CA of ours is called, before its cluster.
const SUBJECT: &str = "howdah CA of ";
/// How long a CA of ours lasts.
pub const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long what it issues lasts.
pub const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Clocks differ: it counts from a little before it was made.
const BEFORE: Duration = Duration::from_secs(3600);

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
        let (cert_file, key_file) = (dir.join(CA_CERT), dir.join(CA_KEY));
        let no_ca = |why: &dyn std::fmt::Display| AuthorityError::NoCa {
            path: cert_file.clone(),
            why: why.to_string(),
        };
        let cert = files::read(&cert_file)?;
        let key = KeyPair::from_pem(&files::read_key(&key_file)?).map_err(|why| {
            AuthorityError::NoCa { path: key_file.clone(), why: format!("its key: {why}") }
        })?;
        let der = CertificateDer::from_pem_slice(cert.as_bytes()).map_err(|why| no_ca(&why))?;
        let look = Look::at(&der).map_err(|why| no_ca(&why))?;
        if !look.is_ca {
            return Err(no_ca(&"its certificate is not a CA's"));
        }
        if look.left(today()).is_zero() {
            return Err(no_ca(&"it has expired"));
        }
        if !belongs(&der, &key) {
            return Err(no_ca(&format!("{} is not its key", key_file.display())));
        }
        Ok(Self { issuer: Issuer::from_ca_cert_pem(&cert, key)?, cert })
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
}
