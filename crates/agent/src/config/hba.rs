//! Lines for pg_hba and pg_ident: what PostgreSQL would refuse is refused here, because it does not
//! start with such a file. Pure.
//!
//! Mended with a warning: a host name with `/32` behind it, which PostgreSQL refuses and people
//! write.

use std::net::IpAddr;

use super::reader::{Section, nearest};
use super::value::Place;

const TYPES: &[&str] = &["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];
/// Of PostgreSQL 16; what they include is PostgreSQL's business.
const INCLUDES: &[&str] = &["include", "include_if_exists", "include_dir"];
const METHODS: &[&str] = &[
    "trust",
    "reject",
    "scram-sha-256",
    "md5",
    "password",
    "gss",
    "sspi",
    "ident",
    "peer",
    "ldap",
    "radius",
    "cert",
    "pam",
    "bsd",
    "oauth",
];
const EXAMPLE: &str = "write as `host all all 10.0.0.0/8 scram-sha-256`";
/// The map that lets the agent in.
const OWN_MAP: &str = "howdah";

/// What is wrong with a line, and what to do.
type Mistake = (String, String);

/// Reads lines for pg_hba.
pub(super) fn lines(section: &Section<'_>, key: &'static str) -> Vec<String> {
    checked(section, key, |place, line| {
        let (line, mended) = hba_line(line)?;
        if let Some(host) = mended {
            let what = format!("`{host}`: a host name has no mask; taken without it");
            section.report.warn(place, &section.path(key), what, "write the name alone");
        }
        Ok(line)
    })
}

/// Reads lines for pg_ident.
pub(super) fn ident_lines(section: &Section<'_>, key: &'static str) -> Vec<String> {
    checked(section, key, |_, line| ident_line(line).map(|()| line.to_owned()))
}

fn checked(
    section: &Section<'_>,
    key: &'static str,
    check: impl Fn(&Place, &str) -> Result<String, Mistake>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (line, place) in section.lines(key).unwrap_or_default() {
        match check(&place, line.trim()) {
            Ok(line) => lines.push(line),
            Err((what, remedy)) => {
                section.report.error(&place, &section.path(key), what, &remedy);
            }
        }
    }
    lines
}

fn mistake<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T, Mistake> {
    Err((what.into(), remedy.into()))
}

/// The words of a line; quotes and lists stay as written.
fn words(line: &str) -> Result<Vec<&str>, Mistake> {
    if line.contains(['\n', '\r', '\0']) || line.ends_with('\\') {
        return mistake("a line must not hold a line break", "write one item per line");
    }
    let mut words = Vec::new();
    let (mut start, mut quoted) = (None, false);
    for (at, c) in line.char_indices() {
        match c {
            '#' if !quoted => {
                words.extend(start.take().map(|from| &line[from..at]));
                return Ok(words);
            }
            '"' => {
                quoted = !quoted;
                start.get_or_insert(at);
            }
            c if c.is_whitespace() && !quoted => {
                // A comma joins what stands behind it to the list.
                let list = line[..at].trim_end().ends_with(',')
                    || line[at..].trim_start().starts_with(',');
                if !list {
                    words.extend(start.take().map(|from| &line[from..at]));
                }
            }
            _ => {
                start.get_or_insert(at);
            }
        }
    }
    if quoted {
        return mistake(format!("`{line}` has a quote that does not end"), "close it");
    }
    words.extend(start.map(|from| &line[from..]));
    Ok(words)
}

/// The line to use, and the address that was mended in it.
fn hba_line(line: &str) -> Result<(String, Option<String>), Mistake> {
    let words = words(line)?;
    let Some(kind) = words.first() else { return Ok((line.to_owned(), None)) };
    if INCLUDES.contains(kind) {
        return Ok((line.to_owned(), None));
    }
    if !TYPES.contains(kind) {
        let remedy = match nearest(kind, TYPES) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("write {}", TYPES.join(", ")),
        };
        return mistake(format!("`{kind}` is no type of connection"), remedy);
    }
    if *kind == "local" {
        let Some(method) = words.get(3) else {
            return mistake(format!("`{line}` is too short"), "write as `local all all peer`");
        };
        return after(method, &words[4..]).map(|()| (line.to_owned(), None));
    }
    let Some(address) = words.get(3) else {
        return mistake(format!("`{line}` is too short"), EXAMPLE);
    };
    let mended = host_with_mask(address);
    // An address without a mask has it in a word of its own.
    let separate = !address.contains('/') && address.parse::<IpAddr>().is_ok();
    match (separate, words.get(4)) {
        (true, None) => return mistake(format!("`{address}` has no mask"), EXAMPLE),
        (true, Some(mask)) if mask.parse::<IpAddr>().is_err() => {
            let most = if address.contains(':') { 128 } else { 32 };
            let what = format!("`{address}` has no mask behind it");
            return mistake(what, format!("write `{address}/{most}` for this one address"));
        }
        _ => {}
    }
    if mended.is_none() {
        network(address)?;
    }
    let rest = if separate { &words[5..] } else { &words[4..] };
    let Some((method, options)) = rest.split_first() else {
        return mistake(format!("`{line}` names no method"), EXAMPLE);
    };
    after(method, options)?;
    match mended {
        Some(name) => {
            let line = line.replacen(address, name, 1);
            Ok((line, Some((*address).to_owned())))
        }
        None => Ok((line.to_owned(), None)),
    }
}

