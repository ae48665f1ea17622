//! `howdah show-config`: the cluster-wide configuration, as YAML for people, as Patroni shows it.

use howdah_rpc::control::GetConfigRequest;

use crate::args::{Format, Global};
use crate::client;
use crate::failure::{DONE, Failure};
use crate::output;

pub(super) async fn run(global: &Global) -> Result<u8, Failure> {
    let mut reached = client::reach(&client::endpoints(global)?).await?;
    let answer = reached.client.get_config(GetConfigRequest {}).await?.into_inner();
    let value: serde_json::Value = serde_json::from_str(&answer.json)
        .map_err(|error| Failure::Error(format!("the member's answer is no JSON: {error}")))?;
    let format = if global.output == Format::Table { Format::Yaml } else { global.output };
    output::print(&output::render(format, &value, String::new)?)?;
    Ok(DONE)
}
