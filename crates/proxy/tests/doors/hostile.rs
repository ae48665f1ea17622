//! What comes that is no client, or a bad one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use howdah_proxy::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fake::*;

#[tokio::test]
async fn garbage_is_told_so_and_reaches_no_server() {
    let a = server("n1", Manner::Echo).await;
    let (doors, write, _) = doors(limits());
    doors.update(&picture(1, &[("n1", a.address)]));
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[0, 0, 0, 1, 0, 0, 0, 0]] {
        let mut stream = TcpStream::connect(write).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        assert_eq!(refused(&mut stream).await.0, "08P01");
    }
    // One that only looks whether the port is open costs no server anything.
    drop(TcpStream::connect(write).await.unwrap());
    until("all have gone", || doors.status()[0].connections == 0).await;
    assert_eq!(a.came.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_server_and_not_the_others() {
    let a = server("n1", Manner::Talk).await;
    let (doors, write, _) = doors(limits());
    doors.update(&picture(1, &[("n1", a.address)]));
    let _slow = client(write).await;
    // As much as the kernel's buffers and one chunk take; then nothing more.
    let mut before = usize::MAX;
    let mut same = 0;
    until("the server is stopped", || {
        let now = a.written.load(Ordering::SeqCst);
        same = if now == before { same + 1 } else { 0 };
        before = now;
        now > 0 && same > 40
    })
    .await;
    assert!(before < 32 << 20, "{before} bytes lie somewhere");
    let mut quick = client(write).await;
    assert!(hear(&mut quick, 1_000_000).await.len() >= 1_000_000);
}

#[tokio::test]
async fn a_request_to_cancel_reaches_the_server_as_it_is() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (doors, write, _) = doors(limits());
    doors.update(&picture(1, &[("n1", listener.local_addr().unwrap())]));
    for key in [4, 32] {
        let mut request = (12 + key as u32).to_be_bytes().to_vec();
        request.extend(80_877_102u32.to_be_bytes());
        request.extend(vec![9; 4 + key]);
        let mut asker = TcpStream::connect(write).await.unwrap();
        asker.write_all(&request).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        assert_eq!(hear(&mut server, request.len()).await, request);
        drop(server);
        assert_eq!(hear(&mut asker, 1).await, b"");
    }
    assert_eq!(doors.status()[0].counts.cancels, 2);
}

#[tokio::test]
async fn a_proxy_header_is_asked_for_and_passed_on_as_configured() {
    let limits = Limits { accept_proxy_protocol: true, send_proxy_protocol: true, ..limits() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (doors, write, _) = doors(limits);
    doors.update(&picture(1, &[("n1", listener.local_addr().unwrap())]));
    let mut without = client(write).await;
    assert_eq!(hear(&mut without, 1).await, b"");
    let mut with = TcpStream::connect(write).await.unwrap();
    with.write_all(b"PROXY TCP4 10.0.0.7 10.0.0.1 40000 5000\r\n").await.unwrap();
    with.write_all(&startup()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let heard = hear(&mut server, 28 + 17).await;
    assert_eq!(&heard[..12], b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(&heard[16..20], [10, 0, 0, 7]);
    assert_eq!(&heard[28..], startup());
}

#[tokio::test]
async fn thousands_of_connections_leave_nothing_behind() {
    let a = server("n1", Manner::Echo).await;
    let (doors, write, _) = doors(limits());
    doors.update(&picture(1, &[("n1", a.address)]));
    let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open_files();
    let count: usize = std::env::var("SOAK").map_or(3000, |count| count.parse().unwrap());
    for number in 0..count {
        let mut stream = client(write).await;
        match number % 4 {
            // Goes without a word.
            0 => drop(stream),
            // Is served, and goes.
            1 => assert_eq!(who(&mut stream).await, "n1"),
            // Resets.
            2 => {
                let socket = socket2::SockRef::from(&stream);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
            }
            // The primary changes.
            _ => {
                if number % 100 == 3 {
                    doors.update(&picture(number as u64, &[("n1", a.address)]));
                }
            }
        }
    }
    until("all have gone", || doors.status()[0].connections == 0).await;
    until("no descriptor is left", || open_files() <= before + 5).await;
    assert_eq!(doors.status()[0].counts.accepted, count as u64);
    assert_eq!((doors.status()[0].sessions, doors.has_old_sessions()), (0, false));
}
