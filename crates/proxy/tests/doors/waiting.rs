//! Who waits, for how long, and what it is told.

use std::sync::atomic::Ordering;
use std::time::Duration;

use howdah_proxy::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fake::*;

#[tokio::test]
async fn clients_wait_for_a_primary_and_are_let_on_when_there_is_one() {
    let a = server("n1", Manner::Echo).await;
    let (doors, write, _) = doors(limits());
    let mut early = Vec::new();
    for _ in 0..100 {
        early.push(client(write).await);
    }
    until("they wait", || doors.status()[0].waiting == 100).await;
    let mut closed = picture(1, &[("n1", a.address)]);
    closed.leader.as_mut().unwrap().open = false;
    doors.update(&closed);
    assert_eq!(a.came.load(Ordering::SeqCst), 0);
    doors.update(&picture(1, &[("n1", a.address)]));
    for client in &mut early {
        assert_eq!(who(client).await, "n1");
    }
    assert_eq!(doors.status()[0].waiting, 0);
    assert_eq!(doors.status()[0].counts.waited, 100);
}

#[tokio::test]
async fn a_wait_ends_with_the_reason_for_it() {
    let limits = Limits { hold_timeout: Duration::from_millis(100), ..limits() };
    let (doors, write, read) = doors(limits);
    doors.update(&picture(1, &[]));
    let mut writer = client(write).await;
    let (code, detail) = refused(&mut writer).await;
    assert_eq!((code.as_str(), detail.as_str()), ("57P03", "an election is open for epoch 9"));
    let mut reader = client(read).await;
    let (code, detail) = refused(&mut reader).await;
    assert_eq!((code.as_str(), detail.as_str()), ("57P03", "the cluster has no members yet"));
    // A client that asks for encryption first can be told only without.
    let mut careful = TcpStream::connect(write).await.unwrap();
    careful.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(hear(&mut careful, 1).await, b"N");
    careful.write_all(&startup()).await.unwrap();
    assert_eq!(refused(&mut careful).await.0, "57P03");
}

#[tokio::test]
async fn only_so_many_may_wait_and_only_so_many_may_come() {
    let limits = Limits { hold_limit: 2, max_connections: 4, ..limits() };
    let (doors, write, _) = doors(limits);
    doors.update(&picture(1, &[]));
    let _waiting = [client(write).await, client(write).await];
    until("two wait", || doors.status()[0].waiting == 2).await;
    let mut third = client(write).await;
    assert_eq!(refused(&mut third).await.0, "57P03");
    // Two that say nothing are connections too.
    let _silent =
        [TcpStream::connect(write).await.unwrap(), TcpStream::connect(write).await.unwrap()];
    until("four are there", || doors.status()[0].connections == 4).await;
    let mut fifth = client(write).await;
    assert_eq!(refused(&mut fifth).await.0, "53300");
}

#[tokio::test]
async fn who_goes_away_waits_no_longer() {
    let (doors, write, _) = doors(limits());
    doors.update(&picture(1, &[]));
    let waiting = client(write).await;
    until("it waits", || doors.status()[0].waiting == 1).await;
    drop(waiting);
    until("nobody waits", || doors.status()[0].waiting == 0).await;
    assert_eq!(doors.status()[0].counts.refused, 0);
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_asked_again_unseen() {
    for words in [said(b'E', "FATAL", "57P03"), Vec::new()] {
        let a = server("n1", Manner::Refuse { words, times: 3 }).await;
        let (doors, write, _) = doors(limits());
        doors.update(&picture(1, &[("n1", a.address)]));
        let mut writer = client(write).await;
        assert_eq!(who(&mut writer).await, "n1");
        assert_eq!(a.came.load(Ordering::SeqCst), 4);
        assert_eq!(doors.status()[0].counts.repeated, 3);
    }
}

#[tokio::test]
async fn a_servers_own_refusal_is_passed_on() {
    for code in ["28P01", "28000", "3D000"] {
        let words = said(b'E', "FATAL", code);
        let a = server("n1", Manner::Refuse { words, times: 100 }).await;
        let (doors, write, _) = doors(limits());
        doors.update(&picture(1, &[("n1", a.address)]));
        let mut writer = client(write).await;
        assert_eq!(refused(&mut writer).await.0, code);
        assert_eq!(a.came.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_place_that_does_not_answer_is_left_for_another() {
    let b = server("n2", Manner::Echo).await;
    let nobody = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let (doors, _, read) = doors(limits());
    doors.update(&picture(1, &[("n1", nobody), ("a", nobody), ("n2", b.address)]));
    let mut reader = client(read).await;
    assert_eq!(who(&mut reader).await, "n2");
}
