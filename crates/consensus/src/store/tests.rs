//! The store as a whole: openraft's own suite, restarts, kills, and damage.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use howdah_core::{Command, Epoch, Incarnation, Lsn, Nonce};
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::vote::leader_id_adv::LeaderId;
use openraft::{EntryPayload, RaftLogReader, RaftSnapshotBuilder, StorageError};

use super::disk::{Disk, SledDisk};
use super::hwm::{Mark, MarkFile};
use super::log::{LogStore, Shared};
use super::open::Opened;
use super::{OpenError, SOCKET, StateMachine, open, writer};
use crate::types::{Entry, LogId, Logged, Types, Vote};

fn id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: 1 }, index }
}

fn renewal(number: u64) -> Command {
    Command::Renew {
        epoch: Epoch(1),
        incarnation: Incarnation(7),
        nonce: Nonce(number),
        ttl_ms: 5000,
        wal_lsn: Lsn(number * 8192),
        paused: false,
        seen: 0,
    }
}

fn entry(term: u64, index: u64) -> Entry {
    let payload = EntryPayload::Normal(Logged::new(&renewal(index)).unwrap());
    Entry { log_id: id(term, index), payload }
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, node_id: 1 }, committed: true }
}

async fn append(log: &mut LogStore, entries: Vec<Entry>) {
    let (tx, rx) = Types::oneshot();
    log.append(entries, IOFlushed::signal(tx)).await.unwrap();
    rx.await.unwrap().unwrap();
}

async fn entries(
    log: &mut LogStore,
    range: impl RangeBounds<u64> + Clone + std::fmt::Debug + Send,
) -> Vec<Entry> {
    log.get_log_reader().await.try_get_log_entries(range).await.unwrap()
}

fn reopen(dir: &Path) -> Result<Opened, OpenError> {
    open(dir, "demo", "n1")
}

async fn close(opened: Opened) {
    opened.keeper.close().await.unwrap();
}

struct Fresh;

impl StoreBuilder<Types, LogStore, StateMachine, tempfile::TempDir> for Fresh {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let Opened { log, machine, .. } = reopen(dir.path()).unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test]
async fn openraft_suite() {
    Suite::test_all(Fresh).await.unwrap();
}

#[tokio::test]
async fn a_restart_keeps_vote_log_and_identity() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = reopen(dir.path()).unwrap();
    let identity = opened.identity.clone();
    opened.log.save_vote(&vote(3)).await.unwrap();
    append(&mut opened.log, (0..10).map(|index| entry(3, index)).collect()).await;
    opened.log.truncate_after(Some(id(3, 6))).await.unwrap();
    append(&mut opened.log, vec![entry(4, 7)]).await;
    opened.log.save_committed(Some(id(3, 5))).await.unwrap();
    close(opened).await;

    let mut opened = reopen(dir.path()).unwrap();
    assert_eq!(opened.identity, identity);
    assert_eq!(opened.log.get_log_reader().await.read_vote().await.unwrap(), Some(vote(3)));
    assert_eq!(opened.log.read_committed().await.unwrap(), Some(id(3, 5)));
    let state = opened.log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (None, Some(id(4, 7))));
    assert_eq!(entries(&mut opened.log, 5..).await, [entry(3, 5), entry(3, 6), entry(4, 7)]);
}

