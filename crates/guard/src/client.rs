//! The agent's end of the guard's socket.
//!
//! Place: the agent's start takes the connection it inherited; its parts share the client. A thread
//! reads: replies go to the callers by number, events to one channel. Nothing here survives the
//! agent; a new agent gets a new connection.
//! Failure: when the guard dies every waiting call fails and `Event::GuardGone` comes last.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::frame::{FrameError, Frames, encode};
use crate::wire::{Event, FD_VARIABLE, FromAgent, FromGuard, Reply, Request, VERSION};

/// Limit of the first question.
const HELLO: Duration = Duration::from_secs(10);
/// Limit of handing over a request; the guard reads at once unless it is stopped.
const WRITE: Duration = Duration::from_secs(5);

/// What the guard says unasked, in order.
pub type EventReceiver = mpsc::Receiver<Event>;

/// Why there is no connection to the guard.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// This process was not started by a guard.
    #[error("{FD_VARIABLE} is `{value}`, no open socket; the agent is started by `howdah run`")]
    NoSocket {
        /// The variable's value.
        value: String,
    },
    /// The connection was taken before.
    #[error("the connection to the guard is taken already")]
    Taken,
    /// The operating system refused.
    #[error("the connection to the guard: {0}")]
    Io(#[from] std::io::Error),
    /// The guard does not answer.
    #[error("the guard does not answer: {0}")]
    Call(#[from] GuardCallError),
    /// The guard does not understand this version.
    #[error("the guard refused: {0}")]
    Refused(crate::wire::Refusal),
}

/// Why a request has no reply.
#[derive(Debug, thiserror::Error)]
pub enum GuardCallError {
    /// The guard is dead or closed the connection.
    #[error("the guard is gone")]
    Gone,
    /// No reply in time; what was asked may still happen.
    #[error("the guard did not answer within {} ms", limit.as_millis())]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Encode(#[from] FrameError),
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// None: the connection ended.
    calls: Option<BTreeMap<u64, mpsc::Sender<Reply>>>,
}

#[derive(Debug)]
struct Shared {
    writer: Mutex<UnixStream>,
    waiting: Mutex<Waiting>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Ends the reading thread, which holds only a weak reference and the other descriptor.
        let _ = lock(&self.writer).shutdown(Shutdown::Both);
    }
}

/// Asks the guard. Clones share one connection.
#[derive(Clone, Debug)]
pub struct GuardClient {
    shared: Arc<Shared>,
}

impl GuardClient {
    /// Takes the connection that the guard left to this process, and introduces itself.
    ///
    /// # Errors
    /// If there is none, it was taken before, or the guard does not answer.
    pub fn from_env() -> Result<(Self, EventReceiver), ConnectError> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let value = std::env::var(FD_VARIABLE).unwrap_or_default();
        let no_socket = || ConnectError::NoSocket { value: value.clone() };
        let number: RawFd = value.parse().ok().filter(|fd| *fd > 2).ok_or_else(no_socket)?;
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(ConnectError::Taken);
        }
        // SAFETY: only looks whether the number is an open descriptor.
        let known = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if known < 0 {
            return Err(no_socket());
        }
        // SAFETY: open, as was just seen; the guard passed it to this process to own, and it is
        // taken once.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        let (client, events) = Self::connect(fd)?;
        match client.call(Request::Hello { version: VERSION }, HELLO)? {
            Reply::Refused(why) => Err(ConnectError::Refused(why)),
            _ => Ok((client, events)),
        }
    }

    /// Speaks over a socket whose other end is a guard.
    ///
    /// # Errors
    /// If the descriptor cannot be set up or there is no thread to be had.
    pub fn connect(fd: OwnedFd) -> Result<(Self, EventReceiver), ConnectError> {
        // The agent's own children must not hold the connection open.
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(std::io::Error::from)?;
        let writer = UnixStream::from(fd);
        writer.set_write_timeout(Some(WRITE))?;
        let reader = writer.try_clone()?;
        let waiting = Waiting { next: 0, calls: Some(BTreeMap::new()) };
        let shared = Shared { writer: Mutex::new(writer), waiting: Mutex::new(waiting) };
        let shared = Arc::new(shared);
        let (outbox, events) = mpsc::channel();
        let weak = Arc::downgrade(&shared);
        std::thread::Builder::new().name("guard".into()).spawn(move || {
            read(reader, &weak, &outbox);
            if let Some(shared) = weak.upgrade() {
                // Dropping the senders wakes the callers.
                lock(&shared.waiting).calls = None;
                let _ = lock(&shared.writer).shutdown(Shutdown::Both);
            }
            let _ = outbox.send(Event::GuardGone);
        })?;
        Ok((Self { shared }, events))
    }

    /// Asks, and waits for the reply for at most `timeout`. Blocks the calling thread.
    ///
    /// # Errors
    /// If the guard is gone or does not answer in time.
    pub fn call(&self, request: Request, timeout: Duration) -> Result<Reply, GuardCallError> {
        let (sender, receiver) = mpsc::channel();
        let id = {
            let mut waiting = lock(&self.shared.waiting);
            let id = waiting.next;
            waiting.next += 1;
            waiting.calls.as_mut().ok_or(GuardCallError::Gone)?.insert(id, sender);
            id
        };
        let result = self.send(&FromAgent { id, request }).and_then(|()| {
            receiver.recv_timeout(timeout).map_err(|why| match why {
                mpsc::RecvTimeoutError::Timeout => GuardCallError::TimedOut { limit: timeout },
                mpsc::RecvTimeoutError::Disconnected => GuardCallError::Gone,
            })
        });
        if let Some(calls) = lock(&self.shared.waiting).calls.as_mut() {
            calls.remove(&id);
        }
        result
    }

    fn send(&self, message: &FromAgent) -> Result<(), GuardCallError> {
        let frame = encode(message)?;
        let mut writer = lock(&self.shared.writer);
        writer.write_all(&frame).map_err(|_| {
            // Half a message may have gone out: nothing after it would be understood.
            let _ = writer.shutdown(Shutdown::Both);
            GuardCallError::Gone
        })
    }
}

