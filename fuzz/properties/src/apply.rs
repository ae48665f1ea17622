//! Commands out of the log, and what they make of the replicated state.

use std::collections::BTreeSet;

use howdah_consensus::{MAX_COMMAND_BYTES, fuzzing};
use howdah_core::command::Command;
use howdah_core::{ClusterState, Outcome};
use howdah_testkit::invariant;

use crate::parts;

/// Commands of one input at most.
const MOST: usize = 60;

/// A command that decodes is encoded to what decodes to it, a refusal tells nothing of its content; a sequence
/// applied twice gives the same state; a rejected command changes nothing; the invariants hold in a state that
/// came about by commands. The input: commands as JSON, one a line; with a part before them, they go on from
/// that state, whatever it is.
pub fn apply(bytes: &[u8]) -> bool {
    let parts = parts(bytes, 2);
    let (begin, lines) = match parts[..] {
        [state, lines] => match serde_json::from_slice::<ClusterState>(state) {
            Ok(state) => (Some(state), lines),
            Err(_) => return false,
        },
        _ => (None, bytes),
    };
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let commands: Vec<Command> = lines.take(MOST).filter_map(command).collect();
    let mut state = begin.clone().unwrap_or_default();
    for (index, command) in commands.iter().enumerate() {
        let before = state.clone();
        let outcome = state.apply(index as u64, command.clone());
        if let Outcome::Rejected(why) = outcome {
            assert_eq!(before, state, "{command:?} was rejected: {why}");
            assert!(!why.to_string().is_empty());
        } else if begin.is_none() {
            let found = invariant::violations(&before, &state);
            assert!(found.is_empty(), "{command:?}: {}", found.join("; "));
        }
    }
    let mut again = begin.unwrap_or_default();
    for (index, command) in commands.iter().enumerate() {
        again.apply(index as u64, command.clone());
    }
    assert_eq!(again, state);
    let json = serde_json::to_vec(&state).expect("a state has a JSON form");
    assert_eq!(serde_json::from_slice(&json).ok(), Some(state));
    !commands.is_empty()
}

fn command(json: &[u8]) -> Option<Command> {
    if json.len() > MAX_COMMAND_BYTES {
        return None;
    }
    match fuzzing::command(json) {
        Ok(command) => {
            let again = serde_json::to_vec(&command).expect("a command has a JSON form");
            assert_eq!(fuzzing::command(&again).as_ref(), Ok(&command));
            let shown = format!("{command:?}");
            if let Command::SetSecrets { secrets } = &command {
                for secret in [&secrets.replication, &secrets.rewind] {
                    assert!(
                        secret.len() < 4 || !shown.contains(secret.as_str()) || is_word(secret)
                    );
                }
            }
            Some(command)
        }
        Err(why) => {
            assert!(!why.is_empty());
            if contains(json, b"SetSecrets") {
                keeps(json, &why);
            }
            None
        }
    }
}

/// Whether what `Debug` shows of the command has it anyway.
fn is_word(secret: &str) -> bool {
    format!("{:?}", Command::SetSecrets { secrets: Default::default() }).contains(secret)
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// No text of a command with secrets stands in what is said of it, but for words that stand there always.
fn keeps(json: &[u8], why: &str) {
    let always: BTreeSet<&str> =
        ["SetSecrets", "replication", "rewind", "secrets"].into_iter().collect();
    let text = String::from_utf8_lossy(json);
    for word in text.split('"').skip(1).step_by(2) {
        let odd = word.len() >= 8 && word.bytes().any(|byte| byte.is_ascii_digit());
        let plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if odd && plain && !always.contains(word) {
            assert!(!why.contains(word), "{word} is told: {why}");
        }
    }
}