#[tokio::test]
async fn a_purge_survives_only_with_the_snapshot_that_covers_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = reopen(dir.path()).unwrap();
    let all: Vec<Entry> = (0..20).map(|index| entry(1, index)).collect();
    append(&mut opened.log, all.clone()).await;
    let stream = futures::stream::iter(all.into_iter().take(16).map(|entry| Ok((entry, None))));
    opened.machine.apply(stream).await.unwrap();
    opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    opened.log.purge(id(1, 12)).await.unwrap();
    close(opened).await;

    let mut opened = reopen(dir.path()).unwrap();
    let state = opened.log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(id(1, 12)));
    assert_eq!(state.last_log_id, Some(id(1, 19)));
    assert_eq!(opened.machine.applied_state().await.unwrap().0, Some(id(1, 15)));
    close(opened).await;

    for item in fs::read_dir(dir.path()).unwrap() {
        let path = item.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("snap-") {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(matches!(reopen(dir.path()), Err(OpenError::Corrupt { .. })));
}

#[tokio::test]
async fn an_unknown_command_stops_the_machine_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = reopen(dir.path()).unwrap();
    let unknown = Logged::from_json(br#"{"FromTheFuture":{}}"#.to_vec());
    let entry = Entry { log_id: id(1, 3), payload: EntryPayload::Normal(unknown) };
    let error = opened.machine.apply(futures::stream::iter([Ok((entry, None))])).await.unwrap_err();
    assert!(error.to_string().contains("log entry 3 holds a command"), "{error}");
    assert_eq!(opened.machine.applied_state().await.unwrap().0, None, "it was not applied");
}

#[tokio::test]
async fn a_store_is_bound_to_its_cluster_its_member_and_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let opened = reopen(dir.path()).unwrap();
    assert!(matches!(reopen(dir.path()), Err(OpenError::Locked { .. })));
    close(opened).await;
    let foreign = open(dir.path(), "other", "n1");
    assert!(matches!(foreign, Err(OpenError::ForeignScope { found, .. }) if found == "demo"));
    let foreign = open(dir.path(), "demo", "n2");
    assert!(matches!(foreign, Err(OpenError::ForeignMember { found, .. }) if found == "n1"));
    // One that a killed agent left is nothing foreign.
    std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    close(reopen(dir.path()).unwrap()).await;
    fs::write(dir.path().join("postgresql.conf"), "").unwrap();
    assert!(matches!(reopen(dir.path()), Err(OpenError::ForeignFormat { .. })));
}

