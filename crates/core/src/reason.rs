//! Why a member does what it does, or does nothing: one sentence for each situation.
//!
//! Place: every `Decision` carries one; the same sentence stands in the log line, in `howdah list`,
//! in the history and in the golden scripts.

use crate::ids::{Epoch, MemberName, Position, Timeline};
use crate::record::OpenReason;
use crate::sync::{Demand, Pair};
use crate::view::Job;

/// Why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is known of the local PostgreSQL yet.
    NotLookedYet,
    /// A job is under way.
    Busy(Job),
    /// The last attempt failed; the next one waits.
    BackOff {
        /// What failed.
        job: Job,
        /// Why.
        why: String,
    },
    /// PostgreSQL is read-write here without a right to be.
    FenceNoLease,
    /// PostgreSQL does not answer.
    FenceHung,
    /// An operator ended this leader's epoch.
    Evicted(Epoch),
    /// Stopping: to whom leadership goes.
    StopHandsOver(MemberName),
    /// Stopping PostgreSQL.
    StopPostgres,
    /// Stopping: gives the lease back.
    StopReleases(Epoch),
    /// Everything is stopped.
    Stopped,
    /// The data directory cannot be used.
    Unusable(String),
    /// The data is of another cluster.
    ForeignSystem {
        /// What is here.
        found: u64,
        /// What the cluster has.
        wanted: u64,
    },
    /// Bootstrap waits for members to appear.
    BootstrapAwaitsMembers {
        /// How many are known.
        known: usize,
        /// How many the configuration names.
        expected: usize,
    },
    /// Bootstrap waits to hear what a member's data directory holds.
    BootstrapAwaitsReport(MemberName),
    /// Members hold data of different clusters.
    BootstrapConflict,
    /// This member is to make or bring the first data.
    BootstrapMine,
    /// Another member is to.
    BootstrapOf(MemberName),
    /// This member makes the first data.
    BootstrapInit,
    /// This member's data begins the cluster.
    BootstrapFinish,
    /// An earlier life of this member's guard holds the lease; its PostgreSQL is proven stopped.
    FormerLifeReleases(Epoch),
    /// This member was granted the lease and must promise before it renews.
    LeaderPromises(Epoch),
    /// This member waits for its own renewal to be committed.
    AwaitsRenewal(Epoch),
    /// This member leads from now on and leaves recovery.
    Promotes(Epoch),
    /// PostgreSQL fell under a lease that is held: restarted in place, which loses nothing.
    RestartsInPlace(Epoch),
    /// PostgreSQL could not be restarted in time.
    GivesUp {
        /// Under this epoch.
        epoch: Epoch,
        /// Why.
        why: String,
    },
    /// PostgreSQL began another timeline than the granted one.
    RogueTimeline {
        /// What it began.
        begun: Timeline,
        /// What was granted.
        granted: Timeline,
    },
    /// The new timeline is put into the log.
    RecordsTimeline(Timeline),
    /// Commits are to wait for others than before.
    SetsDemand(Demand),
    /// A change of whom commits wait for that has no answer yet is made void.
    SettlesSync,
    /// What elections must hear is put into the log.
    RecordsSync(Pair),
    /// What was written before is not yet on those that commits wait for.
    AwaitsFlush(Demand),
    /// No standby can be waited for; one may come back in a moment.
    AwaitsStandbys,
    /// No standby can be waited for, and writes wait until one can.
    WritesWait,
    /// Writes go on without waiting for anybody.
    GivesSyncUp(String),
    /// Everything from before the promotion is on those that commits wait for.
    PassesBarrier(Demand),
    /// This member leads, and commits wait for nobody though they should.
    LeadsAlone(Epoch),
    /// Clients are let in.
    LetsClientsIn,
    /// Roles and slots are prepared.
    Prepares,
    /// A switchover is carried out.
    HandsOver(MemberName),
    /// A switchover cannot be carried out.
    SwitchoverImpossible {
        /// To whom.
        to: MemberName,
        /// Why not.
        why: String,
    },
    /// The receiver of a hand-over did not begin.
    TakesBack(MemberName),
    /// This member leads.
    Leads(Epoch),
    /// An election is opened.
    OpensElection(OpenReason),
    /// An election is open; this member promises.
    Promises(Epoch),
    /// An election is open; this former leader holds its ballot back for a moment.
    HoldsBallotBack,
    /// An election is open; this member votes.
    Votes(Epoch),
    /// An election is open; this member's PostgreSQL is started to vote.
    StartsToVote,
    /// The election is closed.
    ClosesElection(MemberName),
    /// The election waits for somebody's ballot.
    ElectionAwaits(MemberName),
    /// The election cannot be closed.
    ElectionStuck(String),
    /// Maintenance mode: nothing is started, stopped or promoted.
    Paused,
    /// Maintenance mode is left for what an operator asked for.
    LeavesPause,
    /// An operator asked for a restart.
    RestartsOnRequest,
    /// An operator keeps PostgreSQL stopped here.
    Fenced,
    /// There is no leader to follow yet.
    AwaitsLeader(Epoch),
    /// PostgreSQL is started when the leader has left recovery.
    AwaitsPromotion(MemberName),
    /// There is nothing here: a copy is made.
    ClonesEmpty(MemberName),
    /// A copy or rewind was killed half way: copied anew.
    ClonesHalfDone(MemberName),
    /// An operator wants a fresh copy.
    ClonesOnRequest(MemberName),
    /// A copy is made since nothing else worked.
    ClonesAfterFailure {
        /// From whom.
        from: MemberName,
        /// What did not work.
        why: String,
    },
    /// A copy waits until its source is ready.
    CloneAwaits(MemberName),
    /// The data left recovery without a grant.
    ClonesRogue(Timeline),
    /// The data lies past the fork: it is stopped to be rewound.
    Diverged(Position),
    /// It is rewound.
    Rewinds(Position),
    /// A rewind waits for its source.
    RewindAwaits(MemberName),
    /// It is started as a standby.
    StartsStandby,
    /// It changes its upstream.
    Follows(MemberName),
    /// It streams from the leader.
    Streams(MemberName),
    /// It follows the leader but does not stream yet.
    AwaitsStream(MemberName),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.of_server().or_else(|| self.of_lease()).unwrap_or_else(|| self.of_rest()))
    }
}

