//! Two servers through their life: made, started, promoted, cloned, diverged, rewound.

use std::collections::BTreeSet;
use std::time::Duration;

use howdah_core::{DataId, Lsn, MemberName, Position, Timeline};
use howdah_postgres::clone::{self, Source};
use howdah_postgres::control::{ClusterControlState, ControlData};
use howdah_postgres::datadir::{DataDir, Marker, inspect};
use howdah_postgres::hba::HbaMode;
use howdah_postgres::initdb::{InitdbError, InitdbOptions, initdb};
use howdah_postgres::passfile::{self, Secret};
use howdah_postgres::roles::{Login, ensure_roles};
use howdah_postgres::saved_wal::{Save, read_manifest, save_divergent_wal};
use howdah_postgres::session::{SessionError, WalReceiver, connect};
use howdah_postgres::settings::{Dynamic, parse_application_name};
use howdah_postgres::walscan::WalScan;
use howdah_postgres::{history, prepare, rewind, signals, slots};
use nix::sys::signal::Signal;

use crate::support::{ANSWER, DEADLINE, PASSWORD, Room, Server, until};

fn source(of: &Server, user: &str, reader: &Server) -> Source {
    Source {
        host: "127.0.0.1".into(),
        port: of.settings.port,
        user: user.into(),
        passfile: Some(passfile::path(reader.data())),
        tls: None,
    }
}

fn pass(server: &Server) {
    let secret = Secret::new(PASSWORD);
    passfile::write(server.data(), &[("replicator", &secret), ("rewinder", &secret)]).unwrap();
}

/// Made and promoted to the reserved timeline, with roles; nothing of the password in any log.
async fn first_primary(room: &Room) -> Server {
    let mut a = Server::new(room, "a", 24_501);
    let options = InitdbOptions::default();
    initdb(&a.install, a.data(), &options, "postgres").await.unwrap();
    let again = initdb(&a.install, a.data(), &options, "postgres").await;
    assert!(matches!(again, Err(InitdbError::Occupied { .. })), "{again:?}");
    let DataDir::Cluster(cluster) = inspect(a.data()).unwrap() else { panic!("no cluster") };
    assert!(cluster.has_standby_signal && cluster.marker.is_none() && cluster.mode == 0o700);
    let control = ControlData::read(&a.install, a.data()).await.unwrap();
    assert!(control.data_checksums && control.state == ClusterControlState::ShutDown);

    a.start(&Dynamic::isolated()).await;
    let probe = a.probe().await;
    assert!(probe.in_recovery && probe.flush_lsn.is_none() && probe.wal_receiver.is_none());
    assert_eq!(probe.system_identifier, control.system_identifier);
    assert!(a.session().await.is_cut_off().await.unwrap());
    history::put_comment_history(a.data(), Timeline(1), Timeline(5)).unwrap();
    a.promote().await;
    let probe = a.probe().await;
    assert_eq!(probe.timeline, Timeline(5), "the promotion took another number than reserved");
    assert_eq!(history::highest_real(a.data()).unwrap(), Timeline(5));
    assert_eq!(history::read_history(a.data(), Timeline(5)).unwrap().len(), 1);

    let secret = Secret::new(PASSWORD);
    let login = |name| Login { name, password: Some(&secret) };
    for _ in 0..2 {
        let (replication, rewind) = (login("replicator"), login("rewinder"));
        let session = a.session().await;
        ensure_roles(&session, a.install.major, &replication, &rewind).await.unwrap();
    }
    a
}

/// Keeps clients out and lets them in again, and what a dead or hung server looks like.
async fn doors(a: &Server) {
    let (host, port) = ("127.0.0.1", a.settings.port);
    let check = async || {
        let user = "replicator".into();
        let source = Source { host: host.into(), port, user, passfile: None, tls: None };
        rewind::check_source(&source, &Secret::new(PASSWORD), ANSWER).await
    };
    // The replication role may not read files, but to be told so it must have been let in.
    until("it is let in", async || {
        matches!(check().await, Err(SessionError::Statement { .. })).then_some(())
    })
    .await;
    a.reload(&Dynamic::isolated(), HbaMode::Barred);
    until("it is kept out", async || {
        matches!(check().await, Err(SessionError::AuthFailed(_))).then_some(())
    })
    .await;
    a.session().await.probe().await.unwrap();
    a.reload(&Dynamic::isolated(), HbaMode::Open);

    let refused = connect(&a.settings.socket_dir, 24_599, "postgres", ANSWER).await;
    let refused = refused.err().expect("nobody listens there");
    assert!(matches!(refused, SessionError::Refused(_)) && !refused.proves_life(), "{refused}");
    a.signal(Signal::SIGSTOP);
    let short = Duration::from_millis(300);
    let hung = connect(&a.settings.socket_dir, port, "postgres", short).await;
    a.signal(Signal::SIGCONT);
    let hung = hung.err().expect("a stopped server answers nobody");
    assert!(matches!(hung, SessionError::TimedOut(_)) && !hung.proves_life(), "{hung}");
}

