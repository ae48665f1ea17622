//! One member's configuration file, as `howdah init` and `howdah demo` write it. Pure.

use std::fmt::Write as _;
use std::path::Path;

use howdah_locks::Paths;

/// An address as this member opens it, and as the others reach it.
#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(crate) listen: String,
    pub(crate) connect: String,
}

/// What stands in it.
pub(crate) struct MemberFile<'a> {
    /// What comes before everything, whole lines.
    pub(crate) head: String,
    pub(crate) scope: &'a str,
    pub(crate) name: &'a str,
    pub(crate) tls: Paths,
    /// With it the member renews its certificate by itself.
    pub(crate) ca_key: Option<&'a Path>,
    pub(crate) raft_dir: &'a Path,
    pub(crate) control: At,
    /// The others' `control`.
    pub(crate) partners: Vec<String>,
    pub(crate) rest: At,
    pub(crate) write_door: String,
    pub(crate) read_door: String,
    pub(crate) postgres: At,
    pub(crate) data_dir: &'a Path,
    /// What follows in the section `postgresql`, and behind it, whole lines.
    pub(crate) tail: &'a str,
}

/// JSON's quoting is YAML's, so any path is safe.
fn quoted(text: impl std::fmt::Display) -> String {
    serde_json::Value::from(text.to_string()).to_string()
}

impl MemberFile<'_> {
    /// The file.
    pub(crate) fn yaml(&self) -> String {
        let path = |path: &Path| quoted(path.display());
        let mut text =
            format!("{}scope: {}\nname: {}\n", self.head, quoted(self.scope), quoted(self.name));
        let tls = &self.tls;
        let _ = writeln!(
            text,
            "tls:\n  ca: {}\n  cert: {}\n  key: {}",
            path(&tls.ca),
            path(&tls.cert),
            path(&tls.key)
        );
        if let Some(key) = self.ca_key {
            let _ = writeln!(text, "  ca_key: {}", path(key));
        }
        let partners: Vec<String> = self.partners.iter().map(quoted).collect();
        let _ = write!(
            text,
            "raft:\n  data_dir: {}\n  self_addr: {}\n  bind_addr: {}\n  partner_addrs: [{}]\n\
             restapi: {{ listen: {}, connect_address: {} }}\n\
             proxy: {{ read_write: {}, read_only: {} }}\n\
             postgresql:\n  listen: {}\n  connect_address: {}\n  data_dir: {}\n{}",
            path(self.raft_dir),
            quoted(&self.control.connect),
            quoted(&self.control.listen),
            partners.join(", "),
            quoted(&self.rest.listen),
            quoted(&self.rest.connect),
            quoted(&self.write_door),
            quoted(&self.read_door),
            quoted(&self.postgres.listen),
            quoted(&self.postgres.connect),
            path(self.data_dir),
            self.tail
        );
        text
    }
}
