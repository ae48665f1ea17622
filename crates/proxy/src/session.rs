//! A connection's life, from its arrival to its end.
//!
//! Place: one task per connection, on one thread. Whoever ends a session from outside (a shut gate, an idle
//! limit, the end of the doors) aborts the task; what it holds is given back as it is dropped:
//! first both connections, then its entries.

use std::net::SocketAddr;
use std::sync::Arc;

use howdah_core::MemberName;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::answer::{Refusal, TOO_MANY_CONNECTIONS};
use crate::counters::Counters;
use crate::door::{Door, Server};
use crate::gate::Gate;
use crate::opening::{self, Opened};
use crate::relay::{Ended, Relay, Vital};

/// Beyond this many above the limit, a connection is closed without a word.
const TOLD: usize = 100;

/// Serves one connection. `handle` is this task's.
pub async fn serve(
    door: Arc<Door>,
    counters: Arc<Counters>,
    client: TcpStream,
    peer: SocketAddr,
    handle: AbortHandle,
) {
    counters.accept();
    let (_counted, now) = door.come_in();
    let most = door.limits.max_connections;
    let refusal = (now > most).then(|| Refusal {
        hint: format!("{most} connections are open at this door (proxy.max_connections)."),
        ..Refusal::new(TOO_MANY_CONNECTIONS, "sorry, too many clients already")
    });
    if now > most + TOLD {
        counters.refuse();
        return;
    }
    // On the heap, and gone before the long part begins.
    let opened = Box::pin(opening::open(&door, &counters, client, peer, refusal)).await;
    let Some(Opened { client, server, frames, first }) = opened else { return };
    let Server { stream: server, way, opening } = server;
    let vital = Arc::new(Vital::new(frames.is_some()));
    let entered = Entered::new(&door, way.name, way.gate.clone(), handle, &vital);
    let Some(_entered) = entered else {
        counters.cut();
        return;
    };
    drop(opening);
    counters.begin();
    let relay = Relay::new(client, server, way.gate, frames, vital, counters.clone());
    if relay.run(first).await == Ended::Shut {
        counters.cut();
    }
}

/// A session's entries in the books.
struct Entered<'a> {
    door: &'a Door,
    gate: Arc<Gate>,
    at_door: u64,
    at_gate: u64,
}

impl<'a> Entered<'a> {
    fn new(
        door: &'a Door,
        server: MemberName,
        gate: Arc<Gate>,
        handle: AbortHandle,
        vital: &Arc<Vital>,
    ) -> Option<Self> {
        let at_gate = gate.enter(handle.clone())?;
        let at_door = door.enter(server, handle, vital.clone());
        Some(Self { door, gate, at_door, at_gate })
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.door.leave(self.at_door);
        self.gate.leave(self.at_gate);
    }
}