/// The sentences, by what they are about.
impl Reason {
    fn of_server(&self) -> Option<String> {
        Some(match self {
            Reason::NotLookedYet => "looking at the local PostgreSQL".into(),
            Reason::Busy(job) => job.to_string(),
            Reason::BackOff { job, why } => format!("will try again: {job} failed: {why}"),
            Reason::FenceNoLease => "kills PostgreSQL: it is read-write without the lease".into(),
            Reason::FenceHung => "kills PostgreSQL: it does not answer".into(),
            Reason::StopPostgres => "stopping: PostgreSQL first".into(),
            Reason::StopHandsOver(to) => format!("stopping: hands over to {to}"),
            Reason::StopReleases(epoch) => {
                format!("stopping: gives back the lease of epoch {epoch}")
            }
            Reason::Stopped => "stopped".into(),
            Reason::Unusable(why) => format!("touches nothing: {why}"),
            Reason::ForeignSystem { found, wanted } => format!(
                "touches nothing: the data directory is of system {found}, the cluster of {wanted}"
            ),
            Reason::ClonesEmpty(from) => format!("copies the data of {from}: nothing is here"),
            Reason::ClonesHalfDone(from) => {
                format!("copies the data of {from}: an earlier copy or rewind was cut short")
            }
            Reason::ClonesOnRequest(from) => {
                format!("copies the data of {from}: an operator asked for it")
            }
            Reason::ClonesAfterFailure { from, why } => {
                format!("copies the data of {from}: {why}")
            }
            Reason::CloneAwaits(from) => format!("copies as soon as {from} is ready"),
            Reason::ClonesRogue(timeline) => {
                format!("copies anew: timeline {timeline} here was never granted")
            }
            Reason::Diverged(fork) => format!("stops to be rewound: its data passes {fork}"),
            Reason::Rewinds(fork) => format!("rewinds to {fork}, where the leader's history parts"),
            Reason::RewindAwaits(from) => {
                format!("rewinds as soon as {from} has checkpointed on its timeline")
            }
            Reason::StartsStandby => "starts as a standby".into(),
            Reason::Follows(leader) => format!("turns to {leader}, the leader"),
            Reason::Streams(leader) => format!("streams from {leader}, the leader"),
            Reason::AwaitsStream(leader) => format!("waits for WAL from {leader}"),
            _ => return None,
        })
    }

