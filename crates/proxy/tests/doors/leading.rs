//! Where doors lead, and when they stop.

use std::time::Duration;

use howdah_core::BootInstant;
use howdah_proxy::{Kind, gate};
use tokio::io::AsyncWriteExt;

use crate::fake::*;

#[tokio::test]
async fn writes_go_to_the_primary_and_reads_to_the_standby_with_the_fewest_sessions() {
    let (a, b, c) = (
        server("n1", Manner::Echo).await,
        server("n2", Manner::Echo).await,
        server("n3", Manner::Echo).await,
    );
    let (doors, write, read) = doors(limits());
    doors.update(&picture(1, &[("n1", a.address), ("n2", b.address), ("n3", c.address)]));
    let mut writer = client(write).await;
    assert_eq!(who(&mut writer).await, "n1");
    let mut readers = Vec::new();
    let mut names = Vec::new();
    for _ in 0..4 {
        let mut reader = client(read).await;
        names.push(who(&mut reader).await);
        readers.push(reader);
    }
    names.sort();
    assert_eq!(names, ["n2", "n2", "n3", "n3"]);
    // What goes in comes back, over any number of chunks.
    let words: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let text = message(b'd', &words);
    let (mut from, mut to) = writer.into_split();
    let sent = text.clone();
    let sending = tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        to
    });
    let mut heard = vec![0; text.len()];
    tokio::io::AsyncReadExt::read_exact(&mut from, &mut heard).await.unwrap();
    assert_eq!(heard, text);
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_change_of_leader_resets_old_sessions_at_once_and_leads_to_the_new_one() {
    let (a, b) = (server("n1", Manner::Echo).await, server("n2", Manner::Echo).await);
    let (doors, write, _) = doors(limits());
    doors.update(&picture(1, &[("n1", a.address), ("n2", b.address)]));
    let mut old = client(write).await;
    assert_eq!(who(&mut old).await, "n1");
    assert!(!doors.has_old_sessions());
    doors.update(&picture(2, &[("n2", b.address), ("n1", a.address)]));
    let mut new = client(write).await;
    assert_eq!(who(&mut new).await, "n2");
    // A reset, not an end: it may have an answer under way that is not to be trusted.
    let mut byte = [0];
    let ended = tokio::io::AsyncReadExt::read(&mut old, &mut byte).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    until("old sessions are gone", || !doors.has_old_sessions()).await;
    // The same leader under a later epoch is another primary.
    doors.update(&picture(3, &[("n2", b.address), ("n1", a.address)]));
    assert!(tokio::io::AsyncReadExt::read(&mut new, &mut byte).await.is_err());
    assert_eq!(doors.status()[0].counts.cut, 2);
}

#[tokio::test]
async fn nothing_the_primary_says_passes_after_the_deadline() {
    let a = server("n1", Manner::Echo).await;
    let (doors, write, _) = doors(limits());
    let mut present = picture(1, &[("n1", a.address)]);
    doors.update(&present);
    let mut writer = client(write).await;
    assert_eq!(who(&mut writer).await, "n1");
    // Renewed, so that it goes on.
    writer.write_all(b"d\0\0\0\x04").await.unwrap();
    assert_eq!(hear(&mut writer, 5).await, b"d\0\0\0\x04");
    present.leader.as_mut().unwrap().until = Some(BootInstant(gate::now().0));
    doors.update(&present);
    writer.write_all(b"d\0\0\0\x04").await.unwrap();
    assert_eq!(hear(&mut writer, 5).await, b"");
    until("it is counted", || doors.status()[0].counts.cut == 1).await;
}

#[tokio::test]
async fn a_standby_that_leads_loses_its_readers_and_one_that_falls_behind_keeps_them() {
    let (a, b) = (server("n1", Manner::Echo).await, server("n2", Manner::Echo).await);
    let (doors, _, read) = doors(limits());
    let mut present = picture(1, &[("n1", a.address), ("n2", b.address)]);
    doors.update(&present);
    let mut reader = client(read).await;
    assert_eq!(who(&mut reader).await, "n2");
    present.members[1].unfit = Some(howdah_proxy::route::Unfit::Behind);
    doors.update(&present);
    reader.write_all(b"d\0\0\0\x04").await.unwrap();
    assert_eq!(hear(&mut reader, 5).await, b"d\0\0\0\x04");
    doors.update(&picture(2, &[("n2", b.address), ("n1", a.address)]));
    assert_eq!(hear(&mut reader, 1).await, b"");
    let mut next = client(read).await;
    assert_eq!(who(&mut next).await, "n1");
}