#[tokio::test]
async fn a_creation_that_was_interrupted_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("creating"), "").unwrap();
    fs::create_dir(dir.path().join("db-1")).unwrap();
    fs::write(dir.path().join("db-1/db"), "half").unwrap();
    close(reopen(dir.path()).unwrap()).await;
    assert!(!dir.path().join("creating").exists());
    close(reopen(dir.path()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_grew_is_rewritten_when_it_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = super::open::open_with(dir.path(), "demo", "n1", 0).unwrap();
    append(&mut opened.log, (0..600).map(|index| entry(1, index)).collect()).await;
    opened.log.save_vote(&vote(1)).await.unwrap();
    let meta = crate::types::SnapshotMeta { last_log_id: Some(id(1, 597)), ..Default::default() };
    opened.machine.install_snapshot(&meta, b"{}".to_vec()).await.unwrap();
    opened.log.purge(id(1, 597)).await.unwrap();
    assert!(dir.path().join("db-2/db").exists() && !dir.path().join("db-1").exists());
    append(&mut opened.log, vec![entry(1, 600)]).await;
    opened.log.purge(id(1, 597)).await.unwrap();
    assert!(dir.path().join("db-3/db").exists() && !dir.path().join("db-2").exists());
    let identity = opened.identity.clone();
    close(opened).await;

    // As if it had been killed before it could remove the former generation.
    fs::create_dir(dir.path().join("db-1")).unwrap();
    let mut opened = reopen(dir.path()).unwrap();
    assert!(!dir.path().join("db-1").exists());
    assert_eq!(opened.identity, identity);
    assert_eq!(opened.log.get_log_reader().await.read_vote().await.unwrap(), Some(vote(1)));
    assert_eq!(entries(&mut opened.log, ..).await, [entry(1, 598), entry(1, 599), entry(1, 600)]);
}

/// A disk whose syncs fail once `broken` is set, and count.
struct Failing {
    disk: SledDisk,
    broken: Arc<AtomicBool>,
    failures: Arc<AtomicU32>,
}

impl Disk for Failing {
    fn append(&self, records: Vec<(u64, Vec<u8>)>) -> io::Result<()> {
        self.disk.append(records)
    }
    fn read(&self, from: Bound<u64>, to: Bound<u64>) -> io::Result<Vec<(u64, Vec<u8>)>> {
        self.disk.read(from, to)
    }
    fn cut(&self, from: Bound<u64>, to: Bound<u64>) -> io::Result<()> {
        self.disk.cut(from, to)
    }
    fn put(&self, name: &str, value: Vec<u8>) -> io::Result<()> {
        self.disk.put(name, value)
    }
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.disk.get(name)
    }
    fn sync(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            self.failures.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::from_raw_os_error(5));
        }
        self.disk.sync()
    }
    fn size(&self) -> io::Result<u64> {
        self.disk.size()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_told_and_never_retried() {
    let dir = tempfile::tempdir().unwrap();
    let (broken, failures) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let disk = Failing {
        disk: SledDisk::open(&dir.path().join("db-1")).unwrap(),
        broken: Arc::clone(&broken),
        failures: Arc::clone(&failures),
    };
    let (failed, seen) = tokio::sync::watch::channel(None);
    let shared =
        Arc::new(Shared { disk: RwLock::new(Box::new(disk)), facts: Mutex::default(), failed });
    let mark = MarkFile::create(&dir.path().join("hwm"), Mark::default()).unwrap();
    let lock = fs::File::create(dir.path().join("lock")).unwrap();
    let root = dir.path().to_owned();
    let queue = writer::start(root, Arc::clone(&shared), mark, lock, u64::MAX).unwrap();
    let mut log = LogStore::new(shared, queue);
    append(&mut log, vec![entry(1, 0)]).await;
    broken.store(true, Ordering::SeqCst);
    assert!(log.save_vote(&vote(1)).await.is_err());
    assert!(seen.borrow().as_ref().is_some_and(|why| why.contains("cannot be written")));
    // Even if the disk would work again: what it lost is unknown.
    broken.store(false, Ordering::SeqCst);
    assert!(log.save_vote(&vote(2)).await.is_err());
    let (tx, _rx) = Types::oneshot();
    assert!(log.append(vec![entry(1, 1)], IOFlushed::signal(tx)).await.is_err());
    assert_eq!(failures.load(Ordering::SeqCst), 1);
    assert_eq!(MarkFile::open(&dir.path().join("hwm")).unwrap().mark().vote, None);
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/v1")
}

/// The content of the fixtures: 30 renewals, a snapshot up to the 20th, purged up to the 10th.
async fn write_fixtures(root: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = reopen(dir.path()).unwrap();
    opened.log.save_vote(&vote(5)).await.unwrap();
    let found = Command::FoundGroup {
        cluster_id: howdah_core::ClusterId(0xC1),
        scope: "demo".to_owned(),
        settings: howdah_core::Settings::default(),
    };
    let mut all: Vec<Entry> = (0..30).map(|index| entry(5, index)).collect();
    all[1].payload = EntryPayload::Normal(Logged::new(&found).unwrap());
    append(&mut opened.log, all.clone()).await;
    let stream = futures::stream::iter(all.into_iter().take(21).map(|entry| Ok((entry, None))));
    opened.machine.apply(stream).await.unwrap();
    opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    opened.log.purge(id(5, 10)).await.unwrap();
    opened.log.save_committed(Some(id(5, 25))).await.unwrap();
    close(opened).await;
    opened_settled(dir.path()).await;
    for name in ["raft-store", "snapshot"] {
        drop(fs::remove_dir_all(root.join(name)));
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for item in fs::read_dir(dir.path()).unwrap() {
        let item = item.unwrap();
        let name = item.file_name().into_string().unwrap();
        if name.starts_with("snap-") {
            fs::copy(item.path(), root.join("snapshot").join(&name)).unwrap();
        }
    }
    copy_tree(dir.path(), &root.join("raft-store"));
    fs::remove_file(root.join("raft-store/lock")).unwrap();
    // Sled makes both anew; an empty directory would not survive in a repository.
    fs::remove_dir(root.join("raft-store/db-1/blobs")).unwrap();
    super::disk::remove_index_cache(&root.join("raft-store/db-1")).unwrap();
}

/// What version 1 wrote is read for ever. HOWDAH_WRITE_FIXTURES=1 writes them, once per format.
#[tokio::test(flavor = "multi_thread")]
async fn stores_and_snapshots_of_version_1_are_read() {
    if std::env::var_os("HOWDAH_WRITE_FIXTURES").is_some() {
        write_fixtures(&fixtures()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&fixtures().join("raft-store"), dir.path());
    let mut opened = reopen(dir.path()).unwrap();
    assert_eq!(opened.log.get_log_reader().await.read_vote().await.unwrap(), Some(vote(5)));
    assert_eq!(opened.log.read_committed().await.unwrap(), Some(id(5, 25)));
    let state = opened.log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(id(5, 10)));
    let kept = entries(&mut opened.log, ..).await;
    assert_eq!(kept, (11..30).map(|index| entry(5, index)).collect::<Vec<_>>());
    assert_eq!(kept[3].payload, EntryPayload::Normal(Logged::new(&renewal(14)).unwrap()));
    assert_eq!(opened.machine.applied().borrow().state.cluster_id.0, 0xC1);

    let snapshot = super::snapshot::read_newest(&fixtures().join("snapshot")).unwrap().unwrap();
    assert_eq!(snapshot.meta.last_log_id, Some(id(5, 20)));
    let state: howdah_core::ClusterState = serde_json::from_slice(&snapshot.snapshot).unwrap();
    assert_eq!((state.cluster_id.0, state.scope.as_str()), (0xC1, "demo"));
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_tree(&item.path(), &target);
        } else {
            fs::copy(item.path(), &target).unwrap();
        }
    }
}

