//! `howdah token`, `howdah audit`, `howdah rotate-passwords`.

use howdah_rpc::control::{
    AuditRequest, CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, RotateSecretsRequest,
};

use super::act::follow;
use crate::args::{Global, TokenCreateArgs, days};
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output::{self, rights};

/// Prints the token alone, so that it can go into a file; what is to be said of it goes to stderr.
pub(super) async fn create(global: &Global, args: &TokenCreateArgs) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    let lifetime_s = args.days.map_or(0, |count| days(count).as_secs());
    let role = args.role.word().to_owned();
    let request = CreateTokenRequest { name: args.name.clone(), role, lifetime_s };
    let made = reached.client.create_token(request).await?.into_inner();
    let view = rights::MadeView::new(&args.name, args.role.word(), &made);
    output::print(&output::render(global.output, &view, || format!("{}\n", made.token))?)?;
    Ok(DONE)
}

pub(super) async fn list(global: &Global) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    let tokens = reached.client.list_tokens(ListTokensRequest {}).await?.into_inner().tokens;
    let views: Vec<_> = tokens.iter().map(rights::TokenView::from).collect();
    output::print(&output::render(global.output, &views, || rights::tokens(&views))?)?;
    Ok(DONE)
}

pub(super) async fn revoke(global: &Global, name: &str) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    reached.client.revoke_token(RevokeTokenRequest { name: name.to_owned() }).await?;
    let view = rights::RevokedView { revoked: name.to_owned() };
    let line = || format!("token {name} lets nobody in any more\n");
    output::print(&output::render(global.output, &view, line)?)?;
    Ok(DONE)
}

pub(super) async fn audit(global: &Global) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    let entries = reached.client.audit(AuditRequest {}).await?.into_inner().entries;
    let views: Vec<_> = entries.iter().map(rights::AuditView::from).collect();
    output::print(&output::render(global.output, &views, || rights::audit(&views))?)?;
    Ok(DONE)
}

pub(super) async fn rotate(global: &Global) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    let stream = reached.client.rotate_secrets(RotateSecretsRequest {}).await?.into_inner();
    follow(global.output, false, stream).await
}
