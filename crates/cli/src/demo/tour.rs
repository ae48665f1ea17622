//! The tour: every kind of failover once, with a client writing all the while, measured.
//!
//! Each step waits for a whole cluster, does one thing to the leader, waits until the cluster is
//! whole again, and compares with what must hold. A cluster that does not become whole again ends
//! the tour with an error.

use std::time::{Duration, Instant};

use howdah_core::Settings;
use howdah_rpc::control::{ClusterStatus, ExplainRequest, SwitchoverRequest};
use nix::sys::signal::Signal;

use super::layout::Layout;
use super::members::Members;
use super::process::{Table, send};
use super::report::{Expectation, Report, StepReport};
use super::writer::{Ack, Writer};
use super::{Console, healthy};
use crate::args::SyncArg;
use crate::client;
use crate::failure::Failure;

const POLL: Duration = Duration::from_millis(50);
/// Whole for this long counts as whole: one good look may be out of date.
const SETTLED: Duration = Duration::from_secs(1);
const WHOLE_AGAIN: Duration = Duration::from_secs(180);

/// What is done to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Switchover,
    KillPostmaster,
    KillNode,
    KillAgent,
    StopAgent,
}

const ORDER: [Fault; 5] =
    [Fault::Switchover, Fault::KillPostmaster, Fault::KillNode, Fault::KillAgent, Fault::StopAgent];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::Switchover => "switchover",
            Fault::KillPostmaster => "kill -9 of the postmaster",
            Fault::KillNode => "kill -9 of the whole node",
            Fault::KillAgent => "kill -9 of the agent",
            Fault::StopAgent => "SIGSTOP of the agent",
        }
    }

    fn expectation(self, ttl: Duration, mode: SyncArg) -> Expectation {
        let (leader_changes, outage_most) = match self {
            Fault::Switchover => (Some(true), ttl * 2 + Duration::from_secs(2)),
            // In place, or by somebody else: whichever the rules find better.
            Fault::KillPostmaster => (None, ttl * 4 + Duration::from_secs(5)),
            Fault::KillNode | Fault::StopAgent => (Some(true), ttl * 4 + Duration::from_secs(5)),
            // PostgreSQL goes on by itself; the client must not notice.
            Fault::KillAgent => (Some(false), Duration::from_secs(1)),
        };
        let bytes_lost_most = match self {
            // Where commits wait for nobody, what had not left the node is gone with it.
            Fault::KillNode if mode == SyncArg::Off => {
                Settings::default().maximum_lag_on_failover_bytes
            }
            _ => 0,
        };
        Expectation { leader_changes, outage_most, bytes_lost_most }
    }
}

struct Tour<'a> {
    console: Console,
    layout: &'a Layout,
    endpoints: client::Endpoints,
    members: &'a mut Members,
    writer: Writer,
}

/// Does every step.
pub(crate) async fn run(
    console: Console,
    layout: &Layout,
    members: &mut Members,
) -> Result<Report, Failure> {
    console.say("\nThe tour: a client writes all the while")?;
    let writer = Writer::start(layout).await?;
    let endpoints = layout.endpoints();
    let mut tour = Tour { console, layout, endpoints, members, writer };
    let mut steps = Vec::new();
    for (nth, fault) in ORDER.into_iter().enumerate() {
        console.say(&format!("\n{}. {}", nth + 1, fault.name()))?;
        let step = tour.step(fault).await?;
        console.say(step.lines().trim_end())?;
        steps.push(step);
    }
    console.say("")?;
    Ok(Report::new(layout.ttl, steps))
}