/// A standby made from `a`, streaming with its data id in its name.
async fn cloned(room: &Room, a: &Server) -> Server {
    let others = BTreeSet::from([MemberName::from("b")]);
    let session = a.session().await;
    let changes = slots::on_primary(&others, &session.probe().await.unwrap().slots);
    slots::change(&session, &changes).await.unwrap();
    slots::change(&session, &changes).await.unwrap();
    let mut b = Server::new(room, "b", 24_502);
    pass(&b);
    let mut last = None;
    let from = source(a, "replicator", &b);
    clone::base_backup(&b.install, b.data(), &from, Some("howdah_b"), |at| last = Some(at))
        .await
        .unwrap();
    let last = last.expect("a clone tells how far it is");
    assert!(last.bytes > 1 << 20 && last.total >= last.bytes, "{last:?}");
    clone::swap_in(b.data(), None).unwrap();
    assert!(!clone::is_half_swapped(b.data()).unwrap());
    let follow = b.follow(a, "b", DataId(0xb0));
    b.start(&follow).await;
    streams(a, &b, "b", DataId(0xb0)).await;
    b
}

async fn streams(primary: &Server, standby: &Server, name: &str, data_id: DataId) {
    until("it streams", async || {
        let probe = primary.probe().await;
        let row = probe.replication.iter().find(|r| r.state == "streaming")?;
        let name_seen = parse_application_name(&row.application_name)?;
        (name_seen == (MemberName::from(name), data_id)).then_some(())
    })
    .await;
    let receiver = until("its walreceiver hears the primary", async || {
        standby.probe().await.wal_receiver.filter(WalReceiver::streams)
    })
    .await;
    assert_eq!(receiver.host.as_deref(), Some("127.0.0.1"));
    assert_eq!(receiver.slot, Some(slots::slot_name(&MemberName::from(name))));
}

/// Crashes `a` with WAL that `b`, promoted meanwhile, does not have; the fork and `a`'s disk end.
async fn diverge(a: &mut Server, b: &Server) -> (Position, Position) {
    let session = a.session().await;
    session
        .execute("CREATE TABLE public.t (i int); INSERT INTO public.t VALUES (1)")
        .await
        .unwrap();
    let target = a.probe().await.flush_lsn.unwrap();
    until("the standby has the row", async || {
        (b.probe().await.replay_lsn? >= target).then_some(())
    })
    .await;
    // What a promise does: no source any more by a reload, and no walreceiver left.
    let follow = b.follow(a, "b", DataId(0xb0));
    b.reload(&follow.promised(), HbaMode::Open);
    until("nothing is received", async || {
        let session = b.session().await;
        let cut = session.is_cut_off().await.unwrap();
        (cut && session.probe().await.unwrap().wal_receiver.is_none()).then_some(())
    })
    .await;
    session.execute("INSERT INTO public.t SELECT generate_series(2, 100)").await.unwrap();
    session.execute("INSERT INTO public.t VALUES (101)").await.unwrap();
    a.stop(Signal::SIGQUIT);
    history::put_comment_history(b.data(), Timeline(5), Timeline(8)).unwrap();
    b.promote().await;
    signals::write_standby_signal(b.data()).unwrap();
    b.session().await.execute("INSERT INTO public.t VALUES (-1)").await.unwrap();
    b.session().await.checkpoint(DEADLINE).await.unwrap();
    assert_eq!(b.probe().await.timeline, Timeline(8));

    let fork = *history::read_history(b.data(), Timeline(8)).unwrap().last().unwrap();
    assert_eq!(fork.timeline, Timeline(5));
    let control = ControlData::read(&a.install, a.data()).await.unwrap();
    assert_eq!(control.state, ClusterControlState::InProduction);
    assert!(rewind::rewind_possible(&control).is_err(), "it crashed, so it needs recovery first");
    let own = history::read_history(a.data(), Timeline(5)).unwrap();
    let scan = WalScan::of(a.data(), &control, &own, Timeline(5));
    let end = scan.disk_end(control.scan_start()).unwrap().position;
    assert!(end.timeline == Timeline(5) && end.lsn > fork.end, "{end} is not past {}", fork.end);
    (Position { timeline: fork.timeline, lsn: fork.end }, end)
}

