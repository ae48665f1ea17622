//! Who has no certificate, and knows the CA of those that he talks to.
//!
//! Place: commands with a token. No state.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};

use crate::files;
use crate::keyring::{H2, KeyringError, certificates};
use crate::verify::Servers;

/// Believes members of one cluster whose certificates a CA issued.
#[derive(Clone, Debug)]
pub struct Visitor(Arc<ClientConfig>);

impl Visitor {
    /// One who believes the CAs of this file, and members of this cluster: a token is not shown to another cluster's,
    /// though the same CA issued their certificates.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load(ca: &Path, scope: &str) -> Result<Self, KeyringError> {
        let content = |why: &dyn std::fmt::Display| KeyringError::Content {
            path: ca.to_owned(),
            why: why.to_string(),
        };
        let mut roots = RootCertStore::empty();
        for der in certificates(ca, &files::read(ca)?)? {
            roots.add(der).map_err(|why| content(&why))?;
        }
        if roots.is_empty() {
            return Err(content(&"there is no certificate in it"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (roots, scope) = (Arc::new(roots), scope.to_owned());
        let verifier = Servers { roots, scope, provider: provider.clone() };
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| content(&why))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        client.alpn_protocols = vec![H2.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self(Arc::new(client)))
    }

    /// To connect with.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}
