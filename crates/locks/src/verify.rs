//! Whom TLS believes: a chain to the cluster's CA, and an identity of the same cluster in the certificate itself.
//!
//! The chain is rustls's business. A server's host name is not asked for: a member is known by its name and cluster, which
//! its address may outlive. A client's certificate never makes a server, whatever it says.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::identity::{Identity, NotAnIdentity, Role};

/// Why a certificate with a good chain is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    /// It says nothing.
    #[error("the certificate names nobody: {0}")]
    Nobody(#[from] NotAnIdentity),
    /// It is of another cluster.
    #[error("the certificate is of {found}; this is cluster `{ours}`")]
    OtherCluster {
        /// Who it is.
        found: Identity,
        /// This cluster.
        ours: String,
    },
    /// A person or a program plays a member.
    #[error("the certificate is of {found}, who is no member")]
    NoMember {
        /// Who it is.
        found: Identity,
    },
}

/// What went wrong in a handshake, for people.
pub fn told(error: &Error) -> String {
    if let Error::InvalidCertificate(CertificateError::Other(OtherError(why))) = error {
        return why.to_string();
    }
    error.to_string()
}

fn strange(why: Stranger) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// The identity in a certificate.
pub(crate) fn identity(certificate: &CertificateDer<'_>) -> Result<Identity, Error> {
    let read = webpki::EndEntityCert::try_from(certificate);
    let read = read.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    Identity::among(read.valid_uri_names()).map_err(|why| strange(why.into()))
}

fn of_scope(certificate: &CertificateDer<'_>, scope: &str) -> Result<Identity, Error> {
    let found = identity(certificate)?;
    if found.scope == scope {
        return Ok(found);
    }
    Err(strange(Stranger::OtherCluster { found, ours: scope.to_owned() }))
}

/// Believes members only.
#[derive(Debug)]
pub(crate) struct Servers {
    pub roots: Arc<RootCertStore>,
    pub scope: String,
    pub provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let found = of_scope(end_entity, &self.scope)?;
        if found.role != Role::Member {
            return Err(strange(Stranger::NoMember { found }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Believes whoever is of this cluster.
#[derive(Debug)]
pub(crate) struct Clients {
    pub inner: Arc<dyn ClientCertVerifier>,
    pub scope: String,
    /// Whoever shows nothing is refused; else he is somebody unknown.
    pub mandatory: bool,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        of_scope(end_entity, &self.scope)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
