//! One look at the running server. Touches no table of users, so no lock of theirs can block it.

use super::{Session, SessionError, TextRow};
use howdah_core::{Lsn, Timeline, WallTime};

/// State of the server. Positions that have no meaning in its present role are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Whether it is in recovery: a standby.
    pub in_recovery: bool,
    /// Timeline that a primary writes. In recovery: the newest that the control file knows, which
    /// may lag behind the replay.
    pub timeline: Timeline,
    /// From the control file.
    pub system_identifier: u64,
    /// Primary: end of what was handed to the kernel.
    pub write_lsn: Option<Lsn>,
    /// Primary: end of what is on disk.
    pub flush_lsn: Option<Lsn>,
    /// Primary: end of what was inserted.
    pub insert_lsn: Option<Lsn>,
    /// Standby: end of what was replayed.
    pub replay_lsn: Option<Lsn>,
    /// Standby: end of what was received and flushed since its start; none before the first stream.
    pub receive_lsn: Option<Lsn>,
    /// Standby: whether somebody paused the replay.
    pub replay_paused: bool,
    /// Standby: when the last transaction replayed was committed, by the primary's clock.
    pub last_replayed: Option<WallTime>,
    /// Standby: who receives WAL.
    pub wal_receiver: Option<WalReceiver>,
    /// Who streams from here.
    pub replication: Vec<Replication>,
    /// Replication slots.
    pub slots: Vec<Slot>,
    /// When the postmaster started, by the local clock.
    pub started: WallTime,
    /// `primary_conninfo`, as the postmaster has read it last; empty on a server cut off.
    pub upstream: String,
    /// As 150018.
    pub server_version: u32,
    /// The setting, as the postmaster has read it last.
    pub synchronous_standby_names: String,
}

/// The walreceiver's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalReceiver {
    /// Its process id.
    pub pid: i32,
    /// `streaming`, `waiting`, `starting`, ...
    pub status: String,
    /// Whether its upstream has sent it something, or has let it be for a second.
    pub heard: bool,
    /// Host that it receives from.
    pub host: Option<String>,
    /// Port there.
    pub port: Option<i32>,
    /// Timeline that it receives.
    pub timeline: Timeline,
    /// End of what it flushed.
    pub flushed: Option<Lsn>,
    /// End of the upstream's WAL as last heard.
    pub latest_end: Option<Lsn>,
    /// Slot that it uses.
    pub slot: Option<String>,
}

impl WalReceiver {
    /// Whether WAL comes. One whose upstream no longer has the WAL calls itself streaming too, for
    /// the moment until it is told so.
    pub fn streams(&self) -> bool {
        self.status == "streaming" && self.heard
    }
}

/// One that streams from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replication {
    /// Process id of the walsender.
    pub pid: i32,
    /// Role that it runs as.
    pub user: String,
    /// What it calls itself.
    pub application_name: String,
    /// Its address; none over a socket.
    pub client_addr: Option<String>,
    /// `streaming`, `catchup`, `backup`, ...
    pub state: String,
    /// End of what was sent.
    pub sent: Option<Lsn>,
    /// End of what it flushed.
    pub flush: Option<Lsn>,
    /// End of what it replayed.
    pub replay: Option<Lsn>,
    /// `async`, `sync`, `quorum`, `potential`.
    pub sync_state: String,
}

