//! What a certificate says, for people and for the keyring.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::files::{self, FileError};
use crate::identity::{Identity, NotAnIdentity};

/// What is read of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Who holds it; not said of a CA.
    pub identity: Result<Identity, NotAnIdentity>,
    /// Hosts that it is good for.
    pub hosts: Vec<String>,
    /// Its subject, as its issuer wrote it.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// From when it counts.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
    /// Whether it may issue others.
    pub is_ca: bool,
}

/// Bytes that are no certificate.
#[derive(Debug, thiserror::Error)]
#[error("it cannot be read as a certificate: {why}")]
pub struct NoCertificate {
    /// What is wrong.
    pub why: String,
}

/// A file that holds no certificates.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It holds something else.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// All certificates of a PEM file, at least one.
///
/// # Errors
/// If it cannot be read, or holds none.
pub fn in_file(path: &Path) -> Result<Vec<Look>, LookError> {
    let content = |why: String| LookError::Content { path: path.to_owned(), why };
    let text = files::read(path)?;
    let mut looks = Vec::new();
    for der in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let der = der.map_err(|why| content(why.to_string()))?;
        looks.push(Look::at(&der).map_err(|why| content(why.to_string()))?);
    }
    if looks.is_empty() {
        return Err(content("there is no certificate in it".to_owned()));
    }
    Ok(looks)
}

/// The calendar's time, which certificates are made and judged by. It decides who is let in, never who leads.
#[allow(clippy::disallowed_methods)]
pub fn today() -> SystemTime {
    SystemTime::now()
}

impl Look {
    /// Reads one.
    ///
    /// # Errors
    /// If it is none.
    pub fn at(certificate: &CertificateDer<'_>) -> Result<Self, NoCertificate> {
        let bad = |why: &dyn std::fmt::Display| NoCertificate { why: why.to_string() };
        let (rest, read) = X509Certificate::from_der(certificate).map_err(|why| bad(&why))?;
        if !rest.is_empty() {
            return Err(bad(&"bytes follow it"));
        }
        let names = read.subject_alternative_name().map_err(|why| bad(&why))?;
        let names = names.map(|names| names.value.general_names.clone()).unwrap_or_default();
        let uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        Ok(Self {
            identity: Identity::among(uris),
            hosts: names.iter().filter_map(host).collect(),
            subject: read.subject().to_string(),
            issuer: read.issuer().to_string(),
            not_before: time(read.validity().not_before.timestamp()),
            not_after: time(read.validity().not_after.timestamp()),
            is_ca: read.is_ca(),
        })
    }

    /// Whether it is good for this host: a name, or one with a star before its first dot, or an address.
    pub fn covers(&self, host: &str) -> bool {
        let address = host.parse::<IpAddr>().ok();
        self.hosts.iter().any(|known| match (address, known.strip_prefix("*.")) {
            (Some(address), _) => known.parse() == Ok(address),
            (None, None) => known.eq_ignore_ascii_case(host),
            (None, Some(domain)) => {
                host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain))
            }
        })
    }

    /// How long it still counts; zero: no more.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    /// How long it was made for.
    pub fn lifetime(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }

    /// Whether a new one is due: less than a third of its life is left, or it does not count yet, as one does that was
    /// made while the clock was ahead.
    pub fn is_due(&self, now: SystemTime) -> bool {
        self.left(now) < self.lifetime() / 3 || self.not_before > now
    }
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from).ok();
            let address = v4.or_else(|| <[u8; 16]>::try_from(*bytes).map(IpAddr::from).ok())?;
            Some(address.to_string())
        }
        _ => None,
    }
}

/// Seconds since 1970; before that counts as then.
fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_for_its_hosts_alone() {
        let look = Look {
            identity: Err(NotAnIdentity::Count { count: 0 }),
            hosts: ["10.0.0.1", "fd00::1", "n1.example.org", "*.db.example.org"]
                .map(str::to_owned)
                .into(),
            subject: String::new(),
            issuer: String::new(),
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH,
            is_ca: false,
        };
        for good in
            ["10.0.0.1", "fd00:0::1", "n1.example.org", "N1.Example.org", "x.db.example.org"]
        {
            assert!(look.covers(good), "{good}");
        }
        for bad in
            ["10.0.0.2", "n2.example.org", "db.example.org", "a.b.db.example.org", "", "fd00::2"]
        {
            assert!(!look.covers(bad), "{bad}");
        }
    }
}
