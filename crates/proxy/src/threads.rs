//! The threads on which sessions run.
//!
//! Each has an event loop of its own; a session stays on the one it was given to, the least busy, so
//! that nothing is handed between threads while bytes move.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};

use crate::counters::{Counters, Counts};
use crate::door::{Door, Kind};
use crate::session;

/// Connections that the kernel keeps for a door that is busy.
const BACKLOG: u32 = 4096;
/// How often in its idle limit a session is looked at.
const ROUNDS: u32 = 4;

/// The doors' threads, until dropped.
#[derive(Debug)]
pub struct Threads {
    threads: Arc<[Thread]>,
    deaf: watch::Sender<bool>,
}

#[derive(Debug)]
struct Thread {
    handle: Handle,
    end: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    busy: AtomicUsize,
    counters: BTreeMap<Kind, Arc<Counters>>,
}

impl Threads {
    /// Starts them.
    pub fn start(count: usize) -> io::Result<Self> {
        raise_descriptors();
        let threads = (0..count.max(1)).map(Thread::start).collect::<io::Result<Vec<_>>>()?;
        let (deaf, _) = watch::channel(false);
        Ok(Self { threads: threads.into(), deaf })
    }

    /// Lets connections in at this address.
    pub fn listen(&self, address: SocketAddr, door: Arc<Door>) -> io::Result<SocketAddr> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let first = &self.threads[0].handle;
        let listener = {
            let _inside = first.enter();
            socket.listen(BACKLOG)?
        };
        let bound = listener.local_addr()?;
        if let Some(limit) = door.limits.idle_timeout {
            first.spawn(sweep(door.clone(), limit));
        }
        let (threads, mut deaf) = (self.threads.clone(), self.deaf.subscribe());
        first.spawn(async move {
            tokio::select! {
                () = accept(&listener, &door, &threads) => {}
                // The sender lives as long as the threads.
                _ = deaf.wait_for(|deaf| *deaf) => {}
            }
        });
        Ok(bound)
    }

    /// Takes no connections any more.
    pub fn deafen(&self) {
        self.deaf.send_replace(true);
    }

    /// Sessions were cut from outside.
    pub fn cut(&self, sessions: usize) {
        for _ in 0..sessions {
            self.threads[0].counters[&Kind::Write].cut();
        }
    }

    /// What was counted at one door.
    pub fn counts(&self, kind: Kind) -> Counts {
        let mut counts = Counts::default();
        for thread in self.threads.iter() {
            counts.add(&thread.counters[&kind]);
        }
        counts
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in self.threads.iter() {
            thread.stop();
        }
    }
}

impl Thread {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, (end, ended)) = (runtime.handle().clone(), oneshot::channel());
        let thread =
            std::thread::Builder::new().name(format!("door-{number}")).spawn(move || {
                // Its sender gone means the same.
                let _ = runtime.block_on(ended);
                runtime.shutdown_background();
            })?;
        let counters = Kind::ALL.map(|kind| (kind, Arc::default())).into();
        Ok(Self {
            handle,
            end: Mutex::new(Some(end)),
            thread: Mutex::new(Some(thread)),
            busy: AtomicUsize::new(0),
            counters,
        })
    }

    fn stop(&self) {
        let end = self.end.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(end) = end {
            // It has ended by itself otherwise.
            let _ = end.send(());
        }
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("a thread of the doors panicked");
        }
    }
}

/// Takes connections, and hands each to the thread that has the fewest.
async fn accept(listener: &TcpListener, door: &Arc<Door>, threads: &Arc<[Thread]>) {
    let mut complained = false;
    loop {
        let (client, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_the_clients(&error) => continue,
            Err(error) => {
                if !complained {
                    tracing::error!(
                        door = door.kind.word(),
                        "takes no connections: {error}; raise the limit of open files"
                    );
                    complained = true;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        complained = false;
        let (at, thread) = threads
            .iter()
            .enumerate()
            .min_by_key(|(_, thread)| thread.busy.load(Ordering::Relaxed))
            .expect("there is one at least");
        // It is watched by this thread's loop, and shall be by the other's.
        let Ok(client) = client.into_std() else { continue };
        thread.busy.fetch_add(1, Ordering::Relaxed);
        let (door, threads) = (door.clone(), threads.clone());
        let counters = thread.counters[&door.kind].clone();
        let (tell, told) = oneshot::channel();
        let task = thread.handle.spawn(async move {
            let _busy = Busy(&threads[at]);
            let (Ok(client), Ok(handle)) = (TcpStream::from_std(client), told.await) else {
                return;
            };
            session::serve(door, counters, client, peer, handle).await;
        });
        // It waits for it.
        let _ = tell.send(task.abort_handle());
    }
}

struct Busy<'a>(&'a Thread);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Errors that belong to one connection.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

async fn sweep(door: Arc<Door>, limit: Duration) {
    loop {
        tokio::time::sleep(limit / ROUNDS).await;
        door.sweep(ROUNDS);
    }
}

/// Each session has two connections; as many as are allowed at all.
fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}
