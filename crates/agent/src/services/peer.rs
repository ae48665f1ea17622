//! `howdah.peer.v1`: what members ask each other.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use howdah_core::MemberName;
use howdah_rpc::peer::peer_server::Peer;
use howdah_rpc::peer::{
    ReinitRequest, ReinitResponse, ReloadRequest, ReloadResponse, RestartRequest, RestartResponse,
    Status, WatchRequest,
};
use howdah_rpc::refusal::Reason as Refusal;
use tokio_stream::Stream;
use tonic::{Request, Response};

use crate::board::Board;
use crate::order::{Order, Orders};

/// Serves this member's status to its peers.
pub struct PeerService {
    /// Cluster name.
    pub scope: String,
    /// This member.
    pub me: MemberName,
    /// What it publishes.
    pub board: Arc<Board>,
    /// Where orders go.
    pub orders: Orders,
}

type StatusStream = Pin<Box<dyn Stream<Item = Result<Status, tonic::Status>> + Send>>;

impl PeerService {
    fn meant(&self, scope: &str, member: &str) -> Result<(), tonic::Status> {
        self.same_cluster(scope)?;
        if member == self.me.0 {
            return Ok(());
        }
        let text = format!("this is member {}, not {member}", self.me);
        Err(Refusal::OtherMember.status(text))
    }

    fn same_cluster(&self, scope: &str) -> Result<(), tonic::Status> {
        if scope == self.scope {
            return Ok(());
        }
        let text = format!("this is cluster {}, not {scope}", self.scope);
        Err(Refusal::OtherMember.status(text))
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    type WatchStream = StatusStream;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<StatusStream>, tonic::Status> {
        let request = request.into_inner();
        self.same_cluster(&request.scope)?;
        let every = Duration::from_millis(u64::from(request.every_ms.clamp(50, 10_000)));
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let mut own = self.board.own();
        tokio::spawn(async move {
            loop {
                let status = own.borrow_and_update().clone();
                if sender.send(Ok(status)).await.is_err() {
                    return;
                }
                // Changes at once, but no more than a hundred a second; and a sign of life in between.
                tokio::time::sleep(Duration::from_millis(10)).await;
                if let Ok(Err(_)) = tokio::time::timeout(every, own.changed()).await {
                    return;
                }
            }
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn reinit(
        &self,
        request: Request<ReinitRequest>,
    ) -> Result<Response<ReinitResponse>, tonic::Status> {
        let request = request.into_inner();
        self.meant(&request.scope, &request.member)?;
        let answer = self.orders.give(Order::Reinit).await;
        Ok(Response::new(ReinitResponse {
            accepted: answer.is_ok(),
            reason: answer.err().unwrap_or_default(),
        }))
    }

    async fn restart(
        &self,
        request: Request<RestartRequest>,
    ) -> Result<Response<RestartResponse>, tonic::Status> {
        let request = request.into_inner();
        self.meant(&request.scope, &request.member)?;
        let answer = self.orders.give(Order::Restart).await;
        Ok(Response::new(RestartResponse {
            accepted: answer.is_ok(),
            reason: answer.err().unwrap_or_default(),
        }))
    }

    async fn reload(
        &self,
        request: Request<ReloadRequest>,
    ) -> Result<Response<ReloadResponse>, tonic::Status> {
        let request = request.into_inner();
        self.meant(&request.scope, &request.member)?;
        Ok(Response::new(match self.orders.reload().await {
            Ok(reloaded) => ReloadResponse {
                reason: String::new(),
                applied: reloaded.applied,
                needs_restart: reloaded.needs_restart,
                needs_howdah_restart: reloaded.needs_howdah_restart,
            },
            Err(reason) => ReloadResponse { reason, ..ReloadResponse::default() },
        }))
    }
}