#[tokio::test]
async fn a_commit_whose_wait_was_cancelled_is_no_success_behind_the_door() {
    let words = [
        message(b'N', b"SWARNING\0VWARNING\0C01000\0Mcanceling\0RSyncRepWaitForLSN\0\0"),
        message(b'C', b"COMMIT\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    let a = server("n1", Manner::Say(words)).await;
    let (doors, write, _) = doors(limits());
    doors.update(&picture(1, &[("n1", a.address)]));
    let mut writer = client(write).await;
    assert_eq!(who(&mut writer).await, "n1");
    writer.write_all(&message(b'Q', b"COMMIT\0")).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(&message(b'Z', b"I")) {
        let more = hear(&mut writer, 1).await;
        assert!(!more.is_empty(), "{}", String::from_utf8_lossy(&heard));
        heard.extend(more);
    }
    assert_eq!(howdah_proxy::answer::field(&heard[5..], b'C'), Some(&b"08007"[..]));
    assert!(!heard.windows(6).any(|part| part == b"COMMIT"));
    assert_eq!(doors.status()[0].counts.traps, 1);
}

#[tokio::test]
async fn an_encrypted_session_passes_unread() {
    let a = server("n1", Manner::Encrypt).await;
    let (doors, write, _) = doors(limits());
    doors.update(&picture(1, &[("n1", a.address)]));
    let mut asking = tokio::net::TcpStream::connect(write).await.unwrap();
    asking.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(hear(&mut asking, 1).await, b"S");
    // One that begins with a TLS record at once, as PostgreSQL 17 has it.
    let mut direct = tokio::net::TcpStream::connect(write).await.unwrap();
    direct.write_all(&[0x16, 3, 1, 0, 5]).await.unwrap();
    assert_eq!(hear(&mut direct, 5).await, [0x16, 3, 1, 0, 5]);
    // Whatever it looks like, it is not the door's to read.
    let words = message(b'N', b"VWARNING\0RSyncRepWaitForLSN\0\0");
    for session in [&mut asking, &mut direct] {
        session.write_all(&words).await.unwrap();
        assert_eq!(hear(session, words.len()).await, words);
    }
    assert_eq!(doors.status()[0].counts.traps, 0);
}

#[tokio::test]
async fn where_encryption_is_declined_the_session_is_read() {
    let a = server("n1", Manner::Decline).await;
    let (doors, write, _) = doors(limits());
    doors.update(&picture(1, &[("n1", a.address)]));
    let mut plain = tokio::net::TcpStream::connect(write).await.unwrap();
    plain.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(hear(&mut plain, 1).await, b"N");
    plain.write_all(&startup()).await.unwrap();
    assert_eq!(who(&mut plain).await, "n1");
    assert_eq!(doors.status()[0].kind, Kind::Write);
}

#[tokio::test]
async fn sessions_end_by_their_idle_limit_and_with_the_doors() {
    let a = server("n1", Manner::Echo).await;
    let limits =
        howdah_proxy::Limits { idle_timeout: Some(Duration::from_millis(200)), ..limits() };
    let (doors, write, _) = doors(limits);
    doors.update(&picture(1, &[("n1", a.address)]));
    let mut idle = client(write).await;
    assert_eq!(who(&mut idle).await, "n1");
    assert_eq!(hear(&mut idle, 1).await, b"");
    let mut busy = client(write).await;
    assert_eq!(who(&mut busy).await, "n1");
    doors.drain(Duration::ZERO).await;
    assert_eq!(hear(&mut busy, 1).await, b"");
    until("nobody listens", || std::net::TcpStream::connect(write).is_err()).await;
}

#[tokio::test]
async fn a_lease_that_is_seen_to_hold_again_opens_the_door_again() {
    let a = server("n1", Manner::Echo).await;
    let (doors, write, _) = doors(limits());
    let present = picture(1, &[("n1", a.address)]);
    doors.update(&present);
    let mut first = client(write).await;
    assert_eq!(who(&mut first).await, "n1");
    doors.update(&howdah_proxy::route::Picture { leader: None, ..present.clone() });
    assert_eq!(hear(&mut first, 1).await, b"");
    doors.update(&present);
    let mut second = client(write).await;
    assert_eq!(who(&mut second).await, "n1");
}

#[tokio::test]
async fn any_member_will_do_and_a_near_one_is_taken_first() {
    let (a, b, c) = (
        server("n1", Manner::Echo).await,
        server("n2", Manner::Echo).await,
        server("n3", Manner::Echo).await,
    );
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = [(Kind::Any, any), (Kind::Read, any)].into();
    let options = howdah_proxy::Options { listen, limits: limits(), threads: 1 };
    let doors = howdah_proxy::Doors::open(&options).unwrap();
    let at = |kind| doors.status().into_iter().find(|door| door.kind == kind).unwrap().address;
    let mut present = picture(1, &[("n1", a.address), ("n2", b.address), ("n3", c.address)]);
    present.zone = "b".into();
    present.members[2].zone = "b".into();
    doors.update(&present);
    let mut near = Vec::new();
    for kind in [Kind::Any, Kind::Read, Kind::Read] {
        let mut client = client(at(kind)).await;
        assert_eq!(who(&mut client).await, "n3", "{kind:?}");
        near.push(client);
    }
    present.members[2].serves = false;
    present.members[2].unfit = Some(howdah_proxy::route::Unfit::Down);
    doors.update(&present);
    let mut names = Vec::new();
    for _ in 0..2 {
        let mut client = client(at(Kind::Any)).await;
        names.push(who(&mut client).await);
        near.push(client);
    }
    names.sort();
    assert_eq!(names, ["n1", "n2"]);
}