    fn of_lease(&self) -> Option<String> {
        Some(match self {
            Reason::Evicted(epoch) => format!("steps down: an operator ended epoch {epoch}"),
            Reason::FormerLifeReleases(epoch) => format!(
                "gives back the lease of epoch {epoch}: an earlier life held it, PostgreSQL is down"
            ),
            Reason::LeaderPromises(epoch) => format!("was granted epoch {epoch}; promises first"),
            Reason::AwaitsRenewal(epoch) => {
                format!("holds epoch {epoch}; waits until its renewal is committed")
            }
            Reason::Promotes(epoch) => format!("promotes: it was granted epoch {epoch}"),
            Reason::RestartsInPlace(epoch) => {
                format!("restarts PostgreSQL in place: epoch {epoch} is held, nothing is lost")
            }
            Reason::GivesUp { epoch, why } => {
                format!("gives back the lease of epoch {epoch}: {why}")
            }
            Reason::RogueTimeline { begun, granted } => format!(
                "kills PostgreSQL: it began timeline {begun}, timeline {granted} was granted"
            ),
            Reason::RecordsTimeline(timeline) => format!("records timeline {timeline}"),
            Reason::SetsDemand(demand) => format!("has commits wait for {demand}"),
            Reason::SettlesSync => {
                "makes sure that no earlier change of whom commits wait for is on its way".into()
            }
            Reason::RecordsSync(pair) => format!("records that an election needs {pair}"),
            Reason::AwaitsFlush(demand) => {
                format!("waits for {demand} to flush what was written before")
            }
            Reason::AwaitsStandbys => "waits for a standby that commits can wait for".into(),
            Reason::WritesWait => {
                "writes wait: no standby streams that commits could wait for, and \
                                   synchronous_mode_strict forbids to go on without"
                    .into()
            }
            Reason::GivesSyncUp(why) => format!("has commits wait for nobody: {why}"),
            Reason::PassesBarrier(demand) => {
                format!("what was there before the promotion is on {demand} too")
            }
            Reason::LeadsAlone(epoch) => {
                format!("leads with epoch {epoch}; commits wait for nobody, for no standby streams")
            }
            Reason::LetsClientsIn => "lets clients in".into(),
            Reason::Prepares => "prepares roles and slots".into(),
            Reason::HandsOver(to) => format!("hands over to {to}"),
            Reason::SwitchoverImpossible { to, why } => {
                format!("gives up the switchover to {to}: {why}")
            }
            Reason::TakesBack(from) => format!("takes the lease back: {from} did not begin"),
            Reason::Leads(epoch) => format!("leads with epoch {epoch}"),
            _ => return None,
        })
    }

    fn of_rest(&self) -> String {
        match self {
            Reason::BootstrapAwaitsMembers { known, expected } => {
                format!("bootstrap waits for members: {known} of {expected} are here")
            }
            Reason::BootstrapAwaitsReport(member) => {
                format!("bootstrap waits to hear what {member}'s data directory holds")
            }
            Reason::BootstrapConflict => {
                "no bootstrap: members hold data of different clusters; move away all but one"
                    .into()
            }
            Reason::BootstrapMine => "asks to make or bring the first data".into(),
            Reason::BootstrapOf(member) => format!("{member} makes or brings the first data"),
            Reason::BootstrapInit => "makes the first data".into(),
            Reason::BootstrapFinish => "its data begins the cluster".into(),
            Reason::OpensElection(why) => format!("opens an election: {why}"),
            Reason::Promises(epoch) => format!("promises: no more WAL from before epoch {epoch}"),
            Reason::HoldsBallotBack => {
                "an election is open; led before, so it lets the others go first".into()
            }
            Reason::Votes(epoch) => format!("stands in the election of epoch {epoch}"),
            Reason::StartsToVote => "starts isolated, to stand in the election".into(),
            Reason::ClosesElection(winner) => format!("closes the election: {winner} wins"),
            Reason::ElectionAwaits(member) => format!("the election waits for {member}"),
            Reason::ElectionStuck(why) => format!("the election cannot be closed: {why}"),
            Reason::Paused => "maintenance mode: does nothing by itself".into(),
            Reason::LeavesPause => "leaves maintenance mode".into(),
            Reason::RestartsOnRequest => "restarts PostgreSQL, as an operator asked".into(),
            Reason::Fenced => "an operator fenced this member: PostgreSQL stays stopped".into(),
            Reason::AwaitsPromotion(leader) => format!("starts when {leader} has left recovery"),
            Reason::AwaitsLeader(epoch) => {
                format!("waits until the leader of epoch {epoch} can be followed")
            }
            // Named in the other two.
            other => format!("{other:?}"),
        }
    }
}
