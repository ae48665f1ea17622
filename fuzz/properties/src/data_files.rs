//! Files that lie beside the data: its identity, what a rescue kept, names of WAL segments.

use howdah_core::DataId;
use howdah_postgres::fuzzing::{identity, identity_file};
use howdah_postgres::history::timeline_of;
use howdah_postgres::saved_wal::{Manifest, segment_of};

/// Segment sizes that PostgreSQL can have, of which some are tried.
const SIZES: [u64; 3] = [1 << 20, 16 << 20, 1 << 30];

/// An identity that is taken has an id and is written to the same; a segment's number leads back to its name; a
/// manifest is written to the same.
pub fn data_files(bytes: &[u8]) -> bool {
    let names =
        std::str::from_utf8(bytes).map(|text| text.lines().filter(|line| name(line)).count());
    let manifest = serde_json::from_slice::<Manifest>(bytes).is_ok_and(|manifest| {
        let json = serde_json::to_vec(&manifest).expect("a manifest has a JSON form");
        assert_eq!(serde_json::from_slice(&json).ok(), Some(manifest));
        true
    });
    // Whole as it is, and with the checksum that a writer with a mistake would have put behind it.
    let whole = taken(bytes);
    let repaired = taken(&sealed(bytes));
    whole || repaired || manifest || names.is_ok_and(|names| names > 0)
}

fn taken(bytes: &[u8]) -> bool {
    match identity(bytes) {
        Ok(read) => {
            assert_ne!(read.data_id, DataId(0));
            assert_eq!(identity(&identity_file(&read)), Ok(read));
            true
        }
        Err(why) => {
            assert!(!why.is_empty());
            false
        }
    }
}

/// The bytes as an identity's JSON, with header and checksum around them.
fn sealed(json: &[u8]) -> Vec<u8> {
    // Only the last bytes of what is written differ with its content.
    let mut file = identity_file(&Default::default())[..12].to_vec();
    file.extend(u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes());
    file.extend(json);
    let sum = crc32(&file);
    file.extend(sum.to_le_bytes());
    file
}

/// CRC-32 as in zlib, bit by bit: the corpus is small.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 }
        })
    })
}

fn name(name: &str) -> bool {
    for size in SIZES {
        if let Some((timeline, number)) = segment_of(name, size) {
            let per_id = 0x1_0000_0000 / size;
            let again = format!("{:08X}{:08X}{:08X}", timeline.0, number / per_id, number % per_id);
            assert_eq!(again, name.to_ascii_uppercase(), "segments of {size} bytes");
        }
    }
    assert_eq!(segment_of(name, 0), None);
    segment_of(name, SIZES[1]).is_some() || timeline_of(name).is_some()
}
