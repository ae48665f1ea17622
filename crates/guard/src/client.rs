//! The agent's end of the connection: questions from any thread, answers by a reader thread.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::libc;

use crate::wire::{Ask, Event, Reply, Request, Say, decode, encode};

/// Environment variable that names the inherited socket.
pub const SOCKET_VARIABLE: &str = "HOWDAH_GUARD_FD";

/// A question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum GuardCallError {
    /// Not in time.
    #[error("the guard did not answer within {0:?}")]
    TimedOut(Duration),
    /// The connection is closed: the guard ended, or started another agent.
    #[error("the guard is gone")]
    Gone,
    /// There is no connection.
    #[error("{SOCKET_VARIABLE} names no socket; the agent is started by `howdah run` only")]
    NoSocket,
}

type Waiting = Arc<Mutex<(bool, BTreeMap<u64, Sender<Reply>>)>>;

/// Asks the guard. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GuardClient {
    stream: Arc<Mutex<(u64, UnixStream)>>,
    waiting: Waiting,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GuardClient {
    /// The connection that the guard handed over, and what it says unasked.
    ///
    /// # Errors
    /// `NoSocket` if this process was not started by a guard.
    pub fn from_env() -> Result<(Self, Receiver<Event>), GuardCallError> {
        let text = std::env::var(SOCKET_VARIABLE).map_err(|_| GuardCallError::NoSocket)?;
        let fd: RawFd = text.parse().map_err(|_| GuardCallError::NoSocket)?;
        // SAFETY: F_GETFD has no memory effects; an fd that is not open is an error.
        if fd < 3 || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(GuardCallError::NoSocket);
        }
        // SAFETY: the descriptor is open, was inherited for this purpose, and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Self::connect(socket)
    }

    /// A client on an open socket.
    ///
    /// # Errors
    /// `Gone` if the socket cannot be used.
    pub fn connect(socket: OwnedFd) -> Result<(Self, Receiver<Event>), GuardCallError> {
        let stream = UnixStream::from(socket);
        let reader = stream.try_clone().map_err(|_| GuardCallError::Gone)?;
        let (events, received) = channel();
        let waiting = Waiting::default();
        let answers = waiting.clone();
        std::thread::spawn(move || read(reader, &answers, &events));
        let stream = Arc::new(Mutex::new((0, stream)));
        Ok((Self { stream, waiting }, received))
    }

    /// Asks and waits for the answer. Blocks the calling thread.
    ///
    /// # Errors
    /// `GuardCallError` if none comes in time.
    pub fn call(&self, request: Request, timeout: Duration) -> Result<Reply, GuardCallError> {
        let (answer, answered) = channel();
        let id = {
            let mut stream = lock(&self.stream);
            stream.0 += 1;
            let id = stream.0;
            let mut waiting = lock(&self.waiting);
            if waiting.0 {
                return Err(GuardCallError::Gone);
            }
            waiting.1.insert(id, answer);
            drop(waiting);
            let sent = stream.1.write_all(&encode(&Ask { id, request }));
            if sent.is_err() {
                lock(&self.waiting).1.remove(&id);
                return Err(GuardCallError::Gone);
            }
            id
        };
        let reply = answered.recv_timeout(timeout);
        lock(&self.waiting).1.remove(&id);
        reply.map_err(|error| match error {
            RecvTimeoutError::Timeout => GuardCallError::TimedOut(timeout),
            RecvTimeoutError::Disconnected => GuardCallError::Gone,
        })
    }
}

/// Hands out answers and events until the guard is gone.
fn read(mut stream: UnixStream, waiting: &Waiting, events: &Sender<Event>) {
    let (mut buffer, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    'connection: loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
        }
        loop {
            match decode(&mut buffer) {
                Ok(Some(Say::Reply { id, reply })) => {
                    if let Some(answer) = lock(waiting).1.remove(&id) {
                        // Whoever asked may have given up.
                        let _ = answer.send(reply);
                    }
                }
                Ok(Some(Say::Event(event))) => {
                    let _ = events.send(event);
                }
                Ok(None) => break,
                Err(_) => break 'connection,
            }
        }
    }
    let mut waiting = lock(waiting);
    waiting.0 = true;
    waiting.1.clear();
    drop(waiting);
    let _ = events.send(Event::GuardGone);
}
