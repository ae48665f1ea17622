//! A ballot: how far this member's data reaches, read from its disk now.

use std::time::Duration;

use howdah_core::{Ballot, Command, Epoch, Incarnation, Position};
use howdah_postgres::control::ControlData;

use crate::death;
use crate::elephant::JobError;
use crate::shell::{Context, put};

/// What `decide` said about the vote.
pub struct Vote {
    /// Epoch of the election.
    pub epoch: Epoch,
    /// Why this member may not lead.
    pub barred: Option<String>,
    /// It cannot win.
    pub bar_only: bool,
    /// Life of its guard.
    pub incarnation: Incarnation,
}

/// Casts the vote.
///
/// # Errors
/// Why it was not taken.
pub async fn cast(context: &Context, vote: Vote) -> Result<(), String> {
    // A server that is down needs no proof that nothing streams to it. But an agent that is restarted
    // may see an older state of the log for a moment, and must not follow by that.
    context.elephant.promise(vote.epoch).map_err(|why| why.to_string())?;
    death::point("ballot", "promised");
    let ballot = ballot(context, vote.incarnation).await.map_err(|why| why.to_string())?;
    let ballot = Ballot { barred: vote.barred, bar_only: vote.bar_only, ..ballot };
    let command = Command::CastBallot {
        epoch: vote.epoch,
        member: context.me.clone(),
        ballot,
        at: context.clock.wall(),
    };
    put(context, command, context.timings.ttl / 2).await
}

/// This member's standing now. A server that was promised replays on; the end of its WAL is looked
/// for from where the replay is.
async fn ballot(context: &Context, incarnation: Incarnation) -> Result<Ballot, JobError> {
    let (position, history) = standing(context).await?;
    context.elephant.raise_floor(position)?;
    let state = context.elephant.state();
    let tags = state.members.get(&context.me).map(|member| member.tags.clone());
    Ok(Ballot {
        incarnation,
        data_id: context.elephant.identity().data_id,
        position,
        history,
        barred: None,
        bar_only: false,
        priority: tags.unwrap_or_default().failover_priority,
    })
}

/// The end of the WAL on disk, and how the data came there.
pub(super) async fn standing(
    context: &Context,
) -> Result<(Position, Vec<howdah_core::HistoryEntry>), JobError> {
    let elephant = &context.elephant;
    let limit = Duration::from_secs(2);
    // From the last checkpoint; if the server has replayed past the end found there, from that
    // checkpoint again, for the control file moved on meanwhile.
    let mut last = None;
    for _ in 0..5 {
        let disk = async {
            let control = ControlData::read(&elephant.install, &elephant.data_dir()).await?;
            elephant.disk_end(&control).await
        };
        let (disk, session) = tokio::join!(disk, elephant.session(limit));
        let (end, history) = disk?;
        // Asked after the look at the disk, which it judges.
        let replayed = match session {
            Ok(session) => session.replayed().await?.unwrap_or_default(),
            Err(_) => end.lsn,
        };
        if replayed <= end.lsn {
            return Ok((end, history));
        }
        last = Some((end, replayed));
    }
    let (end, replayed) = last.unwrap_or_default();
    Err(JobError(format!("the WAL on disk ends at {end}, yet {replayed} was replayed")))
}
