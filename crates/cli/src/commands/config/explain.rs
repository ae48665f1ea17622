//! `howdah config explain KEY`: the layer that sets a key, and the value in force.
//!
//! Layers, the first that has a value wins: the replicated log for cluster-wide keys, which a file
//! only seeds; environment variable; file; for PostgreSQL parameters the log again; default. The
//! log is asked of the members; when nobody answers, the rest is told all the same.

use howdah_agent::config::{Config, Explanation, Layer, Place, Sources, keys};
use howdah_rpc::control::GetConfigRequest;
use serde::Serialize;
use serde_json::Value;

use super::placed;
use crate::args::Global;
use crate::client::{self, Endpoints};
use crate::commands::agent::config_file;
use crate::failure::{DONE, Failure};
use crate::output;

/// The answer, as programs read it. Fields are added, never renamed.
#[derive(Serialize)]
pub struct View {
    key: String,
    /// The value in force; null: none.
    value: Option<String>,
    /// `default`, `file`, `environment` or `cluster`.
    layer: &'static str,
    file: Option<String>,
    line: Option<u64>,
    column: Option<u64>,
    /// The variable that sets it, or would.
    variable: String,
    /// What is written locally for a key that the log has; it only seeds a new cluster.
    seed: Option<String>,
    /// Why the log could not be asked.
    unasked: Option<String>,
    default: &'static str,
    /// `reload`, `restart` or `new cluster`.
    change_takes: &'static str,
    needs_postgresql_restart: bool,
    meaning: &'static str,
}

impl View {
    /// For docs/cli.md.
    pub(crate) fn example() -> Option<Self> {
        let found = Explanation::of_the_cluster("ttl")?;
        Some(view(&found, Some(Ok(Some("5".to_owned())))))
    }
}

pub(in crate::commands) async fn explain(global: &Global, key: &str) -> Result<u8, Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
    if global.config.is_none() && !config_file(global).exists() {
        return without_a_file(global, key).await;
    }
    let sources = Sources::read(&config_file(global)).map_err(|error| usage(&error))?;
    let found = Config::explain(&sources, key).map_err(|error| usage(&error))?;
    let Some(found) = found else { return Err(no_such_key(key)) };
    let log = match &found.cluster_wide {
        Some(name) if asks_the_log(&found) => Some(in_the_log(global, &sources, name).await),
        _ => None,
    };
    let view = view(&found, log);
    output::print(&output::render(global.output, &view, || for_people(&view))?)?;
    Ok(DONE)
}

fn no_such_key(key: &str) -> Failure {
    let remedy = match keys::suggestion(key) {
        Some(known) => format!("did you mean `{known}`?"),
        None => "docs/configuration.md lists all keys".to_owned(),
    };
    Failure::Usage(format!("there is no key `{key}`; {remedy}"))
}

/// On a machine that has no member: what the cluster has can be told, the members' own keys not.
async fn without_a_file(global: &Global, key: &str) -> Result<u8, Failure> {
    let Some(found) = Explanation::of_the_cluster(key) else {
        if keys::find(key.trim()).is_none() {
            return Err(no_such_key(key));
        }
        return Err(Failure::Usage(format!(
            "`{key}` is each member's own, and there is no configuration at {}; name one with -c",
            config_file(global).display()
        )));
    };
    let name = found.cluster_wide.as_deref().unwrap_or_default();
    let value = ask(&client::endpoints(global)?, name).await?;
    let view = view(&found, Some(Ok(value)));
    output::print(&output::render(global.output, &view, || for_people(&view))?)?;
    Ok(DONE)
}

/// A parameter of this member goes before the cluster's.
fn asks_the_log(found: &Explanation) -> bool {
    found.only_seeds() || found.layer == Layer::Default
}

/// The cluster's value; the reason when nobody tells.
async fn in_the_log(
    global: &Global,
    sources: &Sources,
    name: &str,
) -> Result<Option<String>, String> {
    let told = |failure: Failure| failure.to_string();
    let endpoints = match &global.endpoint {
        Some(_) => client::endpoints(global).map_err(told)?,
        None => {
            let (config, _) = Config::from_sources(sources).map_err(|error| error.to_string())?;
            let access = client::access(&config).map_err(told)?;
            Endpoints::new(config.control_addresses(), access)
        }
    };
    ask(&endpoints, name).await.map_err(|failure| failure.to_string())
}

