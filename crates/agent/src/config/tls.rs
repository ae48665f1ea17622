//! The `tls` section: certificates between members, and of people. Pure; the files are read by [`super::Config::access`].

use std::path::PathBuf;

use howdah_locks::Paths;

use super::Config;
use super::reader::Section;

/// The files, and the key of a CA that renews them; none: the cluster is open to whoever can connect, which somebody
/// must have asked for.
pub(super) fn read(top: &Section<'_>, insecure: bool) -> (Option<Paths>, Option<PathBuf>) {
    let Some(section) = top.section("tls") else {
        if !insecure {
            let remedy = "make certificates with `howdah pki`, and name them; or write \
                          `insecure: true`, if whoever can connect may do everything";
            top.error("tls", "is missing", remedy);
        }
        return (None, None);
    };
    const REMEDY: &str = "name a file, as /etc/howdah/tls/tls.crt";
    let [ca, cert, key] =
        ["ca", "cert", "key"].map(|name| file(&section, name, section.required(name, REMEDY)));
    let ca_key = section.text("ca_key").and_then(|text| {
        if text.is_empty() {
            section.error("ca_key", "is empty", "name a file, or leave it out and renew by hand");
        }
        file(&section, "ca_key", text)
    });
    section.finish();
    let paths = || Some(Paths { ca: ca?, cert: cert?, key: key? });
    (paths(), ca_key)
}

fn file(section: &Section<'_>, key: &'static str, text: String) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    if path.as_os_str().is_empty() {
        return None;
    }
    if !path.is_absolute() {
        section.error(key, "is not absolute", "write the whole path, beginning with /");
    }
    Some(path)
}

/// The value of a key as it is in force.
pub(super) fn value(config: &Config, key: &str) -> Option<String> {
    let paths = config.tls.as_ref()?;
    let path = match key {
        "ca_key" => config.ca_key.as_ref()?,
        "ca" => &paths.ca,
        "cert" => &paths.cert,
        "key" => &paths.key,
        _ => return None,
    };
    Some(path.display().to_string())
}
