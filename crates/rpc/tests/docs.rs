//! docs/grpc.md is made of the comments in the .proto files of what outsiders may call.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::fmt::Write as _;
use std::path::Path;

const HEAD: &str = "# gRPC

Made from the comments in proto/ by a test; `UPDATE_DOCS=1 cargo nextest run -p howdah-rpc` writes it anew.

Served by every member on its gRPC port (7432), together with the health and the reflection service, so that
`grpcurl -cacert ca.crt -cert tls.crt -key tls.key HOST:7432 list` works out of the box ([certificates](locks.md)). Any member answers; what only the leader or another
member can do is forwarded. `howdah.raft.v1` and `howdah.peer.v1` are between members and may change with any
version; field numbers of `howdah.control.v1` are never reused. Deadlines of callers are honoured: work that
was begun goes on, and `Status` shows it.
";

/// Appends what one file declares.
fn describe(text: &mut String, proto: &str) {
    let (mut comment, mut inside) = (Vec::<&str>::new(), String::new());
    for line in proto.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("//") {
            comment.push(words.trim());
            continue;
        }
        let told = std::mem::take(&mut comment).join(" ");
        if let Some(name) = line.strip_prefix("service ") {
            inside = name.trim_end_matches(" {").to_owned();
            let _ = writeln!(text, "\n## {inside}\n\n{told}\n\n| Call | Meaning |\n|---|---|");
        } else if let Some(name) = line.strip_prefix("message ") {
            inside = name.trim_end_matches("{}").trim_end_matches(" {").trim().to_owned();
            let _ = writeln!(text, "\n### {inside}\n\n{told}");
            if !line.ends_with("{}") {
                let _ = writeln!(text, "\n| Field | Type | No. | Meaning |\n|---|---|---|---|");
            }
        } else if let Some(call) = line.strip_prefix("rpc ") {
            let call = call.trim_end_matches(';').replace(" returns ", " → ");
            let _ = writeln!(text, "| `{call}` | {told} |");
        } else if let Some((field, number)) = line.trim_end_matches(';').split_once(" = ")
            && !inside.is_empty()
        {
            let (kind, name) = field.rsplit_once(' ').unwrap_or(("", field));
            let _ = writeln!(text, "| `{name}` | {kind} | {number} | {told} |");
        }
    }
}

#[test]
fn the_page_on_grpc_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut made = HEAD.to_owned();
    let proto = root.join("proto/howdah/control/v1/control.proto");
    describe(&mut made, &std::fs::read_to_string(proto).unwrap());
    let path = root.join("docs/grpc.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(made == kept, "docs/grpc.md is out of date; UPDATE_DOCS=1 writes it anew");
}

#[test]
fn every_call_message_and_field_has_a_comment() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in ["raft/v1/raft.proto", "peer/v1/peer.proto", "control/v1/control.proto"] {
        let text = std::fs::read_to_string(root.join("proto/howdah").join(file)).unwrap();
        let mut before = "";
        for line in text.lines().map(str::trim) {
            let declares = line.starts_with("rpc ")
                || line.starts_with("message ")
                || line.starts_with("service ")
                || (line.contains(" = ") && !line.starts_with("//") && !line.starts_with("syntax"));
            assert!(!declares || before.starts_with("//"), "{file}: {line} has no comment");
            before = line;
        }
    }
}
