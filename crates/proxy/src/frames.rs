//! The waiting-commit trap: finds it in what a server says, and turns it into an honest error. Pure.
//!
//! A COMMIT that waits for standbys can be cancelled. PostgreSQL then keeps the transaction, warns,
//! and reports success: the client believes what a failover may take away. The warning names the
//! routine that raised it, SyncRepWaitForLSN (syncrep.c), in every language. Behind a door it becomes an
//! error of unknown outcome (08007), and the report of success that follows is left out.
//!
//! Place: between server and client, for sessions that are not encrypted; messages are framed, SQL
//! is not looked at. A client that sets client_min_messages above warning hides the trap from itself
//! and from the door.
//! Invariants: without a trap the bytes go out as they came in, also when cut at any place; nothing but
//! one NoticeResponse of at most [`NOTICE_MAX`] bytes, or the first bytes of a header, is held back. If more than the report of success
//! would have to be left out (a pipeline goes on behind the COMMIT), the session ends instead, since
//! what the client was told no longer fits what was done.

use crate::answer::{OUTCOME_UNKNOWN, Refusal, field};

/// Longest notice that is looked into, bytes; what PostgreSQL says here has some hundreds.
pub const NOTICE_MAX: usize = 8192;
const HEADER: usize = 5;
/// Where PostgreSQL waits for standbys.
const ROUTINE: &[u8] = b"SyncRepWaitForLSN";

/// Follows one server's words.
#[derive(Debug, Default)]
pub struct Frames {
    /// Bytes of the present message that are still to come.
    left: u64,
    /// What is done with them.
    drop_rest: bool,
    /// Beginning of a message that is not decided on yet.
    held: Vec<u8>,
    trap: Trap,
    /// A trap was found since somebody asked.
    sprung: bool,
    /// The server was ready for a query once: the client is in.
    ready: bool,
    /// The words no longer fit the protocol; they are passed on unseen.
    lost: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trap {
    #[default]
    No,
    /// The error was sent; success may follow, and must not be seen.
    Sprung,
    /// Success was left out; only the end of the command may follow.
    Hidden,
}

/// What to do with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on as it is.
    Pass,
    /// Pass on what was written instead.
    Instead,
    /// Pass on what was written instead, then end the session.
    End,
}

