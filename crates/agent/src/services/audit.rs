//! Who gave which order, and how it ended: kept in the log.
//!
//! Place: around every order that gRPC or REST takes. The order is in the log before it is begun: what cannot be recorded
//! is refused. What one member can do alone ([`Reach::Alone`]) is done all the same where the group has no majority, and
//! the log of this process says so. If this member ends half way, the order stands there without an end.

use std::future::Future;

use howdah_consensus::ProposeError;
use howdah_core::rights::plain;
use howdah_core::{Audit, AuditEnd, Command};
use howdah_rpc::access::Caller;
use howdah_rpc::control::{AuditEntry, AuditResponse, Progress};
use tokio::sync::mpsc;
use tonic::Status;

use super::control::Desk;
use super::operations::{Teller, refused};

/// Whom an order concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// One member, which can do it alone.
    Alone,
    /// The cluster.
    All,
    /// Another one does it: the work only looks on, as long as somebody listens.
    Other,
}

/// An order that was recorded, until its end is.
struct Recorded {
    desk: Desk,
    /// None: it is not in the log.
    id: Option<u64>,
}

/// Records an order.
///
/// # Errors
/// Why it cannot be recorded, and must not be begun.
async fn begin(desk: &Desk, caller: &Caller, what: &str, reach: Reach) -> Result<Recorded, String> {
    let (who, from, what) = (caller.who(), caller.place(), plain(what));
    tracing::info!(%who, %from, "asked to {what}");
    let audit = Audit {
        id: rand::random(),
        at: desk.clock.wall(),
        who,
        from,
        through: desk.me.clone(),
        what,
        end: None,
    };
    let id = audit.id;
    let failed = match put(desk, Command::BeginAudit { audit }, reach).await {
        Ok(()) => return Ok(Recorded { desk: desk.clone(), id: Some(id) }),
        Err(failed) => failed,
    };
    // What may be in the log has an end there, if it is.
    let id = matches!(failed, ProposeError::Unknown(_)).then_some(id);
    let recorded = Recorded { desk: desk.clone(), id };
    if reach == Reach::Alone {
        tracing::warn!(why = %failed, "an order cannot be recorded for all members");
        return Ok(recorded);
    }
    let why = format!(
        "it cannot be recorded ({failed}); nothing was begun; see `howdah list`, and try again"
    );
    tracing::warn!("an order was refused: {why}");
    recorded.end(false, why.clone()).await;
    Err(why)
}

async fn put(desk: &Desk, command: Command, reach: Reach) -> Result<(), ProposeError> {
    let limit = match (desk.node.status().quorum, reach) {
        (true, _) => desk.timings.ttl,
        // An election may be under way.
        (false, Reach::All | Reach::Other) => desk.timings.election_max * 2,
        // What is done in any case waits for nobody.
        (false, Reach::Alone) => {
            return Err(ProposeError::Refused("the group has no majority".to_owned()));
        }
    };
    desk.node.propose(command, limit).await.map(drop)
}

impl Recorded {
    async fn end(self, done: bool, text: String) {
        let Some(id) = self.id else { return };
        let end = AuditEnd { at: self.desk.clock.wall(), done, text };
        if let Err(why) = put(&self.desk, Command::EndAudit { id, end }, Reach::All).await {
            tracing::warn!(%why, "the end of an order cannot be recorded for all members");
        }
    }
}

/// What comes out of the work.
type Told = mpsc::Receiver<Result<Progress, Status>>;

/// Does what tells its progress, to its end even if nobody listens any more; what it tells comes out of the channel.
pub(crate) fn streamed<W>(
    desk: &Desk,
    caller: &Caller,
    (what, reach): (String, Reach),
    work: impl FnOnce(Teller) -> W + Send + 'static,
) -> Told
where
    W: Future<Output = ()> + Send + 'static,
{
    let (out, receiver) = mpsc::channel(16);
    let (desk, caller) = (desk.clone(), caller.clone());
    tokio::spawn(async move {
        let recorded = match begin(&desk, &caller, &what, reach).await {
            Ok(recorded) => recorded,
            Err(why) => {
                return refused(&out, &desk, "no_quorum", format!("refused: {why}")).await;
            }
        };
        let (sender, mut told) = mpsc::channel(16);
        tokio::spawn(work(sender));
        let mut last = Progress::default();
        while let Some(message) = told.recv().await {
            if let Ok(progress) = &message {
                last = progress.clone();
            }
            // Who asked may go away.
            if out.send(message).await.is_err() && reach == Reach::Other {
                told.close();
            }
        }
        let (done, text) = match (last.finished, out.is_closed()) {
            (true, _) => (last.done, last.text),
            (false, true) => (false, format!("whoever asked went away at: {}", last.text)),
            (false, false) => (false, "it ended without a last word".to_owned()),
        };
        recorded.end(done, text).await;
    });
    receiver
}

/// Does what answers once, to its end even if nobody waits for it.
///
/// # Errors
/// Those of `work`; of what could not be recorded, as `unrecorded` says it.
pub(crate) async fn once<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    desk: &Desk,
    caller: &Caller,
    (what, reach): (String, Reach),
    work: impl Future<Output = Result<T, E>> + Send + 'static,
    told: impl FnOnce(&T) -> String + Send + 'static,
    unrecorded: impl Fn(String) -> E + Send + Sync + 'static,
) -> Result<T, E> {
    let (desk, caller) = (desk.clone(), caller.clone());
    let (answer, answered) = tokio::sync::oneshot::channel();
    let broke = unrecorded("the work broke off; see this member's log".to_owned());
    tokio::spawn(async move {
        let recorded = match begin(&desk, &caller, &what, reach).await {
            Ok(recorded) => recorded,
            Err(why) => return drop(answer.send(Err(unrecorded(why)))),
        };
        let result = work.await;
        let (done, text) = match &result {
            Ok(good) => (true, told(good)),
            Err(why) => (false, why.to_string()),
        };
        recorded.end(done, text).await;
        let _ = answer.send(result);
    });
    answered.await.unwrap_or(Err(broke))
}

/// The orders that are kept.
pub(super) fn answer(desk: &Desk) -> AuditResponse {
    let state = desk.state();
    AuditResponse { entries: state.audits.iter().map(entry).collect() }
}

fn entry(audit: &Audit) -> AuditEntry {
    let end = audit.end.as_ref();
    AuditEntry {
        at_ms: audit.at.0,
        who: audit.who.clone(),
        from: audit.from.clone(),
        through: audit.through.0.clone(),
        what: audit.what.clone(),
        ended: end.is_some(),
        done: end.is_some_and(|end| end.done),
        text: end.map(|end| end.text.clone()).unwrap_or_default(),
        ended_ms: end.map_or(0, |end| end.at.0),
    }
}
