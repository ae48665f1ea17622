//! Tokens and shared secrets, as administrators ask for them.

use std::sync::Arc;
use std::time::Duration;

use howdah_consensus::Node;
use howdah_core::{Command, Right, Secrets, Token, WallTime};
use howdah_locks::{Identity, Role, token};
use howdah_rpc::access::{By, Caller, Person, Tokens};
use howdah_rpc::control::{
    CreateTokenRequest, CreateTokenResponse, ListTokensResponse, TokenEntry,
};
use tonic::Status;

use super::control::Desk;
use super::operations::{Teller, done, put, refused, tell};
use crate::clock::Clock;

/// Tokens as this member has applied them.
pub struct Book {
    /// The log.
    pub node: Arc<Node>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Tokens for Book {
    fn any(&self) -> bool {
        !self.node.applied().borrow().state.tokens.is_empty()
    }

    fn holder(&self, shown: &str) -> Option<Person> {
        let (hash, now) = (token::hash(shown), self.clock.wall());
        let state = self.node.applied().borrow().state.clone();
        let mut found = None;
        // All of them, so that the time says nothing.
        for (name, known) in &state.tokens {
            if token::same(&hash, &known.hash) && !expired(known, now) {
                found = Some(Person { role: role(known.right), name: name.clone(), by: By::Token });
            }
        }
        found
    }
}

fn expired(token: &Token, now: WallTime) -> bool {
    token.expires.is_some_and(|end| end <= now)
}

fn role(right: Right) -> Role {
    match right {
        Right::Viewer => Role::Viewer,
        Right::Operator => Role::Operator,
        Right::Admin => Role::Admin,
    }
}

/// Makes a token.
pub(super) async fn create(
    desk: Desk,
    caller: Caller,
    request: CreateTokenRequest,
) -> Result<CreateTokenResponse, Status> {
    let right = Right::of(&request.role).ok_or_else(|| {
        Status::invalid_argument(format!(
            "`{}` is no role of a token; write viewer, operator or admin",
            request.role
        ))
    })?;
    // The same names as in certificates.
    Identity::new("x", role(right), &request.name)
        .map_err(|why| Status::invalid_argument(why.to_string()))?;
    let drawn =
        token::draw(&desk.state().scope).map_err(|why| Status::internal(why.to_string()))?;
    let now = desk.clock.wall();
    let lifetime_ms = request.lifetime_s.saturating_mul(1000);
    let expires = (lifetime_ms > 0).then(|| WallTime(now.0.saturating_add(lifetime_ms)));
    let kept = Token { right, hash: token::hash(&drawn), by: caller.who(), made: now, expires };
    put(&desk, Command::GrantToken { name: request.name, token: kept })
        .await
        .map_err(Status::failed_precondition)?;
    Ok(CreateTokenResponse { token: drawn, expires_ms: expires.map_or(0, |end| end.0) })
}

/// The tokens, without what lets in.
pub(super) fn list(desk: &Desk) -> ListTokensResponse {
    let (state, now) = (desk.state(), desk.clock.wall());
    let entry = |(name, token): (&String, &Token)| TokenEntry {
        name: name.clone(),
        role: token.right.word().to_owned(),
        by: token.by.clone(),
        made_ms: token.made.0,
        expires_ms: token.expires.map_or(0, |end| end.0),
        expired: expired(token, now),
    };
    ListTokensResponse { tokens: state.tokens.iter().map(entry).collect() }
}

/// Takes a token away.
pub(super) async fn revoke(desk: Desk, name: String) -> Result<(), Status> {
    let command = Command::RevokeToken { name, at: desk.clock.wall() };
    put(&desk, command).await.map_err(Status::failed_precondition)
}

/// New passwords for the roles that members connect as.
pub async fn rotate(desk: Desk, to: Teller) {
    if desk.gives_passwords() {
        let text = "refused: the configuration gives the passwords of replication and rewinding; write new ones \
                    there on every member, then `howdah reload`";
        return refused(&to, &desk, "configured", text).await;
    }
    let state = desk.state();
    let Some(known) = &state.secrets else {
        let text = "refused: the cluster has no passwords yet; see `howdah list`";
        return refused(&to, &desk, "no_secrets", text).await;
    };
    let seen = known.version;
    let (secrets, at) = (draw(), desk.clock.wall());
    if let Err(why) = put(&desk, Command::RotateSecrets { secrets, seen, at }).await {
        return refused(&to, &desk, "refused", format!("refused: {why}")).await;
    }
    tell(&to, "new passwords are in the log; the leader is to set them").await;
    let limit = desk.timings.ttl * 6;
    if until_set(&desk, seen + 1, limit).await {
        done(&to, &desk, "the passwords for replication and rewinding were replaced").await;
    } else {
        let text = format!(
            "recorded, but no leader has set them within {} s: the next one will; see `howdah list`",
            limit.as_secs()
        );
        refused(&to, &desk, "timeout", text).await;
    }
}

/// Waits until a leader says that its roles have these.
async fn until_set(desk: &Desk, version: u64, limit: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + limit;
    let (mut heard, mut own) = (desk.board.changes(), desk.board.own());
    let set = || {
        desk.look(|sources| {
            let words = sources.leader().and_then(|leader| sources.words(leader));
            words.is_some_and(|(words, _)| words.secrets_version >= version)
        })
    };
    while !set() {
        let news = async {
            tokio::select! { _ = heard.changed() => {}, _ = own.changed() => {} }
        };
        if tokio::time::timeout_at(deadline, news).await.is_err() {
            return set();
        }
    }
    true
}

/// Fresh passwords.
pub fn draw() -> Secrets {
    let draw = || {
        let words: [u64; 3] = rand::random();
        words.map(|word| format!("{word:016x}")).concat()
    };
    Secrets { replication: draw(), rewind: draw(), version: 0 }
}
