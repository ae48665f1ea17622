//! The properties on random bytes, and on seeds that were changed: what libFuzzer does at length, in short.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;

use howdah_fuzz_properties::{PARTS, TARGETS};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// Cases for each target.
const CASES: u32 = 2000;
/// Words that readers look for, put in anywhere.
const TOKENS: [&[u8]; 24] = [
    b"\n",
    b"\0",
    b": ",
    b"=",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"-1",
    b"18446744073709551615",
    b"4294967296",
    b"1e400",
    b"\"",
    b"'",
    b"\\",
    b"/",
    b"://",
    b"\xff\xff\xff\xff",
    b"\xc3\x28",
    b"\t",
    b"password: hunter22a",
    b"&a *a",
    b"0x",
    PARTS,
];

/// One change of an input.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Drop(Index, Index),
    Double(Index, Index),
    Insert(Index, usize),
    Splice(Index, usize, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => at().prop_map(Change::Cut),
        2 => (at(), at()).prop_map(|(from, to)| Change::Drop(from, to)),
        2 => (at(), at()).prop_map(|(from, to)| Change::Double(from, to)),
        3 => (at(), 0..TOKENS.len()).prop_map(|(at, token)| Change::Insert(at, token)),
        2 => (at(), any::<usize>(), at()).prop_map(|(at, seed, from)| Change::Splice(at, seed, from)),
    ]
}

fn range(from: &Index, to: &Index, length: usize) -> std::ops::Range<usize> {
    let (a, b) = (from.index(length + 1), to.index(length + 1));
    a.min(b)..a.max(b)
}

fn changed(bytes: &mut Vec<u8>, change: &Change, seeds: &[Vec<u8>]) {
    let length = bytes.len();
    match change {
        Change::Flip(..) | Change::Set(..) if length == 0 => {}
        Change::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
        Change::Set(at, byte) => bytes[at.index(length)] = *byte,
        Change::Cut(at) => bytes.truncate(at.index(length + 1)),
        Change::Drop(from, to) => drop(bytes.drain(range(from, to, length))),
        Change::Double(from, to) => {
            let range = range(from, to, length);
            let copy = bytes[range.clone()].to_vec();
            bytes.splice(range.end..range.end, copy);
        }
        Change::Insert(at, token) => {
            let at = at.index(length + 1);
            bytes.splice(at..at, TOKENS[*token].iter().copied());
        }
        Change::Splice(at, seed, from) => {
            let other = &seeds[seed % seeds.len()];
            bytes.truncate(at.index(length + 1));
            bytes.extend(&other[from.index(other.len() + 1)..]);
        }
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
    let mut files: Vec<_> =
        fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// What fails is shown by its shortest form; it becomes a file in fuzz/regressions. The same inputs each time, so
/// that nobody's change fails for somebody else's mistake: new ones are `tools/fuzz`'s.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Default::default()
    }
}

fn holds_of_all(target: &str) {
    let (_, holds) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let seeds = seeds(target);
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config(), rng);
    let random =
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| (bytes, Vec::new()));
    let mended = (0..seeds.len(), proptest::collection::vec(change(), 1..6));
    let seeded = seeds.clone();
    let mended = mended.prop_map(move |(seed, changes)| (seeded[seed].clone(), changes));
    let input = prop_oneof![1 => random, 5 => mended].prop_map(move |(mut bytes, changes)| {
        changes.iter().for_each(|change| changed(&mut bytes, change, &seeds));
        bytes
    });
    let result = runner.run(&input, |bytes| {
        holds(&bytes);
        Ok(())
    });
    if let Err(why) = result {
        panic!("{target}: {why}");
    }
}

macro_rules! each {
    ($($target:ident),* $(,)?) => {
        mod holds {
            $(#[test] fn $target() { super::holds_of_all(stringify!($target)); })*
        }

        #[test]
        fn none_is_forgotten() {
            let here = [$(stringify!($target)),*];
            assert_eq!(here.to_vec(), TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        }
    };
}

each!(
    apply,
    certificate,
    conf_text,
    config,
    control_data,
    data_files,
    decide,
    environment,
    guard_wire,
    history,
    netlink,
    picture,
    procfs,
    proxy_header,
    raft_message,
    raft_store,
    rest,
    server_words,
    session,
    startup_packet,
    tool_output,
    wal_pages,
);
