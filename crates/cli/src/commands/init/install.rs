//! What a person pastes to put a member's files on its machine and start it. Pure.
//!
//! One line for one member, that may be pasted again: it makes what is missing, has `howdah config check` look before
//! anything starts, and ends at the first thing that fails.

use std::path::{Path, PathBuf};

use super::{CONFIG, TLS};

/// Where a member's files belong on its machine.
pub(super) const HOME: &str = "/etc/howdah";

/// The command for one member, whose files are in `dir`/`name`.
pub(super) fn command(dir: &Path, name: &str, host: &str, places: &[&Path]) -> String {
    let mut steps = vec![
        "set -e".to_owned(),
        format!("mkdir -p {HOME}"),
        format!("tar -C {HOME} --strip-components=1 --no-same-owner -xf -"),
        // The agent reads them anew while it runs. What root runs by them, no other user may change.
        format!("chown root:postgres {HOME}/{CONFIG}"),
        format!("chmod 0640 {HOME}/{CONFIG}"),
        // It renews its certificate there.
        format!("chown -R postgres: {HOME}/{TLS}"),
    ];
    for place in above(places) {
        let place = quoted(&place.display().to_string());
        steps.push(format!("[ -d {place} ] || install -d -o postgres -g postgres -m 0700 {place}"));
    }
    steps.push("howdah config check".to_owned());
    steps.push("systemctl enable --now howdah".to_owned());
    let (dir, remote) = (quoted(&dir.display().to_string()), quoted(&steps.join("; ")));
    format!("tar -C {dir} -cf - {name} | ssh root@{host} {remote}")
}

/// The directories that these lie in, each once.
fn above(places: &[&Path]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for parent in places.iter().filter_map(|place| place.parent()) {
        if parent != Path::new("/") && !found.iter().any(|known| known == parent) {
            found.push(parent.to_owned());
        }
    }
    found
}

/// As a shell's word.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_line_with_everything_in_it() {
        let places = [Path::new("/var/lib/howdah/data"), Path::new("/var/lib/howdah/raft")];
        let line = command(Path::new("main"), "n1", "10.0.0.1", &places);
        assert_eq!(
            line,
            "tar -C main -cf - n1 | ssh root@10.0.0.1 'set -e; mkdir -p /etc/howdah; \
             tar -C /etc/howdah --strip-components=1 --no-same-owner -xf -; \
             chown root:postgres /etc/howdah/howdah.yml; chmod 0640 /etc/howdah/howdah.yml; \
             chown -R postgres: /etc/howdah/tls; \
             [ -d /var/lib/howdah ] || install -d -o postgres -g postgres -m 0700 /var/lib/howdah; \
             howdah config check; systemctl enable --now howdah'"
        );
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for text in ["plain/path", "with blank", "it's", "$HOME `x` \"y\"", "", "a;b", "'"] {
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {}", quoted(text)))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
        // Twice, as a path within what ssh is given.
        let dir = Path::new("/srv/it's here/data");
        let line = command(Path::new("a b"), "n1", "h", &[dir]);
        let inner = line.replace("ssh root@h", "printf %s").split_once("| ").unwrap().1.to_owned();
        let output = std::process::Command::new("sh").arg("-c").arg(inner).output().unwrap();
        let inner = String::from_utf8(output.stdout).unwrap();
        assert!(inner.contains(r"[ -d '/srv/it'\''s here' ] || install"), "{inner}");
    }

    #[test]
    fn each_place_is_made_once_and_the_root_never() {
        let places = [Path::new("/data"), Path::new("/srv/a/data"), Path::new("/srv/a/raft")];
        assert_eq!(above(&places), [Path::new("/srv/a")]);
    }
}
