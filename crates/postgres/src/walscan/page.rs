//! Pages of WAL: which segment file they come from, and whether their headers are what they must
//! be at that address. A recycled segment keeps its old bytes; its old addresses give it away.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use howdah_core::{Lsn, Timeline};

use super::{WalScan, WalScanError};

/// The page begins with the rest of a record.
pub(super) const FIRST_IS_CONTRECORD: u16 = 1;
const LONG_HEADER: u16 = 2;
/// The record that began on the page before was never finished and never will be.
pub(super) const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 8;
const ALL_FLAGS: u16 = 15;
const SHORT_LEN: usize = 24;
const LONG_LEN: usize = 40;

/// Why reading stopped.
pub(super) enum Stop {
    /// Valid WAL ends here, and why.
    End(String),
    /// It cannot be known.
    Failed(WalScanError),
}

pub(super) fn end<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::End(why.into()))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("a slice of two bytes"))
}

struct Segment {
    number: u64,
    timeline: Timeline,
    file: File,
    path: PathBuf,
}

/// Reads pages, one at a time.
pub(super) struct Reader<'a> {
    scan: &'a WalScan<'a>,
    chain: Vec<(Timeline, u64)>,
    segment: Option<Segment>,
    block: usize,
    page: Vec<u8>,
    page_at: Option<u64>,
    magic: Option<u16>,
    /// Newest timeline on a page so far; later pages never go back.
    newest: Timeline,
    opened: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(scan: &'a WalScan<'a>) -> Self {
        Self {
            scan,
            chain: scan.chain(),
            segment: None,
            block: 0,
            page: Vec::new(),
            page_at: None,
            magic: None,
            newest: Timeline(0),
            opened: 0,
        }
    }

    pub(super) fn segments_read(&self) -> u32 {
        self.opened
    }

    pub(super) fn segment_size(&self) -> u64 {
        self.scan.segment_size
    }

    /// Bytes per page. Known once a page was loaded.
    pub(super) fn block(&self) -> usize {
        self.block
    }

    pub(super) fn page(&self) -> &[u8] {
        &self.page
    }

    pub(super) fn info(&self) -> u16 {
        u16_at(&self.page, 2)
    }

    /// Bytes that a record continued on this page still has from here on.
    pub(super) fn remaining_length(&self) -> u32 {
        u32_at(&self.page, 16)
    }

    pub(super) fn header_len(&self) -> usize {
        if self.info() & LONG_HEADER == 0 { SHORT_LEN } else { LONG_LEN }
    }

    /// The timeline that wrote the bytes before `lsn` in the segment being read. Page headers do
    /// not tell: the page with a fork, and all before it, are copies that name the parent.
    pub(super) fn timeline_at(&self, lsn: u64) -> Timeline {
        let limit = self.segment.as_ref().map_or(self.scan.timeline, |s| s.timeline);
        let fits = self.chain.iter().rev().find(|(t, begin)| *t <= limit && *begin < lsn);
        fits.map_or(limit, |(timeline, _)| *timeline)
    }

    /// Makes the page that contains `lsn` the present one; its address.
    pub(super) fn load_containing(&mut self, lsn: u64) -> Result<u64, Stop> {
        self.open_segment(lsn / self.scan.segment_size)?;
        let address = lsn - lsn % self.block as u64;
        self.load(address)?;
        Ok(address)
    }

    /// Makes the page at this address the present one.
    pub(super) fn load(&mut self, address: u64) -> Result<(), Stop> {
        self.open_segment(address / self.scan.segment_size)?;
        if self.page_at == Some(address) {
            return Ok(());
        }
        self.page_at = None;
        let segment = self.segment.as_ref().expect("the segment was just opened");
        let mut page = std::mem::take(&mut self.page);
        page.resize(self.block, 0);
        let read = read_at(segment, &mut page, address % self.scan.segment_size);
        self.page = page;
        read?;
        let page_timeline = self.check(&self.page, address, segment.timeline)?;
        self.newest = page_timeline;
        self.page_at = Some(address);
        Ok(())
    }

    /// Of the timelines that reach into a segment, the newest whose file exists is the one to
    /// read: it begins with a copy of what its parent had up to the fork.
    fn open_segment(&mut self, number: u64) -> Result<(), Stop> {
        if self.segment.as_ref().is_some_and(|s| s.number == number) {
            return Ok(());
        }
        let segment_end = (number + 1).saturating_mul(self.scan.segment_size);
        for &(timeline, begin) in self.chain.iter().rev() {
            if begin >= segment_end {
                continue;
            }
            let path = self.scan.wal_dir.join(self.segment_name(timeline, number));
            match File::open(&path) {
                Ok(file) => {
                    let segment = Segment { number, timeline, file, path };
                    return self.enter(segment);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Stop::Failed(WalScanError::Read { path, source })),
            }
        }
        end(format!("there is no segment file for {}", Lsn(number * self.scan.segment_size)))
    }

    fn segment_name(&self, timeline: Timeline, number: u64) -> String {
        let per_id = 0x1_0000_0000 / self.scan.segment_size;
        format!("{:08X}{:08X}{:08X}", timeline.0, number / per_id, number % per_id)
    }

    /// Checks the long header at the segment's start, as PostgreSQL does whichever page it wants.
    fn enter(&mut self, segment: Segment) -> Result<(), Stop> {
        self.opened += 1;
        let mut head = [0; LONG_LEN];
        read_at(&segment, &mut head, 0)?;
        let name = segment.path.display().to_string();
        self.check_at(&head, segment.number * self.scan.segment_size, segment.timeline)?;
        if u32_at(&head, 32) != u32::try_from(self.scan.segment_size).unwrap_or(u32::MAX) {
            return end(format!("{name} has another segment size"));
        }
        let block = u32_at(&head, 36) as usize;
        if !block.is_power_of_two() || !(1 << 10..=1 << 16).contains(&block) {
            return end(format!("{name} has a page size of {block}"));
        }
        if self.block != 0 && self.block != block {
            return end(format!("{name} has another page size"));
        }
        let id = u64_at(&head, 24);
        if self.scan.system_identifier.is_some_and(|expected| expected != id) {
            return end(format!("{name} belongs to the cluster {id}"));
        }
        self.magic.get_or_insert(u16_at(&head, 0));
        self.block = block;
        self.page_at = None;
        self.segment = Some(segment);
        Ok(())
    }

    fn check(&self, page: &[u8], address: u64, limit: Timeline) -> Result<Timeline, Stop> {
        let timeline = self.check_at(page, address, limit)?;
        if timeline < self.newest {
            return end(format!("the page at {} is of an older timeline", Lsn(address)));
        }
        Ok(timeline)
    }

    fn check_at(&self, page: &[u8], address: u64, limit: Timeline) -> Result<Timeline, Stop> {
        let at = Lsn(address);
        let (magic, info) = (u16_at(page, 0), u16_at(page, 2));
        if magic == 0 || self.magic.is_some_and(|m| m != magic) {
            return end(format!("the page at {at} was never written"));
        }
        if info & !ALL_FLAGS != 0 {
            return end(format!("the page at {at} has unknown flags {info:#x}"));
        }
        if (info & LONG_HEADER != 0) != address.is_multiple_of(self.scan.segment_size) {
            return end(format!("the page at {at} has the wrong kind of header"));
        }
        if u64_at(page, 8) != address {
            return end(format!("the page at {at} says it is that at {}", Lsn(u64_at(page, 8))));
        }
        let timeline = Timeline(u32_at(page, 4));
        if timeline > limit || !self.chain.iter().any(|(t, _)| *t == timeline) {
            return end(format!("the page at {at} is of timeline {timeline}"));
        }
        Ok(timeline)
    }
}

fn read_at(segment: &Segment, buffer: &mut [u8], offset: u64) -> Result<(), Stop> {
    match segment.file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            end(format!("{} is too short", segment.path.display()))
        }
        Err(source) => Err(Stop::Failed(WalScanError::Read { path: segment.path.clone(), source })),
    }
}
