//! WAL made by hand, so that each way to end is met on purpose. Real WAL is compared with
//! pg_waldump in `tests/server.rs`.

use super::*;

const SEGMENT: u64 = 1 << 20;
const PAGE: u64 = 8192;
const SYSTEM: u64 = 77;

/// Writes records as PostgreSQL lays them out, beginning in segment 1.
struct Writer {
    timeline: u32,
    bytes: Vec<u8>,
    at: u64,
    prev: u64,
}

impl Writer {
    fn new(timeline: u32) -> Self {
        Self { timeline, bytes: Vec::new(), at: SEGMENT, prev: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        let offset = (self.at - SEGMENT) as usize;
        if self.bytes.len() < offset + bytes.len() {
            self.bytes.resize(offset + bytes.len(), 0);
        }
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len() as u64;
    }

    /// Begins a page; `rest` is what the record before still has.
    fn page(&mut self, flags: u16, rest: u32) {
        let long = self.at.is_multiple_of(SEGMENT);
        let mut header = Vec::new();
        header.extend_from_slice(&0xD110_u16.to_le_bytes());
        header.extend_from_slice(&(flags | if long { 2 } else { 0 }).to_le_bytes());
        header.extend_from_slice(&self.timeline.to_le_bytes());
        header.extend_from_slice(&self.at.to_le_bytes());
        header.extend_from_slice(&rest.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        if long {
            header.extend_from_slice(&SYSTEM.to_le_bytes());
            header.extend_from_slice(&(SEGMENT as u32).to_le_bytes());
            header.extend_from_slice(&(PAGE as u32).to_le_bytes());
        }
        self.put(&header);
    }

    fn encode(&self, body: &[u8], rmgr: u8, info: u8) -> Vec<u8> {
        let mut record = Vec::new();
        record.extend_from_slice(&(24 + body.len() as u32).to_le_bytes());
        record.extend_from_slice(&0_u32.to_le_bytes());
        record.extend_from_slice(&self.prev.to_le_bytes());
        record.extend_from_slice(&[info, rmgr, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(body), &record);
        record.extend_from_slice(&crc.to_le_bytes());
        record.extend_from_slice(body);
        record
    }

    fn record(&mut self, body: &[u8], rmgr: u8, info: u8) -> u64 {
        self.record_cut(body, rmgr, info, usize::MAX)
    }

    /// Writes at most `limit` bytes of a record, as a crash would leave it.
    fn record_cut(&mut self, body: &[u8], rmgr: u8, info: u8, limit: usize) -> u64 {
        if self.at.is_multiple_of(PAGE) {
            self.page(0, 0);
        }
        let (record, start) = (self.encode(body, rmgr, info), self.at);
        let mut done = 0;
        while done < record.len().min(limit) {
            if self.at.is_multiple_of(PAGE) {
                self.page(1, (record.len() - done) as u32);
            }
            let room = (PAGE - self.at % PAGE) as usize;
            let piece = room.min(record.len() - done);
            let bytes = record[done..done + piece].to_vec();
            self.put(&bytes);
            done += piece;
        }
        self.at = self.at.next_multiple_of(8);
        if limit == usize::MAX {
            self.prev = start;
        }
        start
    }

    fn save(&self, dir: &Path) {
        for (index, chunk) in self.bytes.chunks(SEGMENT as usize).enumerate() {
            let mut chunk = chunk.to_vec();
            chunk.resize(SEGMENT as usize, 0);
            let name = format!("{:08X}00000000{:08X}", self.timeline, index + 1);
            std::fs::write(dir.join(name), chunk).unwrap();
        }
    }
}

fn scan<'a>(dir: &Path, history: &'a [HistoryEntry], timeline: u32) -> WalScan<'a> {
    WalScan {
        wal_dir: dir.to_owned(),
        segment_size: SEGMENT,
        system_identifier: Some(SYSTEM),
        history,
        timeline: Timeline(timeline),
    }
}

fn position(timeline: u32, lsn: u64) -> Position {
    Position { timeline: Timeline(timeline), lsn: Lsn(lsn) }
}

fn end_of(dir: &Path, from: u64) -> DiskEnd {
    scan(dir, &[], 1).disk_end(position(1, from)).unwrap()
}

#[test]
fn follows_records_over_pages_and_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(1);
    let first = writer.record(&[1; 100], 10, 0);
    for size in [3, 8_000, 20_000, 8_121, 600_000, 500_000, 1] {
        writer.record(&vec![size as u8; size], 10, 0);
    }
    writer.save(dir.path());
    let end = end_of(dir.path(), first);
    assert_eq!(end.position, position(1, writer.at));
    assert_eq!((end.last_record, end.segments_read), (Lsn(writer.prev), 2));
}

