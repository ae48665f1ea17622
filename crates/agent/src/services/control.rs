//! `howdah.control.v1`: what operators and programs ask of a cluster. Every member answers; the
//! log is the same everywhere, and proposals find the Raft leader by themselves.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use howdah_consensus::Node;
use howdah_core::{ClusterState, Epoch, MemberName, Timings};
use howdah_rpc::access::Caller;
use howdah_rpc::control::control_server::Control;
use howdah_rpc::control::{
    AuditRequest, AuditResponse, ClusterStatus, CreateTokenRequest, CreateTokenResponse, Event,
    EventsRequest, ExplainRequest, ExplainResponse, FailoverRequest, FenceRequest,
    GetConfigRequest, GetConfigResponse, HistoryRequest, HistoryResponse, ListTokensRequest,
    ListTokensResponse, LogRequest, LogResponse, LostRequest, LostResponse, PauseRequest, Progress,
    ReinitRequest, ReloadRequest, ReloadResponse, RestartRequest, ResumeRequest,
    RevokeTokenRequest, RevokeTokenResponse, RotateSecretsRequest, StatusRequest,
    SwitchoverRequest, UnfenceRequest,
};
use howdah_rpc::refusal::Reason as Refusal;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::audit::Reach;
use super::{audit, log, lost, operations, rights, upkeep};
use crate::board::Board;
use crate::clock::Clock;
use crate::config::Config;
use crate::counters::Counters;
use crate::explain;
use crate::order::Orders;
use crate::status::Sources;

/// What the services need of the agent. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    /// This member.
    pub me: MemberName,
    /// The log.
    pub node: Arc<Node>,
    /// Everybody's last words.
    pub board: Arc<Board>,
    /// The way to the loop.
    pub orders: Orders,
    /// Limits.
    pub timings: Timings,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What was counted.
    pub counters: Arc<Counters>,
    /// The local data directory, beside which lies what was kept before it was replaced.
    pub data_dir: PathBuf,
    /// The configuration in force.
    pub configured: watch::Receiver<Arc<Config>>,
}

impl Desk {
    /// Whether the configuration gives the passwords that members connect with.
    pub fn gives_passwords(&self) -> bool {
        self.configured.borrow().gives_passwords()
    }

    /// The state as applied here.
    pub fn state(&self) -> Arc<ClusterState> {
        self.node.applied().borrow().state.clone()
    }

    /// Answers a question on the whole picture.
    pub fn look<T>(&self, ask: impl FnOnce(&Sources<'_>) -> T) -> T {
        let (state, own, heard) =
            (self.state(), self.board.own().borrow().clone(), self.board.heard());
        let raft = self.node.status();
        let now = self.clock.boot();
        ask(&Sources {
            state: &state,
            me: &self.me,
            own: &own,
            heard: &heard,
            raft: &raft,
            counters: &self.counters,
            turned: self.counters.turned(now),
            now,
        })
    }

    /// The cluster as this member sees it.
    pub fn cluster(&self) -> ClusterStatus {
        self.look(|sources| sources.cluster())
    }
}

/// What the work tells.
pub(crate) type Told = mpsc::Receiver<Result<Progress, Status>>;

/// Orders that gRPC and REST take alike.
impl Desk {
    /// A switchover, or what it would take.
    pub(crate) fn order_switchover(&self, caller: &Caller, request: SwitchoverRequest) -> Told {
        let (desk, dry_run) = (self.clone(), request.dry_run);
        let to = if request.candidate.is_empty() { "the best" } else { &request.candidate };
        let what = format!("switch over to {to}");
        let work = |to| operations::switchover(desk, request, to);
        if dry_run { just(work) } else { audit::streamed(self, caller, (what, Reach::All), work) }
    }

    /// A failover, or what it would take.
    pub(crate) fn order_failover(&self, caller: &Caller, request: FailoverRequest) -> Told {
        let (desk, dry_run) = (self.clone(), request.dry_run);
        let to = if request.candidate.is_empty() { "the best" } else { &request.candidate };
        let mut what = format!("fail over to {to}");
        for (asked, words) in [
            (request.allow_data_loss, ", though writes may be lost"),
            (request.holder_is_stopped, ", as the silent holder is stopped"),
        ] {
            what.push_str(if asked { words } else { "" });
        }
        let work = |to| operations::failover(desk, request, to);
        if dry_run { just(work) } else { audit::streamed(self, caller, (what, Reach::All), work) }
    }

