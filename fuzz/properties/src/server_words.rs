//! What a server says to a client, which a door follows to find a commit whose wait was cancelled.

use howdah_proxy::frames::{Frames, NOTICE_MAX, Verdict};

/// Where the wait for standbys is; without its name in them, words go out as they came in.
const ROUTINE: &[u8] = b"SyncRepWaitForLSN";
/// First bytes of a message that may be held beside a notice.
const HEADER: usize = 5;

/// What comes out does not depend on how the words are cut; words without a trap come out as they went in, but for
/// one notice at most that is held. The first byte says how long the pieces are.
pub fn server_words(bytes: &[u8]) -> bool {
    let Some((piece, words)) = bytes.split_first() else { return false };
    let (out, ended) = through(words, words.len().max(1));
    for piece in [1 + usize::from(*piece), 1, 7] {
        let (cut, cut_ended) = through(words, piece);
        assert_eq!(cut_ended, ended, "in pieces of {piece}");
        // What is held back at the end may differ, when more of it was there to decide on.
        let common = cut.len().min(out.len());
        assert_eq!(cut[..common], out[..common], "in pieces of {piece}");
        assert!(cut.len().abs_diff(out.len()) <= NOTICE_MAX + HEADER);
    }
    if !words.windows(ROUTINE.len()).any(|window| window == ROUTINE) {
        assert!(!ended && words.starts_with(&out));
        assert!(
            words.len() - out.len() <= NOTICE_MAX + HEADER,
            "{} bytes are held",
            words.len() - out.len()
        );
        return false;
    }
    true
}

/// What comes out, and whether the session was ended.
fn through(words: &[u8], piece: usize) -> (Vec<u8>, bool) {
    let (mut frames, mut all) = (Frames::default(), Vec::new());
    for chunk in words.chunks(piece) {
        let mut out = Vec::new();
        match frames.take(chunk, &mut out) {
            Verdict::Pass => {
                assert!(out.is_empty());
                all.extend(chunk);
            }
            Verdict::Instead => all.extend(out),
            Verdict::End => {
                all.extend(out);
                return (all, true);
            }
        }
    }
    let sprung = frames.take_sprung();
    assert!(!frames.take_sprung() && (!sprung || !all.is_empty()));
    (all, false)
}