impl Tour<'_> {
    async fn step(&mut self, fault: Fault) -> Result<StepReport, Failure> {
        let (before, _) = self.whole(Instant::now(), SETTLED).await?;
        let leader = before.leader.clone();
        let mut broken = Vec::new();
        let began = Instant::now();
        self.inject(fault, &before, &mut broken).await?;
        // Where nobody need take over, give a wrong takeover the time to show.
        let least = match fault {
            Fault::KillPostmaster | Fault::KillAgent => self.layout.ttl + SETTLED,
            _ => SETTLED,
        };
        let (after, whole_since) = self.whole(began, least).await?;
        let ended = Instant::now();
        let lost = self.writer.lost(ended).await?;
        let mut step = StepReport {
            step: fault.name(),
            leader_before: leader,
            leader_after: after.leader,
            outage_ms: millis(self.writer.outage(began, ended)),
            old_primary_back_ms: millis(whole_since.saturating_duration_since(began)),
            rows_lost: lost.len() as u64,
            bytes_lost: span(&lost),
            explanation: self.explain().await,
            broken,
        };
        step.judge(&fault.expectation(self.layout.ttl, self.layout.mode));
        Ok(step)
    }

    async fn inject(
        &mut self,
        fault: Fault,
        before: &ClusterStatus,
        broken: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let leader = &before.leader;
        let guard = self.members.guard(leader)?;
        let table = Table::read();
        let missing = |what: &str| {
            let text = format!("{leader}: no {what} is running below process {guard}");
            Failure::Error(text)
        };
        match fault {
            Fault::Switchover => {
                if let Err(failure) = self.switchover(leader).await {
                    broken.push(failure.to_string());
                }
            }
            Fault::KillPostmaster => {
                let pid = table.postmaster(guard).ok_or_else(|| missing("postmaster"))?;
                send(pid, Signal::SIGKILL);
            }
            Fault::KillAgent => {
                let pid = table.agent(guard).ok_or_else(|| missing("agent"))?;
                send(pid, Signal::SIGKILL);
            }
            Fault::KillNode => {
                self.members.kill_node(leader, self.layout.ttl * 2)?;
                self.takeover(before, broken).await?;
            }
            Fault::StopAgent => {
                let pid = table.agent(guard).ok_or_else(|| missing("agent"))?;
                send(pid, Signal::SIGSTOP);
                let seen = self.takeover(before, broken).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                // Whatever came of it: a stopped agent would hang the demo's end.
                send(pid, Signal::SIGCONT);
                seen?;
            }
        }
        Ok(())
    }

    async fn switchover(&self, leader: &str) -> Result<(), Failure> {
        let mut reached = client::reach(&self.endpoints).await?;
        let request = SwitchoverRequest { leader: leader.to_owned(), ..Default::default() };
        let mut stream = reached.client.switchover(request).await?.into_inner();
        let mut last = String::new();
        while let Some(step) = stream.message().await? {
            self.console.say(&format!("  {}", step.text))?;
            if step.finished && step.done {
                return Ok(());
            }
            last = step.text;
        }
        Err(Failure::Refused(format!("the switchover was not done: {last}")))
    }

    /// Waits until somebody else leads.
    async fn takeover(
        &mut self,
        before: &ClusterStatus,
        broken: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let limit = self.layout.ttl * 10 + Duration::from_secs(30);
        while began.elapsed() < limit {
            self.tend()?;
            if let Ok(reached) = client::reach(&self.endpoints).await {
                let now = reached.status;
                if now.epoch > before.epoch && !now.leader.is_empty() && now.leader != before.leader
                {
                    return Ok(());
                }
            }
            tokio::time::sleep(POLL).await;
        }
        broken.push(format!("nobody took over within {} s", limit.as_secs()));
        Ok(())
    }

    /// Waits until the cluster is whole, writes are acknowledged, and `least` has passed since
    /// `from`. Returns since when it has been whole without a break.
    async fn whole(
        &mut self,
        from: Instant,
        least: Duration,
    ) -> Result<(ClusterStatus, Instant), Failure> {
        let began = Instant::now();
        let mut since: Option<Instant> = None;
        let mut shown = "no member answers".to_owned();
        while began.elapsed() < WHOLE_AGAIN {
            self.tend()?;
            let looked = Instant::now();
            let status = client::reach(&self.endpoints).await.ok().map(|reached| reached.status);
            let writing =
                self.writer.last_ack().is_some_and(|at| at >= from && at + SETTLED > looked);
            match status {
                Some(status)
                    if writing && healthy(&status, self.layout.members.len(), self.layout.mode) =>
                {
                    let first = *since.get_or_insert(looked);
                    if first.elapsed() >= SETTLED && from.elapsed() >= least {
                        return Ok((status, first));
                    }
                }
                Some(status) => {
                    since = None;
                    shown = crate::output::status::list(&status, true);
                }
                None => since = None,
            }
            tokio::time::sleep(POLL).await;
        }
        Err(Failure::Error(format!(
            "the cluster is not whole after {} s:\n{shown}{}",
            WHOLE_AGAIN.as_secs(),
            self.members.log_tails()
        )))
    }

    async fn explain(&self) -> Vec<String> {
        let Ok(mut reached) = client::reach(&self.endpoints).await else { return Vec::new() };
        match reached.client.explain(ExplainRequest { epoch: 0 }).await {
            Ok(answer) => answer.into_inner().lines,
            Err(status) => vec![format!("no explanation: {}", status.message())],
        }
    }

    fn tend(&mut self) -> Result<(), Failure> {
        for news in self.members.tend()? {
            self.console.say(&format!("  {news}"))?;
        }
        Ok(())
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Bytes of log between the first lost row and the last.
fn span(lost: &[Ack]) -> u64 {
    let first = lost.iter().map(|ack| ack.lsn).min();
    let last = lost.iter().map(|ack| ack.lsn).max();
    first.zip(last).map_or(0, |(first, last)| last.bytes_since(first))
}
