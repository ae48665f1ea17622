//! WAL on disk, whose end a ballot states.

use std::fs::File;
use std::io::Write;

use howdah_core::{Lsn, Position, Timeline};
use howdah_postgres::walscan::{WalScan, WalScanError};

use crate::draw::Draw;

const SEGMENT: u64 = 1 << 20;
const PAGE: u64 = 8192;
const SYSTEM: u64 = 77;
/// Where the first record stands: behind the long header.
const HEAD: u64 = 40;

/// The scan ends with an answer, whatever the bytes are: not before the last record that was not touched, and not
/// behind what was written. The input: where in the address space the segment lies; records; and what befalls them.
pub fn wal_pages(bytes: &[u8]) -> bool {
    let mut draw = Draw(bytes);
    // The first, the last, or some segment of those that addresses can name.
    let last = u64::MAX / SEGMENT;
    let number = match draw.byte() % 8 {
        0 => last,
        1 => last - u64::from(draw.byte()),
        _ => 1 + u64::from(draw.byte()),
    };
    let mut writer = Writer { base: number * SEGMENT, bytes: Vec::new(), at: 0, prev: 0 };
    let mut ends = Vec::new();
    let count = 1 + draw.byte() % 6;
    for _ in 0..count {
        let long = draw.flag();
        let length = usize::from(draw.byte()) * if long { 64 } else { 1 };
        let (rmgr, info) = (draw.byte() % 4, draw.byte());
        ends.push(writer.record(length, rmgr, info));
    }
    let touched = damage(&mut draw, &mut writer.bytes);
    let Some(end) = scanned(number, &writer.bytes) else {
        // Only damage before the first record's end leaves none, or a switch where there is nowhere to go.
        let damaged =
            touched.is_some_and(|at| at < ends[0]) || (number == last && ends[0] == SEGMENT);
        assert!(damaged, "the first record is whole: {touched:?} {ends:?}");
        return false;
    };
    // Behind the very last segment there is no address that a switch could lead to.
    let all = ends.iter().copied().take_while(|end| number < last || *end < SEGMENT);
    let whole = all.filter(|end| touched.is_none_or(|at| at >= *end)).max().unwrap_or(0);
    assert!((whole..=SEGMENT).contains(&end), "ends at {end}, whole up to {whole}");
    if touched.is_none() && number < last {
        assert_eq!(end, whole);
    }
    true
}

/// Where the valid part ends, from the segment's start on; none: there is none.
fn scanned(number: u64, bytes: &[u8]) -> Option<u64> {
    let dir = tempfile::tempdir().expect("a directory");
    let per_id = 0x1_0000_0000 / SEGMENT;
    let name = format!("{:08X}{:08X}{:08X}", 1, number / per_id, number % per_id);
    let mut file = File::create(dir.path().join(name)).expect("a file");
    file.write_all(bytes).expect("written");
    // The rest is a hole: zeros that take no room.
    file.set_len(SEGMENT).expect("a hole");
    let scan = WalScan {
        wal_dir: dir.path().to_owned(),
        segment_size: SEGMENT,
        system_identifier: Some(SYSTEM),
        history: &[],
        timeline: Timeline(1),
    };
    let base = number * SEGMENT;
    let from = Position { timeline: Timeline(1), lsn: Lsn(base + HEAD) };
    match scan.disk_end(from) {
        Ok(end) => {
            assert_eq!(end.position.timeline, Timeline(1));
            assert!(end.last_record < end.position.lsn && !end.why.is_empty(), "{end:?}");
            Some(end.position.lsn.0 - base)
        }
        Err(WalScanError::BadStart { start, why }) => {
            assert_eq!((start, why.is_empty()), (from, false));
            None
        }
        Err(other) => panic!("{other}"),
    }
}

/// Cuts or changes bytes; where the first of them was.
fn damage(draw: &mut Draw<'_>, bytes: &mut [u8]) -> Option<u64> {
    let mut first = None;
    while !draw.is_empty() {
        let what = draw.byte();
        let at = (usize::from(draw.byte()) << 8 | usize::from(draw.byte())) % bytes.len();
        match what % 4 {
            0 => bytes[at..].fill(0),
            1 => bytes[at] ^= draw.byte() | 1,
            _ => {
                let fresh = draw.some(32);
                let end = (at + fresh.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&fresh[..end - at]);
            }
        }
        first = Some(first.map_or(at as u64, |known: u64| known.min(at as u64)));
    }
    first
}

/// Lays records out as PostgreSQL does.
struct Writer {
    base: u64,
    bytes: Vec<u8>,
    at: u64,
    prev: u64,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.at += bytes.len() as u64;
    }

    /// Begins a page; `rest` is what the record before still has.
    fn page(&mut self, rest: u32) {
        let (long, continues) = (self.at.is_multiple_of(SEGMENT), rest > 0);
        let mut header = Vec::new();
        header.extend(0xD110_u16.to_le_bytes());
        header.extend((u16::from(continues) | u16::from(long) << 1).to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        header.extend((self.base + self.at).to_le_bytes());
        header.extend(rest.to_le_bytes());
        header.extend([0; 4]);
        if long {
            header.extend(SYSTEM.to_le_bytes());
            header.extend((SEGMENT as u32).to_le_bytes());
            header.extend((PAGE as u32).to_le_bytes());
        }
        self.put(&header);
    }

    /// Writes a record; where the next one may begin.
    fn record(&mut self, length: usize, rmgr: u8, info: u8) -> u64 {
        if self.at.is_multiple_of(PAGE) {
            self.page(0);
        }
        let start = self.base + self.at;
        let body = vec![rmgr; length];
        let mut record = Vec::new();
        record.extend((24 + length as u32).to_le_bytes());
        record.extend(0_u32.to_le_bytes());
        record.extend(self.prev.to_le_bytes());
        record.extend([info, rmgr, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&body), &record);
        record.extend(crc.to_le_bytes());
        record.extend(body);
        let mut rest = &record[..];
        while !rest.is_empty() {
            if self.at.is_multiple_of(PAGE) {
                self.page(rest.len() as u32);
            }
            let room = (PAGE - self.at % PAGE) as usize;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.put(now);
            rest = later;
        }
        self.prev = start;
        let pad = self.at.next_multiple_of(8) - self.at;
        self.put(&vec![0; pad as usize]);
        // Behind a switch the rest of the segment is void.
        if rmgr == 0 && info & 0xF0 == 0x40 { SEGMENT } else { self.at }
    }
}