#[test]
fn every_cut_and_every_flip_ends_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(1);
    let first = writer.record(&[1; 100], 10, 0);
    let middle = writer.record(&[2; 9_000], 10, 0);
    writer.record(&[3; 50], 10, 0);
    let whole = writer.bytes.clone();
    let from = (middle - SEGMENT) as usize;
    for at in (from..whole.len()).step_by(97) {
        writer.bytes = whole.clone();
        writer.bytes[at] ^= 0x40;
        writer.save(dir.path());
        let end = end_of(dir.path(), first);
        assert!(end.position.lsn.0 <= SEGMENT + at as u64, "flip at {at}: {end:?}");
        assert!(end.position.lsn.0 >= middle, "flip at {at}: {end:?}");
        writer.bytes.truncate(at);
        writer.save(dir.path());
        let end = end_of(dir.path(), first);
        assert!(end.position.lsn.0 <= SEGMENT + at as u64 + 7, "cut at {at}: {end:?}");
    }
}

#[test]
fn a_segment_switch_voids_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(1);
    let first = writer.record(&[1; 100], 10, 0);
    writer.record(&[], 0, 0x40);
    writer.save(dir.path());
    assert_eq!(end_of(dir.path(), first).position.lsn, Lsn(2 * SEGMENT));
    writer.at = 2 * SEGMENT;
    writer.record(&[5; 10], 10, 0);
    writer.save(dir.path());
    assert_eq!(end_of(dir.path(), first).position.lsn, Lsn(writer.at));
}

#[test]
fn goes_on_behind_a_record_that_was_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(1);
    let first = writer.record(&[1; 100], 10, 0);
    let aborted = writer.record_cut(&[2; 9_000], 10, 0, 5_000);
    writer.save(dir.path());
    assert_eq!(end_of(dir.path(), first).position.lsn, Lsn(aborted));
    writer.at = SEGMENT + PAGE;
    writer.page(8, 0);
    writer.save(dir.path());
    assert_eq!(end_of(dir.path(), first).position.lsn, Lsn(aborted), "nothing follows yet");
    let last = writer.record(&[3; 40], 0, 0xD0);
    writer.save(dir.path());
    let end = end_of(dir.path(), first);
    assert_eq!((end.position.lsn, end.last_record), (Lsn(writer.at), Lsn(last)));
}

#[test]
fn takes_the_newer_timeline_where_its_segment_exists() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Writer::new(1);
    let first = old.record(&[1; 100], 10, 0);
    let mut new = Writer { timeline: 2, bytes: old.bytes.clone(), ..old };
    let fork = old.at;
    old.record(&[9; 700], 10, 0);
    old.save(dir.path());
    let history = [HistoryEntry { timeline: Timeline(1), end: Lsn(fork) }];
    // Only the old file: what lies past the fork is divergent, and is reported as such.
    let end = scan(dir.path(), &history, 2).disk_end(position(1, first)).unwrap();
    assert_eq!(end.position, position(1, old.at));
    new.save(dir.path());
    let end = scan(dir.path(), &history, 2).disk_end(position(1, first)).unwrap();
    assert_eq!(end.position, position(1, fork));
    new.record(&[4; 9_000], 10, 0);
    new.save(dir.path());
    let end = scan(dir.path(), &history, 2).disk_end(position(1, first)).unwrap();
    assert_eq!(end.position, position(2, new.at));
    // Without the history the new file is not ours.
    assert_eq!(end_of(dir.path(), first).position, position(1, old.at));
}

#[test]
fn behind_the_last_segment_there_is_no_address() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(1);
    let first = writer.record(&[1; 100], 10, 0);
    writer.record(&[], 0, 0x40);
    // The same bytes as the last segment that there can be.
    let base = u64::MAX - (SEGMENT - 1);
    let shift = base - SEGMENT;
    let mut bytes = writer.bytes.clone();
    bytes[8..16].copy_from_slice(&base.to_le_bytes());
    let second = (first - SEGMENT) as usize + 128;
    let mut record = bytes[second..second + 24].to_vec();
    record[8..16].copy_from_slice(&(first + shift).to_le_bytes());
    let crc = crc32c::crc32c(&record[..20]);
    bytes[second..second + 20].copy_from_slice(&record[..20]);
    bytes[second + 20..second + 24].copy_from_slice(&crc.to_le_bytes());
    bytes.resize(SEGMENT as usize, 0);
    std::fs::write(dir.path().join("00000001FFFFFFFF00000FFF"), bytes).unwrap();
    let end = end_of(dir.path(), first + shift);
    assert_eq!(end.position.lsn, Lsn(base + second as u64));
    assert!(end.why.contains("no address is left"), "{}", end.why);
}

#[test]
fn strangers_and_bad_starts_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(1);
    let first = writer.record(&[1; 100], 10, 0);
    writer.save(dir.path());
    let mut other = scan(dir.path(), &[], 1);
    other.system_identifier = Some(SYSTEM + 1);
    for (scan, from) in [
        (other, first),
        (scan(dir.path(), &[], 1), first + 8),
        (scan(dir.path(), &[], 1), first + 3),
        (scan(dir.path(), &[], 1), SEGMENT + 8),
        (scan(dir.path(), &[], 1), 9 * SEGMENT),
    ] {
        let result = scan.disk_end(position(1, from));
        assert!(matches!(result, Err(WalScanError::BadStart { .. })), "{from}: {result:?}");
    }
    let mut odd = scan(dir.path(), &[], 1);
    odd.segment_size = 12_345;
    assert!(matches!(odd.disk_end(position(1, first)), Err(WalScanError::SegmentSize(12_345))));
}
