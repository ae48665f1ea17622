//! Which layer sets a key. Pure.
//!
//! Place: `howdah config explain KEY`, which adds what the replicated log has. Secrets are not shown.

use super::keys::{self, Key, Takes};
use super::value::{Node, Place};
use super::{Config, effective, parameters};

/// Where the value of a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// It is written nowhere.
    Default,
    /// A file or an environment variable.
    Written(Place),
}

/// A key, its value, and where that comes from.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Its full path.
    pub path: String,
    /// What is known of it.
    pub key: &'static Key,
    /// Where the value comes from.
    pub layer: Layer,
    /// The value in force on this member; `None` if there is none.
    pub value: Option<String>,
    /// The variable that would set it.
    pub variable: String,
    /// It is written, and a PostgreSQL parameter that waits for a restart of PostgreSQL.
    pub needs_postgresql_restart: bool,
    /// Its name among the cluster-wide settings, if it is one that the log has, or that the log's
    /// value stands behind.
    pub cluster_wide: Option<String>,
}

impl Explanation {
    /// A cluster-wide setting where no member's configuration is at hand; `None` if it is none.
    pub fn of_the_cluster(asked: &str) -> Option<Self> {
        let name = asked.trim();
        let name = name.strip_prefix(SEEDS).unwrap_or(name);
        let path = format!("{SEEDS}{name}");
        let key = keys::find(&path)?;
        let parameter = path.rsplit_once(PARAMETERS).map(|(_, name)| name);
        Some(Explanation {
            key,
            layer: Layer::Default,
            value: None,
            variable: keys::variable(&path),
            needs_postgresql_restart: parameter
                .and_then(parameters::needs_restart)
                .unwrap_or(false),
            cluster_wide: Some(name.to_owned()),
            path,
        })
    }

    /// Whether the log's value goes before this one: the file only seeds a new cluster.
    pub fn only_seeds(&self) -> bool {
        self.key.takes == Takes::NewCluster
    }
}

const SEEDS: &str = "bootstrap.dcs.";
const PARAMETERS: &str = "postgresql.parameters.";

/// `None` if there is no such key. The names of cluster-wide settings are taken without
/// `bootstrap.dcs.` too.
pub(super) fn explain(config: &Config, root: &Node, asked: &str) -> Option<Explanation> {
    let asked = asked.trim();
    let seed = format!("{SEEDS}{asked}");
    let path = if keys::find(asked).is_some() { asked } else { seed.as_str() };
    let key = keys::find(path)?;
    let steps = keys::steps(path);
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let written = root.at(&steps).filter(|node| !matches!(node.value, super::value::Value::Null));
    let layer = written.map_or(Layer::Default, |node| Layer::Written(node.place.clone()));
    let value = match (key.path.ends_with("password_file"), written) {
        (true, Some(node)) => node.text(),
        _ => effective::value(config, key, path),
    };
    let parameter = path.rsplit_once(PARAMETERS).map(|(_, name)| name);
    let cluster_wide = path.strip_prefix(SEEDS).or_else(|| parameter.and(Some(path)));
    Some(Explanation {
        path: path.to_owned(),
        key,
        layer,
        value: value.filter(|value| !value.is_empty()),
        variable: keys::variable(path),
        needs_postgresql_restart: parameter.and_then(parameters::needs_restart).unwrap_or(false),
        cluster_wide: cluster_wide.map(str::to_owned),
    })
}
