//! Records of WAL: length, back link and checksum, across page and segment boundaries.

use howdah_core::Lsn;

use super::page::{
    FIRST_IS_CONTRECORD, FIRST_IS_OVERWRITE_CONTRECORD, Reader, Stop, end, u32_at, u64_at,
};

const HEADER: usize = 24;
/// Offset of the checksum in the header; the bytes before it are covered by it.
const CRC_AT: usize = 20;
/// PostgreSQL never writes longer ones.
const MAX_LENGTH: usize = 1020 << 20;
/// Resource manager and kind of the record after which the rest of a segment is void.
const XLOG_RMGR: u8 = 0;
const XLOG_SWITCH: u8 = 0x40;

/// What stands at a position.
pub(super) enum Next {
    /// A valid record.
    Record {
        /// Its first byte, past a page header.
        start: u64,
        /// Where the next one may begin.
        end: u64,
    },
    /// A record that was begun and given up; writing went on at the page `resume`.
    Overwritten {
        /// Address of that page.
        resume: u64,
    },
}

struct Cursor {
    page: u64,
    offset: usize,
    left: usize,
}

/// Taking bytes of a record met the mark that it was given up.
struct GivenUp {
    resume: u64,
}

impl Reader<'_> {
    /// Reads the record at `at`. `prev` is the start of the record before, if it was read.
    pub(super) fn record(&mut self, at: u64, prev: Option<u64>) -> Result<Next, Stop> {
        let page = self.load_containing(at)?;
        let mut offset = (at - page) as usize;
        if offset == 0 {
            if self.info() & FIRST_IS_CONTRECORD != 0 {
                return end(format!("the page at {} continues another record", Lsn(page)));
            }
            offset = self.header_len();
        }
        if offset < self.header_len() || !offset.is_multiple_of(8) {
            return end(format!("{} is no place for a record", Lsn(at)));
        }
        let start = page + offset as u64;
        let total = u32_at(self.page(), offset) as usize;
        if total == 0 {
            return end(format!("nothing was written at {}", Lsn(start)));
        }
        if !(HEADER..=MAX_LENGTH).contains(&total) {
            return end(format!("the record at {} has a length of {total}", Lsn(start)));
        }
        let mut cursor = Cursor { page, offset, left: total };
        let mut header = Vec::with_capacity(HEADER);
        let given_up = self.take(&mut cursor, HEADER, |part| header.extend_from_slice(part))?;
        if let Some(GivenUp { resume }) = given_up {
            return Ok(Next::Overwritten { resume });
        }
        let back = u64_at(&header, 8);
        if prev.map_or(back >= start, |prev| prev != back) {
            return end(format!("the record at {} links back to {}", Lsn(start), Lsn(back)));
        }
        let mut crc = 0;
        let body = total - HEADER;
        let given_up =
            self.take(&mut cursor, body, |part| crc = crc32c::crc32c_append(crc, part))?;
        if let Some(GivenUp { resume }) = given_up {
            return Ok(Next::Overwritten { resume });
        }
        if crc32c::crc32c_append(crc, &header[..CRC_AT]) != u32_at(&header, CRC_AT) {
            return end(format!("the record at {} has a wrong checksum", Lsn(start)));
        }
        let next = cursor.page.checked_add(cursor.offset as u64);
        let mut next = next.and_then(|next| next.checked_next_multiple_of(8));
        if header[17] == XLOG_RMGR && header[16] & 0xF0 == XLOG_SWITCH {
            next = next.and_then(|next| next.checked_next_multiple_of(self.segment_size()));
        }
        match next {
            Some(end) => Ok(Next::Record { start, end }),
            None => end(format!("no address is left behind the record at {}", Lsn(start))),
        }
    }

    /// Gives the next `count` bytes of a record to `sink`, in pieces.
    fn take(
        &mut self,
        cursor: &mut Cursor,
        mut count: usize,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<Option<GivenUp>, Stop> {
        while count > 0 {
            if cursor.offset == self.block() {
                let Some(page) = cursor.page.checked_add(self.block() as u64) else {
                    return end(format!("no address is left behind {}", Lsn(cursor.page)));
                };
                cursor.page = page;
                self.load(cursor.page)?;
                let info = self.info();
                if info & FIRST_IS_OVERWRITE_CONTRECORD != 0 {
                    return Ok(Some(GivenUp { resume: cursor.page }));
                }
                let rest = self.remaining_length() as usize;
                if info & FIRST_IS_CONTRECORD == 0 || rest != cursor.left {
                    return end(format!(
                        "the page at {} does not continue the record before it",
                        Lsn(cursor.page)
                    ));
                }
                cursor.offset = self.header_len();
            }
            let here = count.min(self.block() - cursor.offset);
            sink(&self.page()[cursor.offset..cursor.offset + here]);
            cursor.offset += here;
            cursor.left -= here;
            count -= here;
        }
        Ok(None)
    }
}