const DAMAGED_ENTRIES: u64 = 400;

/// A store with a vote and `DAMAGED_ENTRIES` entries, closed; for tests that damage copies of it.
async fn sound_store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = reopen(dir.path()).unwrap();
    for index in 0..DAMAGED_ENTRIES {
        append(&mut opened.log, vec![entry(2, index)]).await;
    }
    opened.log.save_vote(&vote(2)).await.unwrap();
    close(opened).await;
    drop(opened_settled(dir.path()).await);
    dir
}

/// Opens and closes once more, so that sled's file is at rest before it is copied.
async fn opened_settled(dir: &Path) -> PathBuf {
    close(reopen(dir).unwrap()).await;
    dir.to_owned()
}

/// Either everything acknowledged is there, or the store is refused as damaged, for good.
async fn complete_or_refused(dir: &Path, what: &str) -> bool {
    match reopen(dir) {
        Ok(mut opened) => {
            let found = entries(&mut opened.log, ..).await;
            let expected: Vec<Entry> = (0..DAMAGED_ENTRIES).map(|index| entry(2, index)).collect();
            assert!(found == expected, "{what}: opened with {} entries", found.len());
            let kept = opened.log.get_log_reader().await.read_vote().await.unwrap();
            assert_eq!(kept, Some(vote(2)), "{what}");
            close(opened).await;
            false
        }
        Err(error) => {
            assert!(error.is_damage(), "{what}: {error}");
            assert!(error.to_string().contains("move it away"), "{what}: {error}");
            let again = reopen(dir).err().expect("a refused store was opened again");
            assert!(again.is_damage(), "{what}: {again}");
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bits_are_refused_or_harmless_never_silent() {
    let sound = sound_store().await;
    let mut refused = 0;
    for round in 0..24u64 {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(sound.path(), copy.path());
        let path = copy.path().join("db-1/db");
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        let at = rand::random_range(0..len.min(160 * 1024));
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0] ^= 1 << (round % 8);
        file.write_all_at(&byte, at).unwrap();
        drop(file);
        refused += u32::from(complete_or_refused(copy.path(), &format!("bit at {at}")).await);
    }
    assert!(refused > 0, "24 flipped bits among the records, and none was noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_tail_is_refused() {
    let sound = sound_store().await;
    // An older copy of sled's files under a newer mark: exactly what a lost tail looks like.
    let older = tempfile::tempdir().unwrap();
    copy_tree(sound.path(), older.path());
    let mut opened = reopen(sound.path()).unwrap();
    append(&mut opened.log, vec![entry(2, DAMAGED_ENTRIES)]).await;
    close(opened).await;
    let log_lost = tempfile::tempdir().unwrap();
    copy_tree(older.path(), log_lost.path());
    fs::copy(sound.path().join("hwm"), log_lost.path().join("hwm")).unwrap();
    let error = reopen(log_lost.path()).err().expect("a log without its tail was opened");
    assert!(matches!(error, OpenError::TailMissing { what: "the log", .. }), "{error}");

    let vote_lost = tempfile::tempdir().unwrap();
    copy_tree(sound.path(), vote_lost.path());
    let mut opened = reopen(sound.path()).unwrap();
    opened.log.save_vote(&vote(9)).await.unwrap();
    close(opened).await;
    fs::copy(sound.path().join("hwm"), vote_lost.path().join("hwm")).unwrap();
    let error = reopen(vote_lost.path()).err().expect("a forgotten vote was not noticed");
    assert!(matches!(error, OpenError::TailMissing { what: "the vote", .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_cut_files_are_refused() {
    let sound = sound_store().await;
    for (name, cut) in [("hwm", None), ("hwm", Some(0)), ("db-1/db", None), ("db-1/db", Some(0))] {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(sound.path(), copy.path());
        let path = copy.path().join(name);
        match cut {
            None => fs::remove_file(&path).unwrap(),
            Some(len) => {
                fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
            }
        }
        assert!(complete_or_refused(copy.path(), &format!("{name} {cut:?}")).await);
    }
    for keep in [0.2, 0.5, 0.9] {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(sound.path(), copy.path());
        let file = fs::OpenOptions::new().write(true).open(copy.path().join("db-1/db")).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len((len as f64 * keep) as u64).unwrap();
        complete_or_refused(copy.path(), &format!("cut to {keep}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_system_refuses_is_no_damage_and_is_tried_again() {
    let sound = sound_store().await;
    // A directory where the engine removes a file: the system says EISDIR.
    let in_the_way = sound.path().join("db-1/snap.1");
    fs::create_dir(&in_the_way).unwrap();
    let error = reopen(sound.path()).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    fs::remove_dir(&in_the_way).unwrap();
    opened_settled(sound.path()).await;
}

const VICTIM_DIR: &str = "HOWDAH_STORE_VICTIM";

/// The child's part: writes until it is killed, and prints what was acknowledged.
async fn write_until_killed(dir: &Path) -> ! {
    let mut opened = reopen(dir).unwrap();
    let last = opened.log.get_log_state().await.unwrap().last_log_id;
    let mut next = last.map_or(0, |id| id.index + 1);
    loop {
        append(&mut opened.log, vec![entry(next, next)]).await;
        println!("\nacked {next}");
        if next.is_multiple_of(7) {
            opened.log.save_vote(&vote(next)).await.unwrap();
            println!("\nvoted {next}");
        }
        if next.is_multiple_of(50) && next > 0 {
            opened.log.truncate_after(Some(id(next - 1, next - 1))).await.unwrap();
            append(&mut opened.log, vec![entry(next, next)]).await;
        }
        next += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_acknowledged_survives_a_kill() {
    if let Ok(dir) = std::env::var(VICTIM_DIR) {
        write_until_killed(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut acked, mut voted) = (None, None);
    for round in 0..20 {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::whatever_was_acknowledged_survives_a_kill",
                "--nocapture",
            ])
            .env(VICTIM_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut deadline = None;
        for line in lines {
            let line = line.unwrap_or_default();
            let number = |prefix| line.strip_prefix(prefix).and_then(|n| n.parse::<u64>().ok());
            acked = number("acked ").or(acked);
            voted = number("voted ").or(voted);
            // The first acknowledgement of this life starts the clock.
            if number("acked ").is_some() && deadline.is_none() {
                let life = Duration::from_millis(rand::random_range(1..80));
                deadline = Some(Instant::now() + life);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                child.kill().unwrap();
                deadline = None;
            }
        }
        child.wait().unwrap();
        let mut opened =
            reopen(dir.path()).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let last = opened.log.get_log_state().await.unwrap().last_log_id.map(|id| id.index);
        assert!(last >= acked, "round {round}: acknowledged {acked:?}, there is {last:?}");
        let kept = opened.log.get_log_reader().await.read_vote().await.unwrap();
        assert!(
            kept.map(|vote| vote.leader_id.term) >= voted,
            "round {round}: voted {voted:?}, there is {kept:?}"
        );
        let all = entries(&mut opened.log, ..).await;
        assert!(all.iter().enumerate().all(|(at, entry)| entry.log_id.index == at as u64));
        close(opened).await;
    }
    assert!(acked.is_some_and(|acked| acked > 50), "the victim hardly wrote: {acked:?}");
}
