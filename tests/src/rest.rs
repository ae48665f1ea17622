//! REST as somebody asks it: in the clear or through TLS, with or without something to show.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use howdah_locks::{Paths, keyring};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::member::Member;

/// Name and password in each member's `restapi.authentication`.
pub const USER: &str = "ops";
/// The password.
pub const PASSWORD: &str = "rest-for-tests-only";
/// Both, as HTTP has them.
pub const BASIC: &str = "Basic b3BzOnJlc3QtZm9yLXRlc3RzLW9ubHk=";

const ANSWER: Duration = Duration::from_secs(40);

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// GET ...
    pub method: &'a str,
    /// Path and parameters.
    pub path: &'a str,
    /// What goes with it.
    pub body: &'a str,
    /// `Authorization`.
    pub shown: Option<&'a str>,
}

/// A question without anything to show.
pub fn get(path: &str) -> Ask<'_> {
    Ask { method: "GET", path, body: "", shown: None }
}

/// What a client of TLS has.
///
/// # Errors
/// If files cannot be read.
pub fn client(ca: &str, keys: Option<&Paths>) -> Result<Arc<ClientConfig>> {
    if let Some(paths) = keys {
        return Ok(Arc::new(keyring::of_a_program(paths)?));
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let provider = Arc::new(crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Code and body of one request.
///
/// # Errors
/// If there is no answer.
pub async fn send(
    member: &Member,
    tls: Option<Arc<ClientConfig>>,
    ask: Ask<'_>,
) -> Result<(u16, String)> {
    let stream = TcpStream::connect((member.host.as_str(), member.rest_port)).await?;
    let exchanged = async {
        match tls {
            None => exchange(stream, ask).await,
            Some(config) => {
                let name = ServerName::try_from(member.host.clone())?;
                exchange(TlsConnector::from(config).connect(name, stream).await?, ask).await
            }
        }
    };
    tokio::time::timeout(ANSWER, exchanged).await.context("no answer in time")?
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    ask: Ask<'_>,
) -> Result<(u16, String)> {
    let Ask { method, path, body, shown } = ask;
    let length = body.len();
    let shown = shown.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{shown}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    // Without TLS's own goodbye an answer is whole all the same: it says its length.
    let read = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if answer.is_empty() {
        read?;
    }
    let code = answer.split(' ').nth(1).context("a status line")?.parse()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    Ok((code, body.unwrap_or_default()))
}
