//! The PROXY protocol: who a connection came from, where something stands in between.
//!
//! Source: "The PROXY protocol, versions 1 & 2", HAProxy's documentation.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ppp::v2::{Builder, Command, Protocol, Version};
use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest header that is taken, bytes; with addresses alone it has 52 at most, the rest is for
/// further fields.
const LONGEST: usize = 4096;

/// What the text form begins with.
const TEXT: &[u8] = b"PROXY ";
/// What the binary form begins with.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header in the text form, bytes.
const LONGEST_TEXT: usize = 107;

/// Reads the header that a client must begin with, and what it sent behind it. No address: the
/// connection is the sender's own, as a health check's.
pub async fn receive(
    client: &mut TcpStream,
    limit: Duration,
) -> io::Result<(Option<SocketAddr>, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(256);
    let read = async {
        loop {
            if let Some((source, length)) = parse(&bytes)? {
                return Ok((source, bytes.split_off(length)));
            }
            let mut room = (&mut *client).take((LONGEST - bytes.len()) as u64);
            if room.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    timeout(limit, read).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Source and length; `None`: more is needed.
pub(crate) fn parse(bytes: &[u8]) -> io::Result<Option<(Option<SocketAddr>, usize)>> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "no PROXY header");
    let begins = |mark: &[u8]| bytes.starts_with(mark) || mark.starts_with(bytes);
    let text = begins(TEXT);
    if !text && !begins(BINARY) {
        return Err(invalid());
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut header = bytes;
    if text {
        // What a line lacks is said of it only when it has ended: a port that is not there yet is no wrong one.
        let Some(line) = line(bytes) else {
            return if bytes.len() < LONGEST_TEXT { Ok(None) } else { Err(invalid()) };
        };
        // Whatever follows says nothing, by the protocol; the parser ends it at a line feed.
        if line.starts_with(b"PROXY UNKNOWN ") {
            return Ok(Some((None, line.len())));
        }
        header = line;
    }
    let header = HeaderResult::parse(header);
    match header {
        HeaderResult::V1(Ok(header)) => {
            let source = match header.addresses {
                v1::Addresses::Tcp4(tcp) => {
                    Some(SocketAddr::from((tcp.source_address, tcp.source_port)))
                }
                v1::Addresses::Tcp6(tcp) => {
                    Some(SocketAddr::from((tcp.source_address, tcp.source_port)))
                }
                v1::Addresses::Unknown => None,
            };
            Ok(Some((source, header.header.len())))
        }
        HeaderResult::V2(Ok(header)) => {
            let source = match header.addresses {
                _ if header.command == Command::Local => None,
                v2::Addresses::IPv4(ip) => {
                    Some(SocketAddr::from((ip.source_address, ip.source_port)))
                }
                v2::Addresses::IPv6(ip) => {
                    Some(SocketAddr::from((ip.source_address, ip.source_port)))
                }
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
            };
            Ok(Some((source, header.header.len())))
        }
        ref partial if partial.is_incomplete() && bytes.len() < LONGEST => Ok(None),
        _ => Err(invalid()),
    }
}

/// A header in the text form with its end, if it is there.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let room = &bytes[..bytes.len().min(LONGEST_TEXT)];
    let end = room.windows(2).position(|two| two == b"\r\n")?;
    Some(&room[..end + 2])
}

/// The header for a server: `from` speaks to `to`.
pub fn send(from: SocketAddr, to: SocketAddr) -> io::Result<Vec<u8>> {
    Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, (from, to)).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_no_byte_more() {
        for (from, to) in [("10.0.0.7:40000", "10.0.0.1:5000"), ("[fd::7]:4", "[fd::1]:5")] {
            let from: SocketAddr = from.parse().unwrap();
            let mut bytes = send(from, to.parse().unwrap()).unwrap();
            let length = bytes.len();
            for cut in 0..length {
                assert_eq!(parse(&bytes[..cut]).unwrap(), None, "{cut}");
            }
            bytes.extend(b"\0\0\0\x08more");
            assert_eq!(parse(&bytes).unwrap(), Some((Some(from), length)));
        }
    }

    #[test]
    fn the_text_form_is_read_too_and_anything_else_is_refused() {
        let line = b"PROXY TCP4 10.0.0.7 10.0.0.1 40000 5000\r\n\0\0";
        for cut in 0..line.len() - 2 {
            assert_eq!(parse(&line[..cut]).unwrap(), None, "{cut}");
        }
        assert!(parse(b"PROXY TCP4 10.0.0.7 10.0.0.1 40000 \r\n").is_err());
        assert!(parse(&[b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat()).is_err());
        let source = Some("10.0.0.7:40000".parse().unwrap());
        assert_eq!(parse(line).unwrap(), Some((source, line.len() - 2)));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n").unwrap(), Some((None, 15)));
        let line = b"PROXY UNKNOWN 0: \n f\r3#\r\n";
        assert_eq!(parse(line).unwrap(), Some((None, line.len())), "ends at its end alone");
        assert!(parse(b"PROXY UNKNOWNS\r\n").is_err());
        assert!(parse(b"PROXY TCP4 10.0.0.7 10.0.0.1 40000 5000\r\r\n").is_err());
        assert!(parse(b"\0\0\0\x08\x04\xd2\x16\x2f").is_err());
        assert!(parse(b"GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(parse(b"P \x05O\0P").is_err(), "nothing can make a header of it");
    }
}
