//! Text that is written for PostgreSQL from what people and members say, and what is read back of it.

use howdah_core::DataId;
use howdah_core::MemberName;
use howdah_postgres::settings::{
    application_name, clean_auto_conf, conninfo_value, parse_application_name, parse_sync_names,
    quote, sync_names, with_include,
};

use crate::text;

/// Names that `postgresql.auto.conf` must not set.
const DECIDED: [&str; 3] = ["primary_conninfo", "port", "synchronous_standby_names"];

/// No value breaks out of its quotes, in a configuration file or a connection string; what is set by howdah is set
/// by no other file; what commits wait for is read as it was written.
pub fn conf_text(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let quoted =
        quote("a setting", &text).inspect(|quoted| assert_eq!(unquoted(quoted), text)).is_ok();
    assert_eq!(quoted, !text.contains(['\n', '\r', '\0']));
    connects(&text);
    files(&text);
    let first = text.lines().next().unwrap_or_default();
    names(first) || quoted
}

/// As PostgreSQL's scanner reads a value: quotes doubled, backslash escapes. Source: guc-file.l, DeescapeQuotedString.
fn unquoted(quoted: &str) -> String {
    let inside =
        quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).expect("quotes");
    let (mut out, mut chars) = (String::new(), inside.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| "\\'".contains(*c)).expect("an escape")),
            '\'' => {
                assert_eq!(chars.next(), Some('\''), "the value ends inside of {quoted}");
                out.push('\'');
            }
            other => out.push(other),
        }
    }
    out
}

/// As a libpq connection string is read, by a parser that is not ours.
fn connects(value: &str) {
    if value.contains('\0') {
        return;
    }
    let string = format!("user=a application_name={} host=b", conninfo_value(value));
    let config: tokio_postgres::Config =
        string.parse().unwrap_or_else(|why| panic!("{string}: {why}"));
    assert_eq!(config.get_application_name(), Some(value));
    assert_eq!((config.get_user(), config.get_hosts().len()), (Some("a"), 1), "{string}");
}

fn files(text: &str) {
    let (kept, removed) = clean_auto_conf(text, &DECIDED);
    let sets = |line: &str, name: &str| {
        let line = line.trim_start().to_ascii_lowercase();
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '=', '\t']))
    };
    assert!(!kept.lines().any(|line| DECIDED.iter().any(|name| sets(line, name))), "{kept}");
    assert!(removed.iter().all(|name| DECIDED.contains(&name.as_str())));
    let (again, more) = clean_auto_conf(&kept, &DECIDED);
    // A carriage return before the end of a line is the line's end.
    assert_eq!((again.replace('\r', ""), more), (kept.replace('\r', ""), Vec::new()));
    let included = with_include(text);
    assert!(included.ends_with("include 'howdah.conf'\n"));
    assert_eq!(with_include(&included).replace('\r', ""), included.replace('\r', ""));
}

fn names(line: &str) -> bool {
    let name = parse_application_name(line);
    if let Some((member, data_id)) = &name {
        assert_eq!(format!("{member}-{data_id}"), lower_id(line, member));
        if let Ok(written) = application_name(member, *data_id) {
            assert_eq!(parse_application_name(&written), Some((member.clone(), *data_id)));
        }
    }
    if let Ok(written) = application_name(&MemberName::from(line), DataId(7)) {
        assert_eq!(parse_application_name(&written), Some((MemberName::from(line), DataId(7))));
        assert!(written.len() <= 63);
    }
    let demand = parse_sync_names(line);
    if let Some(demand) = &demand
        && let Ok(written) = sync_names(demand)
        && (demand.is_meaningful() || demand.acks == 0)
    {
        let again = parse_sync_names(&written).expect("what was written");
        assert_eq!(again.acks, demand.acks);
        assert!(demand.acks == 0 || again == *demand, "{demand:?} is written {written}");
    }
    name.is_some() || demand.is_some()
}

/// Data ids are read in either case, and written in lower case.
fn lower_id(line: &str, member: &MemberName) -> String {
    let (name, id) = line.split_at(member.0.len());
    format!("{name}{}", id.to_ascii_lowercase())
}
