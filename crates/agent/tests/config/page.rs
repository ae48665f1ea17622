//! docs/configuration.md lists exactly the keys of the code. `UPDATE_GOLDENFILES=1` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use howdah_agent::config::keys::{KEYS, variable};

const BEGIN: &str = "<!-- keys: made from the code's own list -->\n";
const END: &str = "<!-- end of keys -->\n";

fn tables() -> String {
    let mut out = String::new();
    let mut section = "";
    for key in KEYS {
        let own = section_of(key.path);
        if own != section {
            section = own;
            let title = if own.is_empty() { "Top level" } else { own };
            writeln!(out, "\n### {title}\n").unwrap();
            writeln!(out, "| key | type | default | change takes | meaning |").unwrap();
            writeln!(out, "|---|---|---|---|---|").unwrap();
        }
        let name = key.path.strip_prefix(own).unwrap_or(key.path).trim_start_matches('.');
        let row = [
            format!("`{name}`<br>`{}`", variable(key.path)),
            key.kind.to_owned(),
            key.default.to_owned(),
            key.takes.word().to_owned(),
            key.meaning.to_owned(),
        ];
        writeln!(out, "| {} |", row.join(" | ")).unwrap();
    }
    out + "\n"
}

fn section_of(path: &'static str) -> &'static str {
    for deep in ["postgresql.authentication", "bootstrap.dcs"] {
        if path.starts_with(deep) {
            return deep;
        }
    }
    path.split_once('.').map_or("", |(section, _)| section)
}

#[test]
fn the_page_lists_the_keys_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    let right = format!("{head}{BEGIN}{}{END}{tail}", tables());
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(&path, &right).unwrap();
    }
    assert!(page == right, "docs/configuration.md is old; UPDATE_GOLDENFILES=1 writes it anew");
}
