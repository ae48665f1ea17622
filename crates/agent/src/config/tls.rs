//! The `tls` section: certificates between members, and of people. Pure; the files are read by [`super::Config::access`].

use std::path::PathBuf;

use howdah_locks::Paths;

use super::reader::Section;

/// The files; none: the cluster is open to whoever can connect, which somebody must have asked for.
pub(super) fn read(top: &Section<'_>, insecure: bool) -> Option<Paths> {
    let Some(section) = top.section("tls") else {
        if !insecure {
            let remedy = "make certificates with `howdah pki`, and name them; or write \
                          `insecure: true`, if whoever can connect may do everything";
            top.error("tls", "is missing", remedy);
        }
        return None;
    };
    let [ca, cert, key] = ["ca", "cert", "key"].map(|name| file(&section, name));
    section.finish();
    Some(Paths { ca: ca?, cert: cert?, key: key? })
}

fn file(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    let path = PathBuf::from(section.required(key, "name a file, as /etc/howdah/tls/tls.crt"));
    if path.as_os_str().is_empty() {
        return None;
    }
    if !path.is_absolute() {
        section.error(key, "is not absolute", "write the whole path, beginning with /");
    }
    Some(path)
}

/// The value of a key as it is in force.
pub(super) fn value(paths: Option<&Paths>, key: &str) -> Option<String> {
    let paths = paths?;
    let path = match key {
        "ca" => &paths.ca,
        "cert" => &paths.cert,
        "key" => &paths.key,
        _ => return None,
    };
    Some(path.display().to_string())
}
