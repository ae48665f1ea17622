//! The guard's end of its one connection. Never blocks: an agent that is stopped must not stop the
//! guard.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::wire::{Ask, FRAME_MAX, Say, decode, encode};

/// The connection to the present agent.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    broken: bool,
}

impl Connection {
    /// A fresh pair: the guard's end, and what the agent inherits.
    pub fn pair() -> std::io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let connection =
            Self { stream: ours, incoming: Vec::new(), outgoing: Vec::new(), broken: false };
        Ok((connection, theirs.into()))
    }

    /// For poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether something waits to be written.
    pub fn wants_to_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the agent closed it, or sent what is no frame.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Puts a message on its way.
    pub fn say(&mut self, message: &Say) {
        self.outgoing.extend(encode(message));
        self.flush();
        // An agent that reads nothing is wedged; its successor gets a connection of its own.
        if self.outgoing.len() > FRAME_MAX * 4 {
            self.broken = true;
        }
    }

    /// Writes what can be written now.
    pub fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(0) => break,
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
    }

    /// Questions that have come in.
    pub fn receive(&mut self) -> Vec<Ask> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.broken = true;
                    break;
                }
                Ok(read) => self.incoming.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        let mut asked = Vec::new();
        loop {
            match decode(&mut self.incoming) {
                Ok(Some(ask)) => asked.push(ask),
                Ok(None) => return asked,
                Err(error) => {
                    crate::say(format_args!("closes the connection to the agent: {error}"));
                    self.broken = true;
                    return asked;
                }
            }
        }
    }
}
