//! Who gave which order, and how it ended: kept in the log.
//!
//! Place: around every order that gRPC or REST takes. The order is in the log before it is begun, unless the group has no
//! majority: then nothing can be recorded, what can be done on one member alone still is, and the log of
//! this process says so. If this member ends half way, the order stands there without an end.

use std::future::Future;

use howdah_core::{Audit, AuditEnd, Command};
use howdah_rpc::access::Caller;
use howdah_rpc::control::{AuditEntry, AuditResponse, Progress};
use tokio::sync::mpsc;
use tonic::Status;

use super::control::Desk;
use super::operations::Teller;

/// An order that was recorded, until its end is.
struct Recorded {
    desk: Desk,
    id: Option<u64>,
}

async fn begin(desk: &Desk, caller: &Caller, what: &str) -> Recorded {
    let (who, from) = (caller.who(), caller.place());
    tracing::info!(%who, %from, "asked to {what}");
    let audit = Audit {
        id: rand::random(),
        at: desk.clock.wall(),
        who,
        from,
        through: desk.me.clone(),
        what: what.to_owned(),
        end: None,
    };
    let id = audit.id;
    let recorded = put(desk, Command::BeginAudit { audit }).await;
    if let Err(why) = &recorded {
        tracing::warn!(%why, "an order cannot be recorded for all members");
    }
    Recorded { desk: desk.clone(), id: recorded.is_ok().then_some(id) }
}

async fn put(desk: &Desk, command: Command) -> Result<(), String> {
    // Without a majority an answer would only come too late.
    if !desk.node.status().quorum {
        return Err("the group has no majority".to_owned());
    }
    desk.node.propose(command, desk.timings.ttl).await.map(drop).map_err(|why| why.to_string())
}

impl Recorded {
    async fn end(self, done: bool, text: String) {
        let Some(id) = self.id else { return };
        let end = AuditEnd { at: self.desk.clock.wall(), done, text };
        if let Err(why) = put(&self.desk, Command::EndAudit { id, end }).await {
            tracing::warn!(%why, "the end of an order cannot be recorded for all members");
        }
    }
}

/// Does what tells its progress; what it tells comes out of the channel.
pub(crate) fn streamed<W>(
    desk: &Desk,
    caller: &Caller,
    what: String,
    work: impl FnOnce(Teller) -> W + Send + 'static,
) -> mpsc::Receiver<Result<Progress, Status>>
where
    W: Future<Output = ()> + Send + 'static,
{
    let (out, receiver) = mpsc::channel(16);
    let (desk, caller) = (desk.clone(), caller.clone());
    tokio::spawn(async move {
        let recorded = begin(&desk, &caller, &what).await;
        let (sender, mut told) = mpsc::channel(16);
        tokio::spawn(work(sender));
        let mut last = Progress::default();
        while let Some(message) = told.recv().await {
            if let Ok(progress) = &message {
                last = progress.clone();
            }
            // Who asked may go away; the work goes on.
            let _ = out.send(message).await;
        }
        let (done, text) = match last.finished {
            true => (last.done, last.text),
            false => (false, "it ended without a last word".to_owned()),
        };
        recorded.end(done, text).await;
    });
    receiver
}

/// Does what answers once.
///
/// # Errors
/// Those of `work`.
pub(crate) async fn once<T, E: std::fmt::Display>(
    desk: &Desk,
    caller: &Caller,
    what: &str,
    work: impl Future<Output = Result<T, E>>,
    told: impl FnOnce(&T) -> String,
) -> Result<T, E> {
    let recorded = begin(desk, caller, what).await;
    let result = work.await;
    let (done, text) = match &result {
        Ok(answer) => (true, told(answer)),
        Err(why) => (false, why.to_string()),
    };
    recorded.end(done, text).await;
    result
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
