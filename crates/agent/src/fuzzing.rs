//! A door for `fuzz/properties`: what nothing outside of this crate calls. No interface, and no promise.

use std::collections::BTreeMap;
use std::time::Duration;

use howdah_core::MemberName;
use howdah_core::view::PeerView;
use howdah_proxy::route::Picture;
use howdah_rpc::control::{Check, FailoverRequest, SwitchoverRequest};
use howdah_rpc::peer::Status;

pub use crate::doors::picture::{Seen, picture};
use crate::services::operations;
use crate::status::Sources;
use crate::{agent_check, rest, shell};

/// Code, kind and body of REST's answer to a question.
pub fn question(
    sources: &Sources<'_>,
    path: &str,
    query: &BTreeMap<String, String>,
) -> (u16, &'static str, String) {
    let answer = rest::look(sources, path, query);
    (answer.code, answer.kind, answer.body)
}

/// What HAProxy is told of this member.
pub fn agent_check(picture: &Picture, me: &MemberName, replica: bool) -> String {
    agent_check::answer(picture, me, replica)
}

/// How a switchover that is asked for stands, and who would take over.
pub fn switchover(
    sources: &Sources<'_>,
    request: &SwitchoverRequest,
) -> (Vec<Check>, Option<MemberName>) {
    operations::switchover_checks(sources, request)
}

/// How a failover that is asked for stands.
pub fn failover(sources: &Sources<'_>, request: &FailoverRequest) -> Vec<Check> {
    operations::failover_checks(sources, request)
}

/// A member's words of that age, as decisions see them.
pub fn peer(status: &Status, age: Duration) -> PeerView {
    shell::view::peer(status, age)
}