/// A replication slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether it is physical.
    pub physical: bool,
    /// Whether somebody uses it now.
    pub active: bool,
    /// WAL from here on is kept for it.
    pub restart: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved`, `lost`; none if it reserves nothing.
    pub wal_status: Option<String>,
}

const SERVER: &str = "SELECT r, (SELECT system_identifier FROM pg_control_system())::text,
  CASE WHEN r THEN NULL ELSE pg_current_wal_lsn()::text END,
  CASE WHEN r THEN NULL ELSE pg_current_wal_flush_lsn()::text END,
  CASE WHEN r THEN NULL ELSE pg_current_wal_insert_lsn()::text END,
  pg_last_wal_replay_lsn()::text, pg_last_wal_receive_lsn()::text,
  CASE WHEN r THEN pg_is_wal_replay_paused() ELSE false END,
  CASE WHEN r THEN (SELECT to_hex(greatest(c.timeline_id, m.min_recovery_end_timeline))
                    FROM pg_control_checkpoint() c, pg_control_recovery() m)
       ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,
  (extract(epoch FROM pg_postmaster_start_time()) * 1000)::int8,
  (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000)::int8,
  current_setting('primary_conninfo'), current_setting('server_version_num'),
  current_setting('synchronous_standby_names')
FROM (SELECT pg_is_in_recovery() AS r OFFSET 0) AS role";

// A walreceiver begins with both times the same, those of its own start.
const RECEIVER: &str = "SELECT pid, status, sender_host, sender_port,
  coalesce(received_tli, receive_start_tli, 0), flushed_lsn::text, latest_end_lsn::text, slot_name,
  coalesce(last_msg_send_time <> last_msg_receipt_time
           OR last_msg_receipt_time < clock_timestamp() - interval '1 s', false)
FROM pg_stat_wal_receiver WHERE pid IS NOT NULL";

const SENDERS: &str = "SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''),
  host(client_addr), coalesce(state, ''), sent_lsn::text, flush_lsn::text, replay_lsn::text,
  coalesce(sync_state, '') FROM pg_stat_replication ORDER BY pid";

const SLOTS: &str = "SELECT slot_name::text, slot_type = 'physical', active, restart_lsn::text,
  wal_status FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name";

/// What a function says that exists in the other role only.
const WRONG_ROLE: &str = "55000";
/// A promotion happens once; a few tries meet its end.
const TRIES: u32 = 3;

/// All in one message: each round trip wakes three processes.
pub(super) async fn probe(session: &Session) -> Result<Probe, SessionError> {
    let sql = [SERVER, RECEIVER, SENDERS, SLOTS].join("; ");
    let mut tries = 1;
    let answers = loop {
        match session.rows(&sql).await {
            // The promotion fell between asking for the role and asking what depends on it.
            Err(SessionError::Statement { code, .. }) if code == WRONG_ROLE && tries < TRIES => {
                tries += 1;
            }
            other => break other?,
        }
    };
    let [server, receiver, senders, slots] = answers.as_slice() else {
        return Err(answer("the probe", format!("{} answers instead of 4", answers.len())));
    };
    let row = server.first().ok_or_else(|| answer("the probe", "no row"))?;
    Ok(Probe {
        wal_receiver: receiver.first().map(receiver_row).transpose()?,
        replication: senders.iter().map(sender_row).collect::<Result<_, _>>()?,
        slots: slots.iter().map(slot_row).collect::<Result<_, _>>()?,
        ..server_row(row)?
    })
}

fn answer(what: &'static str, detail: impl Into<String>) -> SessionError {
    SessionError::Answer { what, detail: detail.into() }
}

fn lsn(row: &TextRow, column: usize) -> Result<Option<Lsn>, SessionError> {
    row.maybe(column, "an LSN")
}

fn wall(millis: i64) -> WallTime {
    WallTime(u64::try_from(millis).unwrap_or(0))
}

fn server_row(row: &TextRow) -> Result<Probe, SessionError> {
    const WHAT: &str = "the probe";
    // Shown as a signed number although it is none.
    let id = row.text(1, "the system identifier")?;
    let id = id.parse::<i64>().map(i64::cast_unsigned).or_else(|_| id.parse::<u64>());
    let hex = row.text(8, "the timeline")?;
    let timeline = u32::from_str_radix(hex, 16).map_err(|_| answer("the timeline", hex))?;
    Ok(Probe {
        in_recovery: row.flag(0, WHAT)?,
        timeline: Timeline(timeline),
        system_identifier: id.map_err(|e| answer("the system identifier", e.to_string()))?,
        write_lsn: lsn(row, 2)?,
        flush_lsn: lsn(row, 3)?,
        insert_lsn: lsn(row, 4)?,
        replay_lsn: lsn(row, 5)?,
        receive_lsn: lsn(row, 6)?,
        replay_paused: row.flag(7, WHAT)?,
        started: wall(row.value(9, "the start time")?),
        last_replayed: row.maybe(10, "the replay time")?.map(wall),
        upstream: row.text(11, WHAT)?.to_owned(),
        server_version: row.value(12, WHAT)?,
        synchronous_standby_names: row.text(13, WHAT)?.to_owned(),
        ..Probe::default()
    })
}

fn receiver_row(row: &TextRow) -> Result<WalReceiver, SessionError> {
    const WHAT: &str = "pg_stat_wal_receiver";
    Ok(WalReceiver {
        pid: row.value(0, WHAT)?,
        status: row.text(1, WHAT)?.to_owned(),
        host: row.maybe(2, WHAT)?,
        port: row.maybe(3, WHAT)?,
        timeline: Timeline(row.value(4, WHAT)?),
        flushed: lsn(row, 5)?,
        latest_end: lsn(row, 6)?,
        slot: row.maybe(7, WHAT)?,
        heard: row.flag(8, WHAT)?,
    })
}

fn sender_row(row: &TextRow) -> Result<Replication, SessionError> {
    const WHAT: &str = "pg_stat_replication";
    Ok(Replication {
        pid: row.value(0, WHAT)?,
        user: row.text(1, WHAT)?.to_owned(),
        application_name: row.text(2, WHAT)?.to_owned(),
        client_addr: row.maybe(3, WHAT)?,
        state: row.text(4, WHAT)?.to_owned(),
        sent: lsn(row, 5)?,
        flush: lsn(row, 6)?,
        replay: lsn(row, 7)?,
        sync_state: row.text(8, WHAT)?.to_owned(),
    })
}

fn slot_row(row: &TextRow) -> Result<Slot, SessionError> {
    const WHAT: &str = "pg_replication_slots";
    Ok(Slot {
        name: row.text(0, WHAT)?.to_owned(),
        physical: row.flag(1, WHAT)?,
        active: row.flag(2, WHAT)?,
        restart: lsn(row, 3)?,
        wal_status: row.maybe(4, WHAT)?,
    })
}
