//! Messages between the nodes of a group.

use howdah_consensus::fuzzing::{MESSAGES, Step, message, step};
use howdah_rpc::raft::{Answer, Envelope, HelloRequest, HelloResponse, JoinRequest, JoinResponse};
use prost::Message;

use crate::parts;

/// A message is encoded to what decodes to it, and so is its payload; a node founds a group only when all of its
/// partners answered that they have none. The input: a byte that says which payload, and an envelope; with further
/// parts, the words of partners, the first of them this node's own.
pub fn raft_message(bytes: &[u8]) -> bool {
    let Some((number, bytes)) = bytes.split_first() else { return false };
    let parts = parts(bytes, 5);
    let mut taken = false;
    if let Some(envelope) = again::<Envelope>(parts[0]) {
        taken |= payload(usize::from(*number), &envelope.payload);
    }
    if let Some(answer) = again::<Answer>(parts[0]) {
        taken |= payload(usize::from(*number), &answer.payload);
    }
    taken |= payload(usize::from(*number), parts[0]);
    again::<HelloRequest>(parts[0]);
    again::<JoinRequest>(parts[0]);
    again::<JoinResponse>(parts[0]);
    let words: Vec<Option<HelloResponse>> = parts[1..].iter().map(|part| again(part)).collect();
    if let [Some(me), answers @ ..] = &words[..] {
        founds(me, answers);
        taken = true;
    }
    taken
}

fn again<T: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let message = T::decode(bytes).ok()?;
    assert_eq!(T::decode(&*message.encode_to_vec()).as_ref(), Ok(&message));
    Some(message)
}

fn payload(number: usize, bytes: &[u8]) -> bool {
    match message(number, bytes) {
        Ok(encoded) => {
            let again = message(number, &encoded);
            assert_eq!(again.as_ref(), Ok(&encoded), "message {}", number % MESSAGES);
            assert!(encoded.len() <= bytes.len(), "{} bytes became {}", bytes.len(), encoded.len());
            true
        }
        Err(why) => {
            assert!(!why.is_empty());
            false
        }
    }
}

fn founds(me: &HelloResponse, answers: &[Option<HelloResponse>]) {
    let taken = step(me, answers);
    // A partner address may lead back here.
    let others: Vec<_> = answers
        .iter()
        .filter(|answer| answer.as_ref().is_none_or(|answer| answer.node_id != me.node_id))
        .collect();
    let ours = |answer: &&HelloResponse| answer.scope == me.scope;
    let has_group = |answer: &HelloResponse| {
        answer.cluster_id != 0 && !answer.founding && answer.scope == me.scope
    };
    let quiet = others.iter().all(|answer| {
        answer.as_ref().filter(ours).is_some_and(|answer| !has_group(answer) && !answer.founding)
    });
    if matches!(taken, Step::Founds | Step::Claims) {
        assert!(quiet, "{taken:?} though {others:?}");
        assert_eq!(taken == Step::Founds, me.founding);
    }
    let group = others.iter().any(|answer| answer.as_ref().is_some_and(has_group));
    assert_eq!(taken == Step::Joins, group);
    assert!(taken != Step::Drops || me.founding);
}
