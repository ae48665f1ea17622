//! The end of WAL on disk, compared with what pg_waldump finds.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use howdah_core::{HistoryEntry, Lsn, Timeline};
use howdah_postgres::control::ControlData;
use howdah_postgres::history;
use howdah_postgres::initdb::{InitdbOptions, initdb};
use howdah_postgres::settings::Dynamic;
use howdah_postgres::walscan::{DiskEnd, WalScan};
use nix::sys::signal::Signal;

use crate::support::{Room, Server};

/// Start of the last record that pg_waldump finds, and where it says the valid WAL ends.
fn waldump(server: &Server, wal: &Path, from: Lsn, timeline: Timeline) -> (Lsn, Option<Lsn>) {
    let output = Command::new(server.install.bin_dir.join("pg_waldump"))
        .arg("-p")
        .arg(wal)
        .args(["-s", &from.to_string(), "-t", &timeline.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let lsn = |line: &str, mark: &str| -> Option<Lsn> {
        let word = line.split_once(mark)?.1.split([',', ':', ' ']).next()?;
        word.parse().ok()
    };
    let last = text.lines().rev().find_map(|line| lsn(line, "lsn: "));
    let end = errors.lines().find_map(|line| lsn(line, "invalid record length at "));
    (last.unwrap_or_else(|| panic!("pg_waldump finds nothing: {errors}")), end)
}

fn scan(
    control: &ControlData,
    wal: &Path,
    history: &[HistoryEntry],
    timeline: Timeline,
) -> DiskEnd {
    let mut scan = WalScan::of(Path::new("/"), control, history, timeline);
    scan.wal_dir = wal.to_owned();
    scan.disk_end(control.scan_start()).unwrap()
}

/// Size of a WAL page, and where its header keeps the timeline.
const PAGE: u64 = 8192;
const PAGE_TIMELINE: std::ops::Range<u64> = 4..8;

/// `at`, or the first byte behind the timeline of a page header: pg_waldump believes any timeline
/// that is not lower than the one before, where recovery, and the scan with it, ends.
fn past_timeline(at: u64) -> u64 {
    if PAGE_TIMELINE.contains(&(at % PAGE)) { at - at % PAGE + PAGE_TIMELINE.end } else { at }
}

/// A page of a timeline that is not in the history ends the WAL at that page, as in recovery.
fn foreign_page(
    server: &Server,
    room: &Room,
    control: &ControlData,
    history: &[HistoryEntry],
    whole: &DiskEnd,
) {
    let (wal, copy) = (server.data().join("pg_wal"), room.join("wal-foreign"));
    std::fs::create_dir(&copy).unwrap();
    let size = control.wal_segment_size;
    for number in control.checkpoint.0 / size..=whole.position.lsn.0 / size {
        let name = format!("{:08X}{:08X}{number:08X}", control.timeline.0, 0);
        std::fs::copy(wal.join(&name), copy.join(&name)).unwrap();
    }
    let page = whole.last_record.0 - whole.last_record.0 % PAGE;
    let name = format!("{:08X}{:08X}{:08X}", control.timeline.0, 0, page / size);
    let file = std::fs::OpenOptions::new().write(true).open(copy.join(name)).unwrap();
    let foreign = (control.timeline.0 + 85).to_le_bytes();
    file.write_all_at(&foreign, page % size + PAGE_TIMELINE.start).unwrap();
    let ours = scan(control, &copy, history, control.timeline);
    assert!(ours.position.lsn.0 <= page, "page at {}: {ours:?}", Lsn(page));
    assert!(ours.why.contains("is of timeline"), "{ours:?}");
    std::fs::remove_dir_all(&copy).unwrap();
}

/// Cuts, zeroes and flips in copies of the last segments; both must end at the same record.
fn damage(
    server: &Server,
    room: &Room,
    control: &ControlData,
    history: &[HistoryEntry],
    whole: &DiskEnd,
) {
    let wal = server.data().join("pg_wal");
    let size = control.wal_segment_size;
    let first = control.checkpoint.0;
    let length = whole.position.lsn.0 - first;
    let mut shortened = 0;
    for step in 1..8_u64 {
        let at = past_timeline(first + 200 + (length - 200) * step / 8);
        for kind in ["flip", "zero", "cut"] {
            let copy = room.join(&format!("wal-{step}-{kind}"));
            std::fs::create_dir(&copy).unwrap();
            for number in first / size..=whole.position.lsn.0 / size {
                let name = format!("{:08X}{:08X}{number:08X}", control.timeline.0, 0);
                std::fs::copy(wal.join(&name), copy.join(&name)).unwrap();
            }
            let name = format!("{:08X}{:08X}{:08X}", control.timeline.0, 0, at / size);
            let file = std::fs::OpenOptions::new().read(true).write(true).open(copy.join(name));
            let (file, offset) = (file.unwrap(), at % size);
            match kind {
                "flip" => {
                    let mut byte = [0];
                    file.read_exact_at(&mut byte, offset).unwrap();
                    file.write_all_at(&[byte[0] ^ 0x55], offset).unwrap();
                }
                "zero" => file.write_all_at(&vec![0; (size - offset) as usize], offset).unwrap(),
                _ => file.set_len(offset - offset % PAGE).unwrap(),
            }
            let ours = scan(control, &copy, history, control.timeline);
            let (last, _) = waldump(server, &copy, control.checkpoint, control.timeline);
            assert_eq!(ours.last_record, last, "{kind} at {}: {ours:?}", Lsn(at));
            // Bytes behind a segment switch mean nothing; damage there changes no answer.
            let shorter = ours.position.lsn < whole.position.lsn;
            assert!(!shorter || ours.position.lsn.0 <= at + 7, "{kind} at {}: {ours:?}", Lsn(at));
            assert!(ours.position.lsn > last, "{ours:?}");
            std::fs::remove_dir_all(&copy).unwrap();
            shortened += u32::from(shorter);
        }
    }
    assert!(shortened >= 12, "only {shortened} of 21 damages ended the WAL");
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_end_agrees_with_pg_waldump() {
    let room = Room::new("wal");
    let mut server = Server::new(&room, "main", 24_510);
    let options = InitdbOptions { extra: vec!["wal-segsize=1".into()], ..Default::default() };
    initdb(&server.install, server.data(), &options, "postgres").await.unwrap();
    server.start(&Dynamic::isolated()).await;
    server.promote().await;
    let session = server.session().await;
    let rows =
        "INSERT INTO public.t SELECT g, repeat('x', g % 900) FROM generate_series(1, 8000) g";
    session.execute("CREATE TABLE public.t (i int, t text)").await.unwrap();
    session.checkpoint(crate::support::DEADLINE).await.unwrap();
    session.execute(rows).await.unwrap();
    session.query("SELECT pg_switch_wal()", &[]).await.unwrap();
    session.execute(rows).await.unwrap();
    let flushed = server.probe().await.flush_lsn.unwrap();
    server.stop(Signal::SIGQUIT);

    let control = ControlData::read(&server.install, server.data()).await.unwrap();
    let timeline = Timeline(2);
    let history = history::read_history(server.data(), timeline).unwrap();
    let wal = server.data().join("pg_wal");
    let ours = scan(&control, &wal, &history, timeline);
    let (last, end) = waldump(&server, &wal, control.checkpoint, timeline);
    assert_eq!((ours.last_record, ours.position.timeline), (last, timeline));
    let end = end.expect("pg_waldump says where it stopped");
    // It names the place past a page header, we the place before it.
    let header = end.0.checked_sub(ours.position.lsn.0);
    assert!(header.is_some_and(|h| [0, 24, 40].contains(&h)), "{ours:?}, pg_waldump {end}");
    assert!(ours.position.lsn >= flushed && ours.segments_read > 3, "{ours:?} {flushed}");
    damage(&server, &room, &control, &history, &ours);
    foreign_page(&server, &room, &control, &history, &ours);

    // A standby that replays this WAL ends where the scan does.
    server.start(&Dynamic::isolated()).await;
    crate::support::until("everything is replayed", async || {
        let replayed = server.probe().await.replay_lsn?;
        assert!(replayed <= end, "replayed past the disk end: {replayed}");
        (replayed >= ours.position.lsn).then_some(())
    })
    .await;
}