/// The host name of `name/32`, which means that host alone.
fn host_with_mask(address: &str) -> Option<&str> {
    let (name, bits) = address.split_once('/')?;
    let letters = name.chars().any(|c| c.is_ascii_alphabetic()) && !name.contains(':');
    (letters && matches!(bits, "32" | "128") && is_host(name)).then_some(name)
}

fn is_host(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.chars().all(plain)
}

fn network(address: &str) -> Result<(), Mistake> {
    let bare = address.trim_matches('"');
    if ["all", "samehost", "samenet"].contains(&bare) {
        return Ok(());
    }
    let Some((ip, bits)) = bare.split_once('/') else {
        let numbers = bare.chars().all(|c| c.is_ascii_digit() || c == '.');
        if bare.parse::<IpAddr>().is_ok() || (is_host(bare) && !numbers) {
            return Ok(());
        }
        return mistake(format!("`{address}` is no address"), EXAMPLE);
    };
    let Ok(parsed) = ip.parse::<IpAddr>() else {
        return mistake(format!("`{address}` is no network"), EXAMPLE);
    };
    let most = if parsed.is_ipv4() { 32 } else { 128 };
    if bits.parse::<u8>().is_ok_and(|bits| bits <= most) {
        return Ok(());
    }
    mistake(format!("`{address}` has no mask of 0 to {most} bits"), EXAMPLE)
}

fn after(method: &str, options: &[&str]) -> Result<(), Mistake> {
    if !METHODS.contains(&method) {
        let remedy = match nearest(method, METHODS) {
            Some(known) => format!("did you mean `{known}`?"),
            None => "write scram-sha-256, peer, cert, reject or another of PostgreSQL's".to_owned(),
        };
        return mistake(format!("`{method}` is no method of authentication"), remedy);
    }
    match options.iter().find(|option| !option.contains('=')) {
        Some(option) => {
            mistake(format!("`{option}` is no option"), "write options as NAME=VALUE, or remove it")
        }
        None => Ok(()),
    }
}

fn ident_line(line: &str) -> Result<(), Mistake> {
    const FORM: &str = "write MAP SYSTEM-USER DATABASE-USER";
    let words = words(line)?;
    match words.as_slice() {
        [] => Ok(()),
        [kind, _] if INCLUDES.contains(kind) => Ok(()),
        [map, _, _] if map.trim_matches('"') == OWN_MAP => {
            mistake(format!("the map `{OWN_MAP}` is howdah's own"), "give it another name")
        }
        [_, _, _] => Ok(()),
        _ => mistake(format!("`{line}` has {} words, not three", words.len()), FORM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_forms_pass() {
        for line in [
            "local all all peer",
            "local all postgres peer map=ops",
            "host all all 10.0.0.0/8 scram-sha-256",
            "host all all 10.0.0.0 255.0.0.0 md5",
            "host all all ::1/128 trust",
            "hostssl \"my db\",other +group,\"a b\" samenet cert clientcert=verify-full # who",
            "host all all .example.org scram-sha-256",
            "host a, b all all reject",
            "include_dir more.d",
            "# nothing",
        ] {
            assert_eq!(hba_line(line), Ok((line.to_owned(), None)), "{line}");
        }
    }

    #[test]
    fn a_host_with_a_mask_is_mended() {
        let (line, mended) = hba_line("host replication rep shop-1/32 md5").unwrap();
        assert_eq!(line, "host replication rep shop-1 md5");
        assert_eq!(mended.as_deref(), Some("shop-1/32"));
    }

    #[test]
    fn what_postgresql_refuses_is_refused() {
        for line in [
            "host all all",
            "hots all all all md5",
            "host all all 10.0.0.0/33 md5",
            "host all all 10.0.0.0 md5",
            "host all all 10.0.0 md5",
            "host all all shop-1/24 md5",
            "host all all all sha256",
            "host all all all md5 yes",
            "local all \"all peer",
            "local all all peer\\",
        ] {
            assert!(hba_line(line).is_err(), "{line}");
        }
        for line in ["map user", "howdah root postgres", "a b c d"] {
            assert!(ident_line(line).is_err(), "{line}");
        }
        assert!(ident_line("ops /^(.*)@example\\.org$ \\1").is_ok());
    }
}
