//! A door for `fuzz/properties`: readers that nothing outside of this crate calls. No interface, and no promise.

use std::io;
use std::net::SocketAddr;

use crate::header;

/// Source, and length, of a PROXY header; `None`: more is needed.
///
/// # Errors
/// If no more bytes can make one of it.
pub fn header(bytes: &[u8]) -> io::Result<Option<(Option<SocketAddr>, usize)>> {
    header::parse(bytes)
}

/// The header that a server gets.
///
/// # Errors
/// As the builder's.
pub fn written(from: SocketAddr, to: SocketAddr) -> io::Result<Vec<u8>> {
    header::send(from, to)
}
