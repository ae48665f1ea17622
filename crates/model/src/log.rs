//! The replicated log as the model sees it: the state after its last entry, with a fingerprint.
//!
//! What is for people alone (events, changes of leader) is left out, so that states that behave alike are
//! one. Entries are applied by the production code; since the same entry on the same state gives the same
//! state (I12), it is applied once and remembered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use howdah_core::{ClusterState, Command, Outcome};
use howdah_testkit::invariant;

use crate::invariant::Broken;

/// A state of the log, compared by its fingerprint.
#[derive(Debug)]
pub struct Logged {
    /// The state, without what is for people.
    pub state: ClusterState,
    print: u64,
}

impl PartialEq for Logged {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Eq for Logged {}

impl Hash for Logged {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.print.hash(hasher);
    }
}

/// What committing a command came to.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The state after it.
    pub after: Arc<Logged>,
    /// It changed the state as asked.
    pub applied: bool,
    /// What it broke.
    pub wrong: Option<Broken>,
}

fn print_of(value: &impl serde::Serialize) -> (Vec<u8>, u64) {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    (bytes, hasher.finish())
}

impl Logged {
    /// The state, without what is for people.
    pub fn new(mut state: ClusterState) -> Arc<Self> {
        state.events.clear();
        state.changes.clear();
        let (_, print) = print_of(&state);
        Arc::new(Self { state, print })
    }

    /// Commits one command.
    pub fn commit(self: &Arc<Self>, command: &Command) -> Committed {
        thread_local! {
            static KNOWN: RefCell<HashMap<(u64, u64), Committed>> = RefCell::default();
        }
        let (_, asked) = print_of(command);
        let key = (self.print, asked);
        if let Some(known) = KNOWN.with_borrow(|known| known.get(&key).cloned()) {
            return known;
        }
        let committed = self.apply(command);
        KNOWN.with_borrow_mut(|known| known.insert(key, committed.clone()));
        committed
    }

    fn apply(self: &Arc<Self>, command: &Command) -> Committed {
        let mut after = self.state.clone();
        let applied = after.apply(1, command.clone()) == Outcome::Applied;
        let wrong = self.wrong(command, &after);
        let after = Logged::new(after);
        Committed { after: if after == *self { self.clone() } else { after }, applied, wrong }
    }

    fn wrong(&self, command: &Command, after: &ClusterState) -> Option<Broken> {
        if !invariant::violations(&self.state, after).is_empty() {
            return Some(Broken::EpochUnique);
        }
        let mut twice = after.clone();
        twice.apply(2, command.clone());
        if let (Some(twice), Some(once)) = (&mut twice.leader, &after.leader)
            && matches!(command, Command::Renew { .. })
        {
            // Of a renewal each copy counts, and gives nobody more time: that belongs to its nonce.
            twice.renewals = once.renewals;
        }
        if Logged::new(twice) != Logged::new(after.clone()) {
            return Some(Broken::Idempotence);
        }
        // As a member would that got the state as a snapshot.
        let (bytes, _) = print_of(&self.state);
        let copy: Option<ClusterState> = serde_json::from_slice(&bytes).ok();
        let same = copy.map(|mut copy| {
            copy.apply(1, command.clone());
            Logged::new(copy)
        });
        let differs = same.is_none_or(|same| *same != *Logged::new(after.clone()));
        differs.then_some(Broken::Determinism)
    }
}