/// Replays `a` to its end in isolation, saves what only it has, rewinds it and lets it follow.
async fn rejoin(room: &Room, a: &mut Server, b: &Server, fork: Position, end: Position) {
    a.start(&Dynamic::isolated()).await;
    until("it has replayed to its end", async || {
        (a.probe().await.replay_lsn? >= end.lsn).then_some(())
    })
    .await;
    a.stop(Signal::SIGINT);
    let control = ControlData::read(&a.install, a.data()).await.unwrap();
    assert_eq!(control.state, ClusterControlState::ShutDownInRecovery);
    rewind::rewind_possible(&control).unwrap();

    let save = Save {
        data_dir: a.data().to_owned(),
        segment_size: control.wal_segment_size,
        fork,
        end,
        dest_dir: room.join("lost-8"),
        max_bytes: 1 << 30,
    };
    let manifest = save_divergent_wal(&a.install, &save).await.unwrap();
    assert_eq!(manifest.commits, 2, "{manifest:?}");
    assert!(manifest.left_out.is_empty() && manifest.end == end);
    assert_eq!(read_manifest(&save.dest_dir).unwrap(), Some(manifest.clone()));
    assert_eq!(save_divergent_wal(&a.install, &save).await.unwrap(), manifest);

    pass(a);
    let from = source(b, "rewinder", a);
    let check = rewind::check_source(&from, &Secret::new(PASSWORD), ANSWER).await.unwrap();
    assert!(check.standby_signal && !check.in_recovery && check.checkpoint_redo > Lsn(0));
    assert_eq!(check.checkpoint_timeline, Timeline(8));
    let mut lines = 0;
    rewind::run_rewind(&a.install, a.data(), &from, |_| lines += 1).await.unwrap();
    assert!(lines > 1 && Marker::Rewinding.is_set(a.data()).unwrap());
    let DataDir::Cluster(cluster) = inspect(a.data()).unwrap() else { panic!("no cluster") };
    assert_eq!(cluster.marker, Some(Marker::Rewinding));
    let follow = a.follow(b, "a", DataId(0xa1));
    rewind::finish_rewind(&a.settings, &follow, HbaMode::Open).unwrap();
    Marker::Rewinding.clear(a.data()).unwrap();
    let session = b.session().await;
    let others = BTreeSet::from([MemberName::from("a")]);
    let changes = slots::on_primary(&others, &session.probe().await.unwrap().slots);
    slots::change(&session, &changes).await.unwrap();
    a.start(&follow).await;
    streams(b, a, "a", DataId(0xa1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn made_cloned_diverged_and_rewound() {
    let room = Room::new("lifecycle");
    let mut a = first_primary(&room).await;
    doors(&a).await;
    let b = cloned(&room, &a).await;
    let (fork, end) = diverge(&mut a, &b).await;
    rejoin(&room, &mut a, &b, fork, end).await;
    assert_eq!((a.count().await, b.count().await), (2, 2), "only rows 1 and -1 survive");

    for server in [&a, &b] {
        let log = server.data().join("log");
        let mut bytes = 0;
        for entry in std::fs::read_dir(log).unwrap() {
            let text = std::fs::read(entry.unwrap().path()).unwrap();
            bytes += text.len();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(!text.contains("s3cret") && !text.contains("SCRAM-SHA-256$"), "{text}");
        }
        assert!(bytes > 0, "the server logged nothing");
    }

    // What a person sets past us is taken out again, and the file says so.
    let session = b.session().await;
    session.execute("ALTER SYSTEM SET primary_conninfo = 'host=elsewhere'").await.unwrap();
    session.execute("ALTER SYSTEM SET work_mem = '8MB'").await.unwrap();
    let now = Dynamic::isolated();
    let prepared = prepare::prepare(&b.settings, &now, HbaMode::Open).unwrap();
    assert!(prepared.changed && prepared.warnings[0].contains("primary_conninfo"), "{prepared:?}");
    assert!(!prepare::prepare(&b.settings, &now, HbaMode::Open).unwrap().changed);
    let auto = std::fs::read_to_string(b.data().join("postgresql.auto.conf")).unwrap();
    assert!(auto.contains("work_mem") && !auto.contains("elsewhere"), "{auto}");
}
