//! What guard and agent say to each other, and what the guard's lease makes of it.

use std::time::Duration;

use howdah_core::{BootInstant, Epoch};
use howdah_guard::clock::Reading;
use howdah_guard::fuzzing::request;
use howdah_guard::lease::Lease;
use howdah_guard::wire::{Armed, Frames, FromAgent, FromGuard, Request, encode};

/// Messages are the same however they are cut, and read as they were written; a request that is not known keeps its
/// number; authority is exactly the armed epoch before its deadline, which comes no earlier unasked and is not
/// extended once it passed. The input: messages as JSON, one a line; or a byte that cuts a raw stream into pieces, and
/// that stream.
pub fn guard_wire(bytes: &[u8]) -> bool {
    if bytes.first() != Some(&b'{') {
        let Some((piece, stream)) = bytes.split_first() else { return false };
        let whole = bodies(stream, stream.len().max(1));
        assert_eq!(bodies(stream, 1 + usize::from(*piece)), whole);
        return whole.0.iter().filter(|body| spoken(body)).count() > 0;
    }
    let mut requests = Vec::new();
    let mut taken = false;
    for line in bytes.split(|byte| *byte == b'\n') {
        taken |= spoken(line);
        let Ok(value) = serde_json::from_slice(line) else { continue };
        match request(&value) {
            Ok((id, Ok(request))) => {
                let message = FromAgent { id, request };
                assert_eq!(through(&message), message);
                requests.push(message);
            }
            Ok((id, Err(why))) => {
                assert!(!why.is_empty() && value["id"].as_u64() == Some(id));
            }
            Err(why) => assert!(!why.is_empty()),
        }
    }
    keeps_lease(&requests);
    taken || !requests.is_empty()
}

/// Whether it is a message of the guard, which then is the same when it is written and read.
fn spoken(body: &[u8]) -> bool {
    let Ok(message) = serde_json::from_slice::<FromGuard>(body) else { return false };
    assert_eq!(through(&message), message);
    true
}

fn through<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) -> T {
    let mut frames = Frames::default();
    frames.push(&encode(message).expect("a message has a frame"));
    let read = frames.decode().expect("a frame is read").expect("a frame is whole");
    assert!(frames.next_body().is_ok_and(|more| more.is_none()), "bytes are left");
    read
}

/// The bodies of a stream that comes in pieces, and whether it broke.
fn bodies(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut frames, mut bodies) = (Frames::default(), Vec::new());
    for chunk in stream.chunks(piece) {
        frames.push(chunk);
        loop {
            match frames.next_body() {
                Ok(Some(body)) => bodies.push(body.to_vec()),
                Ok(None) => break,
                Err(_) => return (bodies, true),
            }
        }
    }
    (bodies, false)
}

/// What was ever agreed under one life.
#[derive(Default)]
struct Known {
    armed: Option<Armed>,
    expired: bool,
}

/// The numbers of requests are taken for the time that passes before them, in milliseconds.
fn keeps_lease(messages: &[FromAgent]) {
    let (mut lease, mut known) = (Lease::new(), Known::default());
    let mut now = Reading { boot: BootInstant(0), suspended: Duration::ZERO };
    for FromAgent { id, request } in messages {
        now.boot.0 = now.boot.0.saturating_add((id % 100_000) * 1_000_000);
        match request {
            Request::Arm { epoch, renewals, deadline, cut } => {
                let new = Armed { epoch: *epoch, renewals: *renewals, deadline: *deadline };
                if lease.arm(new, *cut, now).is_ok() {
                    armed(&known, new, *cut);
                    known.armed = Some(new);
                }
            }
            Request::Disarm { epoch, renewals } if lease.disarm(*epoch, *renewals, now).is_ok() => {
                assert!(!known.expired, "disarmed after the deadline");
                known.armed = None;
            }
            // A suspend of the machine, as long as a number says.
            Request::Signal { pid, .. } => {
                now.suspended += Duration::from_millis(u64::from(pid.unsigned_abs() % 1000));
            }
            Request::Status => {
                if let Some(lost) = lease.expire(now) {
                    assert!(!known.expired, "it is lost twice");
                    assert_eq!(Some(lost.epoch), known.armed.map(|armed| armed.epoch));
                    known = Known { armed: None, expired: true };
                }
            }
            Request::KillPostgres => {
                lease.begin_anew();
                known = Known::default();
            }
            _ => {}
        }
        assert_eq!(lease.armed(), known.armed);
        may(&lease, &known, now);
    }
}

fn armed(known: &Known, new: Armed, cut: bool) {
    assert!(!known.expired, "armed after the deadline");
    let Some(before) = known.armed else { return };
    assert!((new.epoch, new.renewals) >= (before.epoch, before.renewals), "something older counts");
    assert!(new.deadline >= before.deadline || cut, "the deadline comes earlier unasked");
}

fn may(lease: &Lease, known: &Known, now: Reading) {
    let Some(armed) = known.armed else {
        assert!(lease.authority(Default::default(), now).is_err());
        return;
    };
    if lease.authority(armed.epoch, now).is_ok() {
        assert!(now.boot < armed.deadline, "authority past the deadline");
    }
    let other = Epoch(armed.epoch.0 ^ 1);
    assert!(lease.authority(other, now).is_err(), "authority under another epoch");
}
