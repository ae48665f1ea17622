//! Asks the guard for the virtual address while this member's primary is open, and to let it go when that is over.
//!
//! Place: a task of its own, where `vip` is configured. State: none; an agent that was started anew asks again, and
//! the guard holds the address meanwhile. The guard lets it go by itself when the lease or the server ends, so that
//! nothing rests on this task's being in time.

use std::sync::Arc;
use std::time::Duration;

use howdah_core::{Epoch, MemberName};
use howdah_proxy::route::Picture;
use tokio::sync::watch;

use crate::shell::Context;

/// It is asked for again so often: a server that crashed and came up again lost it.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps asking, as long as the agent lives.
pub async fn keep(context: Arc<Context>, mut pictures: watch::Receiver<Picture>) {
    let mut held = None;
    loop {
        let wanted = wanted(&pictures.borrow_and_update(), &context.me);
        if wanted.is_some() || held.is_some() {
            match context.elephant.vip(wanted).await {
                Ok(()) => held = wanted,
                // The lease may have ended in this moment; a lasting trouble is the keeper's to tell.
                Err(why) => tracing::debug!(%why, "the virtual address"),
            }
        }
        tokio::select! {
            changed = pictures.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// The epoch under which this member may have it.
fn wanted(picture: &Picture, me: &MemberName) -> Option<Epoch> {
    let leader = picture.leader.as_ref().filter(|leader| leader.name == *me)?;
    (leader.open && !leader.closing).then_some(leader.epoch)
}

#[cfg(test)]
mod tests {
    use howdah_proxy::route::{Leader, PrimaryReads};

    use super::*;

    #[test]
    fn only_an_open_primary_that_stays_has_the_address() {
        let mut picture = Picture {
            leader: Some(Leader {
                name: "n1".into(),
                address: String::new(),
                epoch: Epoch(4),
                until: None,
                open: true,
                why_not: String::new(),
                closing: false,
                behind: Vec::new(),
            }),
            why_none: String::new(),
            members: Vec::new(),
            primary_reads: PrimaryReads::Never,
            zone: String::new(),
        };
        assert_eq!(wanted(&picture, &"n1".into()), Some(Epoch(4)));
        assert_eq!(wanted(&picture, &"n2".into()), None);
        picture.leader.as_mut().unwrap().closing = true;
        assert_eq!(wanted(&picture, &"n1".into()), None);
        let leader = picture.leader.as_mut().unwrap();
        (leader.closing, leader.open) = (false, false);
        assert_eq!(wanted(&picture, &"n1".into()), None);
        picture.leader = None;
        assert_eq!(wanted(&picture, &"n1".into()), None);
    }
}
