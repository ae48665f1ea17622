//! What a node reads back from its own disk.

use howdah_consensus::fuzzing::store::{Kind, Place, again, log, repaired};

use crate::draw::Draw;

const KINDS: [Kind; 5] = [Kind::Entry, Kind::Vote, Kind::Identity, Kind::Snapshot, Kind::Mark];
/// Entries of one log at most.
const ENTRIES: usize = 12;

/// What is taken is whole: it is written to what is taken, to the same, and nothing stands behind it; a log without
/// its acknowledged tail, or with a hole, is refused. The input: a byte that says what it is (2 times the kind, and 1 for
/// a checksum that is put right), and the bytes; or 10, and what a log is drawn from.
pub fn raft_store(bytes: &[u8]) -> bool {
    let Some((what, bytes)) = bytes.split_first() else { return false };
    if *what >= 10 {
        return whole_log(&mut Draw(bytes));
    }
    let (kind, repair) = (KINDS[usize::from(what / 2)], what % 2 == 1);
    let content = bytes;
    let bytes = if repair { repaired(kind, content) } else { content.to_vec() };
    match again(kind, &bytes) {
        Ok(written) => {
            assert_eq!(again(kind, &written).as_ref(), Ok(&written));
            // Numbers may be written longer than they need be; nothing else is left out.
            assert!(written.len() <= bytes.len());
            assert!(
                again(kind, &[&bytes[..], &[0]].concat()).is_err(),
                "a byte behind it is not seen"
            );
            // A slot is filled up behind its content, whose length it tells.
            if repair && kind != Kind::Mark {
                let longer = repaired(kind, &[content, &[0]].concat());
                assert!(again(kind, &longer).is_err(), "a byte behind the content is not seen");
            }
            true
        }
        Err(why) => {
            assert!(!why.is_empty());
            false
        }
    }
}

fn place(draw: &mut Draw<'_>) -> Place {
    Place { index: draw.number(), term: u64::from(draw.byte() % 4) }
}

fn whole_log(draw: &mut Draw<'_>) -> bool {
    let purged = draw.flag().then(|| place(draw));
    let acknowledged = draw.flag().then(|| place(draw));
    let mut entries = Vec::new();
    let mut next = purged.map_or(0, |purged| purged.index.saturating_add(1));
    while !draw.is_empty() && entries.len() < ENTRIES {
        // Mostly the next one.
        let index = if draw.byte().is_multiple_of(8) { draw.number() } else { next };
        entries.push(Place { index, term: u64::from(draw.byte() % 4) });
        next = index.saturating_add(1);
    }
    let mut stored = entries.clone();
    stored.sort_by_key(|place| place.index);
    stored.dedup_by_key(|place| place.index);
    let Ok(last) = log(&stored, purged, acknowledged) else { return false };
    let alive: Vec<&Place> =
        stored.iter().filter(|place| purged.is_none_or(|cut| place.index > cut.index)).collect();
    assert_eq!(last, alive.last().copied().copied().or(purged));
    let first = purged.map_or(Some(0), |cut| cut.index.checked_add(1));
    for (offset, place) in alive.iter().enumerate() {
        let wanted = first.and_then(|first| first.checked_add(offset as u64));
        assert_eq!(wanted, Some(place.index), "a hole: {alive:?}");
    }
    let terms = purged.iter().chain(alive.iter().copied()).map(|place| place.term);
    assert!(terms.is_sorted(), "a later entry of an earlier term: {alive:?}");
    if let Some(acknowledged) = acknowledged {
        let there = purged == Some(acknowledged) || alive.contains(&&acknowledged);
        assert!(there, "{acknowledged:?} was acknowledged, and is not there: {alive:?}");
    }
    true
}
