//! What clients do, over and over, each with one kind of data.
//!
//! A client has a session of its own, opened anew after each failure; one whose operation is of
//! unknown fate comes back under another number.

mod append;
mod bank;
mod counter;
mod register;
mod set;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use howdah_tests::dice::Dice;
use tokio_postgres::Config;

pub use append::Append;
pub use bank::Bank;
pub use counter::Counter;
pub use register::Registers;
pub use set::Set;

use crate::client::{Failed, STATEMENT, Session, connect};
use crate::history::{Kind, Operation, Process};
use crate::record::{Note, Recorder};

/// What a session is asked beside its own work. On a standby it fails, so that nobody takes a standby's
/// answer for the primary's.
const WROTE: &str = "SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), \
                     pg_current_xact_id_if_assigned()::text";

/// Whose history a transaction belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Wrote {
    /// Timeline that its server writes.
    pub timeline: u32,
    /// Its own id there, if it changed something.
    pub xid: Option<u64>,
}

/// A kind of data, and what is done with it.
pub trait Workload: Send + 'static {
    /// Its operations.
    type Op: Operation + Send;

    /// What the client does next.
    fn next(&mut self, process: u64, dice: &mut Dice) -> Self::Op;

    /// Does it; the operation with its result.
    fn run(
        &mut self,
        session: &Session,
        op: &Self::Op,
    ) -> impl Future<Output = Result<(Self::Op, Wrote), Failed>> + Send;
}

/// What all clients share.
#[derive(Clone)]
pub struct Shared {
    /// Where this workload's history is written.
    pub recorder: Arc<Recorder>,
    /// The next number of a client.
    pub numbers: Arc<AtomicU64>,
    /// The clients are to end.
    pub stop: Arc<AtomicBool>,
}

impl Shared {
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }
}

/// Where a client works, and how quickly.
#[derive(Clone)]
pub struct Place {
    /// The way to the server, or to whichever is writable.
    pub config: Config,
    /// The member, where it is always the same.
    pub node: Option<String>,
    /// Members by the port of their PostgreSQL, where it is not: whoever serves is asked. Empty where they
    /// share one.
    pub names: Arc<BTreeMap<String, String>>,
    /// Pause between two operations.
    pub pace: Duration,
}

/// Works until it is told to end.
pub async fn work<W: Workload>(mut workload: W, place: Place, shared: Shared, mut dice: Dice) {
    let mut number = shared.number();
    while !shared.stop.load(Ordering::SeqCst) {
        let Ok(session) = connect(&place.config).await else {
            tokio::time::sleep(place.pace).await;
            continue;
        };
        let node = match &place.node {
            Some(node) => Some(node.clone()),
            None => served_by(&session.client, &place.names).await,
        };
        while !shared.stop.load(Ordering::SeqCst) {
            let op = workload.next(number, &mut dice);
            let process = Process::Client(number);
            let note = |error| Note { node: node.clone(), error, ..Note::default() };
            shared.recorder.write(process, Kind::Invoke, &op, note(None));
            match workload.run(&session, &op).await {
                Ok((done, Wrote { timeline, xid })) => {
                    let note = Note { timeline: Some(timeline), xid, ..note(None) };
                    shared.recorder.write(process, Kind::Ok, &done, note);
                }
                Err(Failed::Certain(why)) => {
                    shared.recorder.write(process, Kind::Fail, &op, note(Some(why)));
                    if !session.is_usable().await {
                        break;
                    }
                    // It may be a standby, which will not be anything else that soon.
                    tokio::time::sleep(place.pace * 4).await;
                }
                Err(Failed::Unknown(why)) => {
                    shared.recorder.write(process, Kind::Info, &op, note(Some(why)));
                    number = shared.number();
                    break;
                }
            }
            tokio::time::sleep(place.pace).await;
        }
        tokio::time::sleep(place.pace).await;
    }
}

/// Who serves this session.
async fn served_by(
    client: &tokio_postgres::Client,
    names: &BTreeMap<String, String>,
) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let asked = client.query_one("SELECT current_setting('port')", &[]);
    let row = tokio::time::timeout(STATEMENT, asked).await.ok()?.ok()?;
    names.get(row.try_get::<_, &str>(0).ok()?).cloned()
}

/// What this transaction is in its server's history.
async fn wrote(client: &tokio_postgres::Client) -> Result<Wrote, tokio_postgres::Error> {
    let row = client.query_one(WROTE, &[]).await?;
    let (timeline, xid): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Wrote {
        timeline: u32::from_str_radix(&timeline, 16).unwrap_or_default(),
        xid: xid.and_then(|xid| xid.parse().ok()),
    })
}
