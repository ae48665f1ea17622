//! Every call that a member serves, as somebody makes it.

use std::time::Duration;

use anyhow::{Result, ensure};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::transport::Channel;

const ANSWER: Duration = Duration::from_secs(3);

/// Paths of all calls, with whether the answer is a stream.
///
/// # Errors
/// If there are none.
pub fn calls() -> Result<Vec<(String, bool)>> {
    let described = FileDescriptorSet::decode(howdah_rpc::DESCRIPTORS)?;
    let mut calls = Vec::new();
    for file in &described.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                calls.push((path, method.server_streaming()));
            }
        }
    }
    ensure!(calls.len() > 20, "{calls:?}");
    Ok(calls)
}

/// What came of an empty request: none where it was taken, or has not come to an end in time.
pub async fn refusal(
    channel: &Channel,
    token: Option<&str>,
    path: &str,
    streams: bool,
) -> Option<tonic::Status> {
    let path = path.parse().expect("a path");
    let mut client = tonic::client::Grpc::new(channel.clone());
    let call = async {
        client.ready().await.map_err(|why| tonic::Status::unavailable(why.to_string()))?;
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let mut request = tonic::Request::new(());
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.metadata_mut().insert("authorization", value);
        }
        if streams {
            client.server_streaming(request, path, codec).await.map(drop)
        } else {
            client.unary(request, path, codec).await.map(drop)
        }
    };
    tokio::time::timeout(ANSWER, call).await.ok()?.err()
}