/// Reads until the connection ends or breaks.
fn read(mut reader: UnixStream, shared: &std::sync::Weak<Shared>, events: &mpsc::Sender<Event>) {
    let mut frames = Frames::default();
    let mut bytes = [0_u8; 16 * 1024];
    loop {
        let count = match reader.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        frames.push(&bytes[..count]);
        loop {
            match frames.decode::<FromGuard>() {
                Ok(None) => break,
                // From a newer guard: something this version knows nothing of.
                Err(FrameError::Json(_)) => {}
                Err(FrameError::TooLong { .. }) => return,
                Ok(Some(FromGuard::Event(event))) => {
                    // Nobody may be listening; calls still want their replies.
                    let _ = events.send(event);
                }
                Ok(Some(FromGuard::Reply { id, reply })) => {
                    let Some(shared) = shared.upgrade() else { return };
                    let caller =
                        lock(&shared.waiting).calls.as_mut().and_then(|calls| calls.remove(&id));
                    if let Some(caller) = caller {
                        // It may have given up.
                        let _ = caller.send(reply);
                    }
                }
            }
        }
    }
}

/// A thread that panicked while it held one of these left it whole: each change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn answer(stream: &mut UnixStream, frames: &mut Frames) -> FromAgent {
        let mut bytes = [0_u8; 256];
        loop {
            if let Some(message) = frames.decode().unwrap() {
                return message;
            }
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the client hung up");
            frames.push(&bytes[..count]);
        }
    }

    #[test]
    fn replies_find_their_callers_and_the_end_wakes_all() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (client, events) = GuardClient::connect(near.into()).unwrap();
        let calls: Vec<_> = [Request::Status, Request::Shutdown, Request::Processes]
            .into_iter()
            .map(|request| {
                let client = client.clone();
                std::thread::spawn(move || (request.clone(), client.call(request, LIMIT)))
            })
            .collect();
        let mut frames = Frames::default();
        let mut asked: Vec<_> = (0..3).map(|_| answer(&mut far, &mut frames)).collect();
        asked.reverse();
        far.write_all(&encode(&FromGuard::Event(Event::Reload)).unwrap()).unwrap();
        far.write_all(b"\0\0\0\x02{}").unwrap();
        for FromAgent { id, request } in asked {
            let reply = match request {
                Request::Status => Reply::Done,
                Request::Shutdown => Reply::Refused(crate::wire::Refusal::Ending),
                _ => continue,
            };
            far.write_all(&encode(&FromGuard::Reply { id, reply }).unwrap()).unwrap();
        }
        drop(far);
        for call in calls {
            let (request, result) = call.join().unwrap();
            match request {
                Request::Status => assert_eq!(result.unwrap(), Reply::Done),
                Request::Shutdown => assert!(matches!(result.unwrap(), Reply::Refused(_))),
                _ => assert!(matches!(result, Err(GuardCallError::Gone))),
            }
        }
        assert_eq!(events.recv_timeout(LIMIT).unwrap(), Event::Reload);
        assert_eq!(events.recv_timeout(LIMIT).unwrap(), Event::GuardGone);
        assert!(matches!(client.call(Request::Status, LIMIT), Err(GuardCallError::Gone)));
    }

    #[test]
    fn a_guard_that_is_silent_times_the_call_out() {
        let (near, far) = UnixStream::pair().unwrap();
        let (client, _events) = GuardClient::connect(near.into()).unwrap();
        let result = client.call(Request::Status, Duration::from_millis(20));
        assert!(matches!(result, Err(GuardCallError::TimedOut { .. })));
        drop(far);
    }
}