impl Frames {
    /// Takes a chunk. What is to be passed on instead is appended to `out`.
    pub fn take(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Verdict {
        if self.lost {
            return Verdict::Pass;
        }
        if self.trap == Trap::No && self.held.is_empty() {
            let Some(at) = self.skim(chunk) else { return Verdict::Pass };
            out.extend(&chunk[..at]);
            return self.go_through(&chunk[at..], out);
        }
        self.go_through(chunk, out)
    }

    /// Whether a trap was found since this was asked last.
    pub fn take_sprung(&mut self) -> bool {
        std::mem::take(&mut self.sprung)
    }

    /// Whether the server was ready for a query at least once.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The usual case: steps from header to header. Stops before a message that has to be looked
    /// into, or of which the chunk holds too little to know.
    fn skim(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = usize::try_from(self.left).unwrap_or(usize::MAX);
        if at >= chunk.len() {
            self.left -= chunk.len() as u64;
            return None;
        }
        self.left = 0;
        loop {
            let rest = &chunk[at..];
            if rest.is_empty() {
                return None;
            }
            if rest.len() < HEADER || rest[0] == b'N' {
                return Some(at);
            }
            let Some(length) = length(rest) else {
                self.lose();
                return None;
            };
            self.ready |= rest[0] == b'Z';
            let whole = 1 + length;
            if whole >= rest.len() as u64 {
                self.left = whole - rest.len() as u64;
                return None;
            }
            at += usize::try_from(whole).unwrap_or(rest.len());
        }
    }

    /// Message by message.
    fn go_through(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Verdict {
        while !chunk.is_empty() {
            if self.left > 0 {
                let now = chunk.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                if !self.drop_rest {
                    out.extend(&chunk[..now]);
                }
                self.left -= now as u64;
                chunk = &chunk[now..];
                continue;
            }
            self.drop_rest = false;
            let wanted = self.wanted();
            let now = chunk.len().min(wanted - self.held.len());
            self.held.extend(&chunk[..now]);
            chunk = &chunk[now..];
            if self.held.len() < self.wanted() {
                continue;
            }
            if self.decide(out) == Verdict::End {
                return Verdict::End;
            }
            if self.lost {
                out.extend(chunk);
                return Verdict::Instead;
            }
        }
        Verdict::Instead
    }

    /// How much of the message must be there to decide.
    fn wanted(&self) -> usize {
        match (self.held.first(), self.held.len() >= HEADER) {
            (Some(b'N'), true) => match length(&self.held) {
                Some(length) if length < NOTICE_MAX as u64 => 1 + length as usize,
                _ => HEADER,
            },
            _ => HEADER,
        }
    }

    /// Decides on the message whose beginning is held.
    fn decide(&mut self, out: &mut Vec<u8>) -> Verdict {
        let held = std::mem::take(&mut self.held);
        let Some(length) = length(&held) else {
            out.extend(held);
            self.lose();
            return Verdict::Instead;
        };
        self.left = (1 + length).saturating_sub(held.len() as u64);
        let kind = held[0];
        self.ready |= kind == b'Z';
        if kind == b'N' && held.len() > HEADER && is_trap(&held[HEADER..]) {
            if self.trap == Trap::No {
                out.extend(unknown_outcome().error());
                (self.trap, self.sprung) = (Trap::Sprung, true);
            }
            return Verdict::Instead;
        }
        match (self.trap, kind) {
            // The report of success.
            (Trap::Sprung, b'C') => {
                (self.trap, self.drop_rest) = (Trap::Hidden, true);
                return Verdict::Instead;
            }
            // ReadyForQuery: the command is over.
            (Trap::Sprung | Trap::Hidden, b'Z') => self.trap = Trap::No,
            // Notices, parameters and notifications may come at any time; an error ends it all.
            (Trap::No, _) | (_, b'N' | b'S' | b'A' | b'E') => {}
            (Trap::Sprung | Trap::Hidden, _) => {
                let mut end = unknown_outcome();
                end.detail += " More was sent behind it, and was done.";
                out.extend(end.fatal());
                return Verdict::End;
            }
        }
        out.extend(held);
        Verdict::Instead
    }

    fn lose(&mut self) {
        (self.lost, self.left) = (true, 0);
    }
}

/// The length that a header tells; it counts itself, but not the kind.
fn length(header: &[u8]) -> Option<u64> {
    let four: [u8; 4] = header.get(1..HEADER)?.try_into().ok()?;
    let length = u64::from(u32::from_be_bytes(four));
    // PostgreSQL's own limit is 1 GB.
    (4..=1 << 30).contains(&length).then_some(length)
}

fn is_trap(body: &[u8]) -> bool {
    field(body, b'V') == Some(b"WARNING") && field(body, b'R') == Some(ROUTINE)
}

fn unknown_outcome() -> Refusal {
    Refusal {
        code: OUTCOME_UNKNOWN,
        message: "the outcome of the transaction is not known".into(),
        detail: "It is committed on the primary, but its wait for standbys was cancelled: a \
                 failover may take it away."
            .into(),
        hint: "Look whether it is there before you repeat it.".into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend(((body.len() + 4) as u32).to_be_bytes());
        message.extend(body);
        message
    }

    fn notice(severity: &str, routine: &str) -> Vec<u8> {
        let fields = ["SWARNUNG", "C01000", "Mcanceling wait", "Fsyncrep.c", "L300"].join("\0");
        let body = format!("{fields}\0V{severity}\0R{routine}\0\0");
        message(b'N', body.as_bytes())
    }

    fn trap() -> Vec<u8> {
        notice("WARNING", "SyncRepWaitForLSN")
    }

    fn success() -> Vec<u8> {
        message(b'C', b"COMMIT\0")
    }

    fn ready() -> Vec<u8> {
        message(b'Z', b"I")
    }

    /// What comes out when the words come in pieces of this size, and how it ended.
    fn through(words: &[u8], piece: usize) -> (Vec<u8>, Verdict) {
        let (mut frames, mut all) = (Frames::default(), Vec::new());
        for chunk in words.chunks(piece) {
            let mut out = Vec::new();
            match frames.take(chunk, &mut out) {
                Verdict::Pass => all.extend(chunk),
                Verdict::Instead => all.extend(out),
                Verdict::End => {
                    all.extend(out);
                    return (all, Verdict::End);
                }
            }
        }
        (all, Verdict::Pass)
    }

    #[test]
    fn a_cancelled_wait_is_an_error_of_unknown_outcome_and_no_success() {
        let words = [success(), ready(), trap(), success(), ready()].concat();
        let wanted = [success(), ready(), unknown_outcome().error(), ready()].concat();
        for piece in 1..=words.len() {
            assert_eq!(through(&words, piece), (wanted.clone(), Verdict::Pass), "{piece}");
        }
    }

    #[test]
    fn the_next_command_is_as_always() {
        let words = [trap(), success(), ready(), success(), ready()].concat();
        let wanted = [unknown_outcome().error(), ready(), success(), ready()].concat();
        assert_eq!(through(&words, words.len()), (wanted, Verdict::Pass));
    }

    #[test]
    fn success_that_was_told_before_the_wait_stays_told() {
        // The extended protocol commits at Sync, behind the report.
        let words = [success(), trap(), ready()].concat();
        let wanted = [success(), unknown_outcome().error(), ready()].concat();
        assert_eq!(through(&words, 3), (wanted, Verdict::Pass));
    }

    #[test]
    fn a_pipeline_behind_the_commit_ends_the_session() {
        let words = [trap(), success(), success(), ready()].concat();
        let (out, verdict) = through(&words, words.len());
        assert_eq!(verdict, Verdict::End);
        let first = unknown_outcome().error();
        assert_eq!(field(&out[first.len() + HEADER..], b'S'), Some(&b"FATAL"[..]));
    }

    #[test]
    fn other_notices_pass() {
        for (severity, routine) in
            [("WARNING", "BeginTransactionBlock"), ("NOTICE", "SyncRepWaitForLSN")]
        {
            let words = [notice(severity, routine), success(), ready()].concat();
            for piece in 1..=words.len() {
                assert_eq!(through(&words, piece), (words.clone(), Verdict::Pass));
            }
        }
    }

    #[test]
    fn a_notice_of_any_length_passes_without_being_held() {
        let long = message(b'N', &vec![b'x'; 100_000]);
        let words = [long, success(), ready()].concat();
        for piece in [1, 1000, 8192, words.len()] {
            assert_eq!(through(&words, piece), (words.clone(), Verdict::Pass));
        }
        let mut frames = Frames::default();
        frames.take(&words[..5000], &mut Vec::new());
        assert!(frames.held.len() <= NOTICE_MAX);
    }

    proptest! {
        #[test]
        fn bytes_go_out_as_they_came_in(
            messages in proptest::collection::vec((prop::sample::select(b"CDNSTZRKE123".to_vec()), proptest::collection::vec(any::<u8>(), 0..60)), 0..12),
            tail in proptest::collection::vec(any::<u8>(), 0..20),
            piece in 1usize..50,
        ) {
            let mut words: Vec<u8> = messages.iter().flat_map(|(kind, body)| message(*kind, body)).collect();
            words.extend(tail);
            let (out, verdict) = through(&words, piece);
            prop_assert_eq!(verdict, Verdict::Pass);
            // A notice may be held at the end.
            prop_assert!(words.starts_with(&out));
            prop_assert!(words.len() - out.len() <= NOTICE_MAX + HEADER);
        }

        #[test]
        fn no_bytes_make_it_panic(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..20)) {
            let mut frames = Frames::default();
            for chunk in chunks {
                let mut out = Vec::new();
                if frames.take(&chunk, &mut out) == Verdict::End { break; }
                prop_assert!(frames.held.len() <= NOTICE_MAX);
            }
        }
    }
}