async fn ask(endpoints: &Endpoints, name: &str) -> Result<Option<String>, Failure> {
    let mut client = client::reach(endpoints).await?.client;
    let json = client.get_config(GetConfigRequest {}).await?.into_inner().json;
    let config: Value = serde_json::from_str(&json)
        .map_err(|error| Failure::Error(format!("the member's answer is no JSON: {error}")))?;
    Ok(value_at(&config, name))
}

/// The names of parameters may have dots of their own.
fn value_at(config: &Value, name: &str) -> Option<String> {
    let value = match name.strip_prefix("postgresql.parameters.") {
        Some(parameter) => config.get("postgresql")?.get("parameters")?.get(parameter)?,
        None => name.split('.').try_fold(config, |at, step| at.get(step))?,
    };
    Some(match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => {
            let text = |line: &Value| line.as_str().map_or_else(|| line.to_string(), str::to_owned);
            lines.iter().map(text).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    })
}

fn view(found: &Explanation, log: Option<Result<Option<String>, String>>) -> View {
    let (file, line, column, variable) = match &found.layer {
        Layer::Default => (None, None, None, None),
        Layer::Written(place) => placed(place),
    };
    let local = match &found.layer {
        Layer::Default => "default",
        Layer::Written(Place::Env(_)) => "environment",
        Layer::Written(_) => "file",
    };
    let (told, unasked) = match log {
        Some(Ok(told)) => (told, None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    let seed = found.value.clone().filter(|_| found.only_seeds() && local != "default");
    let (layer, value) = match told {
        Some(told) => ("cluster", Some(told)),
        None => (local, found.value.clone()),
    };
    View {
        key: found.path.clone(),
        value,
        layer,
        file,
        line,
        column,
        variable: variable.unwrap_or_else(|| found.variable.clone()),
        seed,
        unasked,
        default: found.key.default,
        change_takes: found.key.takes.word(),
        needs_postgresql_restart: found.needs_postgresql_restart,
        meaning: found.key.meaning,
    }
}

fn for_people(view: &View) -> String {
    let value = view.value.as_deref().unwrap_or("(not set)").replace('\n', "\n  ");
    let place = match (&view.file, view.line, view.column) {
        (Some(file), Some(line), Some(column)) => format!("{file}:{line}:{column}"),
        _ => view.variable.clone(),
    };
    let layer = match view.layer {
        "default" => format!("default: {}", view.default),
        "cluster" => "cluster-wide, in the replicated log".to_owned(),
        "environment" => format!("environment variable {}", view.variable),
        _ => format!("file {place}"),
    };
    let mut text = format!("{} = {value}\n  set by:   {layer}\n", view.key);
    if let Some(seed) = &view.seed {
        text += &format!("  seed:     {seed} ({place}); it counts for a new cluster only\n");
    }
    if let Some(why) = &view.unasked {
        text += &format!("  log:      the cluster was not asked: {why}\n");
    }
    if view.layer != "environment" {
        text += &format!("  variable: {}\n", view.variable);
    }
    let takes = match (view.change_takes, view.needs_postgresql_restart) {
        ("reload", true) => "a reload, and a restart of PostgreSQL",
        ("reload", false) => "a reload",
        ("restart", _) => "a restart of howdah",
        _ => "a new cluster; afterwards the log has the value",
    };
    text += &format!("  change:   takes {takes}\n  meaning:  {}\n", view.meaning);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_log_are_found_by_their_names() {
        let config = serde_json::json!({
            "ttl": 5,
            "postgresql": {
                "use_slots": true,
                "pg_hba": ["local all all peer", "host all all all reject"],
                "parameters": { "pg_stat_statements.max": "5000" }
            }
        });
        let at = |name| value_at(&config, name);
        assert_eq!(at("ttl").as_deref(), Some("5"));
        assert_eq!(at("postgresql.use_slots").as_deref(), Some("true"));
        assert_eq!(at("postgresql.parameters.pg_stat_statements.max").as_deref(), Some("5000"));
        assert_eq!(
            at("postgresql.pg_hba").as_deref(),
            Some("local all all peer\nhost all all all reject")
        );
        assert_eq!(at("postgresql.parameters.work_mem"), None);
    }
}