    /// A restart of one member's PostgreSQL.
    pub(crate) fn order_restart(&self, caller: &Caller, request: RestartRequest) -> Told {
        let (desk, what) = (self.clone(), format!("restart PostgreSQL of {}", request.member));
        audit::streamed(self, caller, (what, Reach::Alone), |to| upkeep::restart(desk, request, to))
    }
}

/// An order that was not begun.
fn unrecorded(why: String) -> Status {
    Status::unavailable(why)
}

/// What changes nothing is nobody's order.
fn just<W>(work: impl FnOnce(operations::Teller) -> W) -> Told
where
    W: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(work(sender));
    receiver
}

type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn streaming<T: Send + 'static>(
    receiver: mpsc::Receiver<Result<T, Status>>,
) -> Response<Streaming<T>> {
    Response::new(Box::pin(ReceiverStream::new(receiver)))
}

#[tonic::async_trait]
impl Control for Desk {
    type StatusStream = Streaming<ClusterStatus>;
    type EventsStream = Streaming<Event>;
    type SwitchoverStream = Streaming<Progress>;
    type FailoverStream = Streaming<Progress>;
    type ReinitStream = Streaming<Progress>;
    type RestartStream = Streaming<Progress>;
    type PauseStream = Streaming<Progress>;
    type ResumeStream = Streaming<Progress>;
    type FenceStream = Streaming<Progress>;
    type UnfenceStream = Streaming<Progress>;
    type RotateSecretsStream = Streaming<Progress>;

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        let (sender, receiver) = mpsc::channel(4);
        let (desk, watch) = (self.clone(), request.into_inner().watch);
        tokio::spawn(async move {
            let (mut applied, mut heard, mut own) =
                (desk.node.applied(), desk.board.changes(), desk.board.own());
            let mut last = None;
            loop {
                let now = desk.cluster();
                if last.as_ref() != Some(&now) {
                    if sender.send(Ok(now.clone())).await.is_err() || !watch {
                        return;
                    }
                    last = Some(now);
                }
                let news = async {
                    tokio::select! {
                        changed = applied.changed() => changed.is_ok(),
                        changed = heard.changed() => changed.is_ok(),
                        changed = own.changed() => changed.is_ok(),
                    }
                };
                if let Ok(false) = tokio::time::timeout(Duration::from_secs(1), news).await {
                    return;
                }
                // Not more than five pictures a second.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Ok(streaming(receiver))
    }

    async fn history(
        &self,
        _: Request<HistoryRequest>,
    ) -> Result<Response<HistoryResponse>, Status> {
        let changes = self.state().changes.iter().map(explain::change).collect();
        Ok(Response::new(HistoryResponse { changes }))
    }

    async fn lost(&self, _: Request<LostRequest>) -> Result<Response<LostResponse>, Status> {
        lost::answer(self).await.map(Response::new)
    }

    async fn log(&self, _: Request<LogRequest>) -> Result<Response<LogResponse>, Status> {
        let applied = self.node.applied().borrow().clone();
        log::answer(&self.me, &applied).map(Response::new)
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        let epoch = Epoch(request.into_inner().epoch);
        let mut answer = explain::explain(&self.state(), epoch).ok_or_else(|| {
            Refusal::NoSuchEpoch
                .status(format!("epoch {epoch} is not in the history; see `howdah history`"))
        })?;
        if epoch == Epoch(0) {
            answer.lines.extend(self.look(|sources| {
                sources.why_not_writable().map(|why| format!("No write can succeed now: {why}."))
            }));
        }
        Ok(Response::new(answer))
    }

    async fn events(
        &self,
        request: Request<EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let (sender, receiver) = mpsc::channel(64);
        let (mut applied, follow) = (self.node.applied(), request.into_inner().follow);
        tokio::spawn(async move {
            let mut sent = 0;
            loop {
                let state = applied.borrow_and_update().state.clone();
                for event in state.events.iter().filter(|event| event.index > sent) {
                    if sender.send(Ok(explain::event(event))).await.is_err() {
                        return;
                    }
                }
                sent = state.events.back().map_or(sent, |event| event.index.max(sent));
                if !follow || applied.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(streaming(receiver))
    }

    async fn switchover(
        &self,
        request: Request<SwitchoverRequest>,
    ) -> Result<Response<Self::SwitchoverStream>, Status> {
        let (caller, request) = (Caller::of(&request), request.into_inner());
        Ok(streaming(self.order_switchover(&caller, request)))
    }

    async fn failover(
        &self,
        request: Request<FailoverRequest>,
    ) -> Result<Response<Self::FailoverStream>, Status> {
        let (caller, request) = (Caller::of(&request), request.into_inner());
        Ok(streaming(self.order_failover(&caller, request)))
    }

    async fn reinit(
        &self,
        request: Request<ReinitRequest>,
    ) -> Result<Response<Self::ReinitStream>, Status> {
        let (caller, request, desk) = (Caller::of(&request), request.into_inner(), self.clone());
        let what = format!("reinit {}", request.member);
        let work = |to| upkeep::reinit(desk, request, to);
        Ok(streaming(audit::streamed(self, &caller, (what, Reach::Other), work)))
    }

    async fn restart(
        &self,
        request: Request<RestartRequest>,
    ) -> Result<Response<Self::RestartStream>, Status> {
        let (caller, request) = (Caller::of(&request), request.into_inner());
        Ok(streaming(self.order_restart(&caller, request)))
    }

    async fn reload(
        &self,
        request: Request<ReloadRequest>,
    ) -> Result<Response<ReloadResponse>, Status> {
        let (caller, member) = (Caller::of(&request), request.into_inner().member);
        let what = (format!("reload {member}"), Reach::Alone);
        let told = |answer: &ReloadResponse| upkeep::told(answer);
        let work = upkeep::reload(self.clone(), member);
        audit::once(self, &caller, what, work, told, unrecorded).await.map(Response::new)
    }

    async fn pause(
        &self,
        request: Request<PauseRequest>,
    ) -> Result<Response<Self::PauseStream>, Status> {
        let (caller, desk) = (Caller::of(&request), self.clone());
        let work = |to| upkeep::set_pause(desk, true, to);
        Ok(streaming(audit::streamed(self, &caller, ("pause".into(), Reach::All), work)))
    }

    async fn resume(
        &self,
        request: Request<ResumeRequest>,
    ) -> Result<Response<Self::ResumeStream>, Status> {
        let (caller, desk) = (Caller::of(&request), self.clone());
        let work = |to| upkeep::set_pause(desk, false, to);
        Ok(streaming(audit::streamed(self, &caller, ("resume".into(), Reach::All), work)))
    }

    async fn fence(
        &self,
        request: Request<FenceRequest>,
    ) -> Result<Response<Self::FenceStream>, Status> {
        let (caller, member, desk) =
            (Caller::of(&request), request.into_inner().member, self.clone());
        let what = format!("fence {member}");
        let work = |to| upkeep::set_fence(desk, member, true, to);
        Ok(streaming(audit::streamed(self, &caller, (what, Reach::All), work)))
    }

    async fn unfence(
        &self,
        request: Request<UnfenceRequest>,
    ) -> Result<Response<Self::UnfenceStream>, Status> {
        let (caller, member, desk) =
            (Caller::of(&request), request.into_inner().member, self.clone());
        let what = format!("unfence {member}");
        let work = |to| upkeep::set_fence(desk, member, false, to);
        Ok(streaming(audit::streamed(self, &caller, (what, Reach::All), work)))
    }

    async fn audit(&self, _: Request<AuditRequest>) -> Result<Response<AuditResponse>, Status> {
        Ok(Response::new(audit::answer(self)))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let (caller, request) = (Caller::of(&request), request.into_inner());
        let what = (format!("make token {} for {}", request.name, request.role), Reach::All);
        let work = rights::create(self.clone(), caller.clone(), request);
        let told = |_: &CreateTokenResponse| "it was shown once".to_owned();
        audit::once(self, &caller, what, work, told, unrecorded).await.map(Response::new)
    }

    async fn list_tokens(
        &self,
        _: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        Ok(Response::new(rights::list(self)))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let (caller, name) = (Caller::of(&request), request.into_inner().name);
        let what = (format!("revoke token {name}"), Reach::All);
        let work = rights::revoke(self.clone(), name);
        let told = |(): &()| "it lets nobody in any more".to_owned();
        audit::once(self, &caller, what, work, told, unrecorded).await?;
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn rotate_secrets(
        &self,
        request: Request<RotateSecretsRequest>,
    ) -> Result<Response<Self::RotateSecretsStream>, Status> {
        let (caller, desk) = (Caller::of(&request), self.clone());
        let what = "replace the passwords of replication and rewinding".to_owned();
        let work = |to| rights::rotate(desk, to);
        Ok(streaming(audit::streamed(self, &caller, (what, Reach::All), work)))
    }

    async fn get_config(
        &self,
        _: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        let json = crate::cluster_config::to_json(&self.state());
        Ok(Response::new(GetConfigResponse { json: json.to_string() }))
    }
}
