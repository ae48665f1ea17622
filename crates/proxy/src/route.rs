//! Where each door leads: from what a member knows to routes. Pure.
//!
//! Place: the agent draws the [`Picture`] whenever the log or a member's words change; the doors act
//! on the [`Routes`].
//! Invariants: [`Write::To`] names the holder of the applied record alone, and only when it admits
//! clients (rule S9) under that record's epoch; every [`Write::Wait`] says why.

use howdah_core::{BootInstant, Epoch, MemberName};

/// What the doors depend on, as one member knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// The holder of the applied leader record; none while nobody holds the lease.
    pub leader: Option<Leader>,
    /// Why there is no leader, for people.
    pub why_none: String,
    /// All members, by name.
    pub members: Vec<Place>,
    /// Whether reads may go to the primary.
    pub primary_reads: PrimaryReads,
    /// This member's zone; empty: none.
    pub zone: String,
}

/// The holder of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its name.
    pub name: MemberName,
    /// HOST:PORT of its PostgreSQL.
    pub address: String,
    /// Epoch of its record.
    pub epoch: Epoch,
    /// Until when it may be believed to hold the lease; none: for as long as the record says so, since
    /// maintenance mode is on.
    pub until: Option<BootInstant>,
    /// It admits clients.
    pub open: bool,
    /// Why it does not, for people; empty when it does.
    pub why_not: String,
    /// It is about to hand over.
    pub closing: bool,
    /// Members whose doors have sessions of an earlier primary still, after a hand-over.
    pub behind: Vec<MemberName>,
}

/// When a read may go to the primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrimaryReads {
    /// Never.
    #[default]
    Never,
    /// While no standby is fit.
    Fallback,
    /// As to any standby.
    Always,
}

/// One member as a place to go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: MemberName,
    /// HOST:PORT of its PostgreSQL.
    pub address: String,
    /// Its zone; empty: none.
    pub zone: String,
    /// It answers queries.
    pub serves: bool,
    /// Why reads do not go there; none: they may.
    pub unfit: Option<Unfit>,
}

/// Why a member gets no reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It leads.
    Leads,
    /// It is not heard, or its PostgreSQL does not admit clients.
    Down,
    /// It does not stream from the leader.
    NotStreaming,
    /// It lies further behind than `max_lag`.
    Behind,
    /// Its tag `noloadbalance`.
    Tagged,
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unfit::Leads => "leads",
            Unfit::Down => "does not answer",
            Unfit::NotStreaming => "does not stream",
            Unfit::Behind => "lies too far behind",
            Unfit::Tagged => "is tagged noloadbalance",
        })
    }
}

/// Where the doors lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// The door for writes.
    pub write: Write,
    /// Members for reads, those of the own zone first.
    pub read: Vec<Candidate>,
    /// Why `read` is empty; empty when it is not.
    pub why_no_read: String,
    /// Members that answer queries at all, those of the own zone first.
    pub any: Vec<Candidate>,
}

/// Where writes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// To this primary.
    To(Primary),
    /// Nowhere for now, because of this.
    Wait(String),
}

/// A primary, under its epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Its name.
    pub name: MemberName,
    /// HOST:PORT.
    pub address: String,
    /// Its epoch.
    pub epoch: Epoch,
}

/// A member that may be gone to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: MemberName,
    /// HOST:PORT.
    pub address: String,
    /// Its zone is the own one.
    pub near: bool,
}

/// Where each door leads.
pub fn routes(picture: &Picture) -> Routes {
    let primary = picture.leader.as_ref().map(|leader| &leader.name);
    let candidate = |place: &Place| Candidate {
        name: place.name.clone(),
        address: place.address.clone(),
        near: !picture.zone.is_empty() && place.zone == picture.zone,
    };
    let standbys = || picture.members.iter().filter(|place| place.unfit.is_none());
    let with_primary = match picture.primary_reads {
        PrimaryReads::Never => false,
        PrimaryReads::Fallback => standbys().next().is_none(),
        PrimaryReads::Always => true,
    };
    let open = picture.leader.as_ref().is_some_and(|leader| leader.open && !leader.closing);
    let leads = |place: &&Place| Some(&place.name) == primary;
    let mut read: Vec<Candidate> = standbys().map(candidate).collect();
    if with_primary && open {
        read.extend(picture.members.iter().filter(leads).map(candidate));
    }
    let mut any: Vec<Candidate> = picture
        .members
        .iter()
        .filter(|place| if leads(place) { open } else { place.serves })
        .map(candidate)
        .collect();
    for list in [&mut read, &mut any] {
        list.sort_by(|a, b| b.near.cmp(&a.near).then_with(|| a.name.cmp(&b.name)));
    }
    let why_no_read = if read.is_empty() { why_no_read(&picture.members) } else { String::new() };
    Routes { write: write(picture), read, why_no_read, any }
}

fn write(picture: &Picture) -> Write {
    let Some(leader) = &picture.leader else {
        return Write::Wait(picture.why_none.clone());
    };
    let name = &leader.name;
    if leader.closing {
        return Write::Wait(format!("{name} hands over"));
    }
    if !leader.open {
        return Write::Wait(leader.why_not.clone());
    }
    if let Some(first) = leader.behind.first() {
        return Write::Wait(format!("sessions of the primary before {name} are open at {first}"));
    }
    Write::To(Primary { name: name.clone(), address: leader.address.clone(), epoch: leader.epoch })
}

fn why_no_read(members: &[Place]) -> String {
    let told: Vec<String> = members
        .iter()
        .filter_map(|place| place.unfit.map(|why| format!("{} {why}", place.name)))
        .collect();
    if told.is_empty() { "the cluster has no members yet".into() } else { told.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, unfit: Option<Unfit>) -> Place {
        Place {
            name: name.into(),
            address: format!("{name}:5432"),
            zone: if name == "n3" { "b".into() } else { "a".into() },
            serves: unfit != Some(Unfit::Down),
            unfit,
        }
    }

    fn picture() -> Picture {
        Picture {
            leader: Some(Leader {
                name: "n1".into(),
                address: "n1:5432".into(),
                epoch: Epoch(4),
                until: Some(BootInstant(9)),
                open: true,
                why_not: String::new(),
                closing: false,
                behind: Vec::new(),
            }),
            why_none: String::new(),
            members: vec![place("n1", Some(Unfit::Leads)), place("n2", None), place("n3", None)],
            primary_reads: PrimaryReads::Never,
            zone: "b".into(),
        }
    }

    fn names(list: &[Candidate]) -> Vec<&str> {
        list.iter().map(|candidate| candidate.name.as_str()).collect()
    }

    #[test]
    fn writes_go_to_an_open_leader_and_reads_to_the_near_standby_first() {
        let routes = routes(&picture());
        let Write::To(primary) = &routes.write else { panic!("{routes:?}") };
        assert_eq!((primary.address.as_str(), primary.epoch), ("n1:5432", Epoch(4)));
        assert_eq!(names(&routes.read), ["n3", "n2"]);
        assert_eq!(names(&routes.any), ["n3", "n1", "n2"]);
    }

    #[test]
    fn writes_wait_with_a_reason_while_nobody_may_have_them() {
        let waits = |change: &dyn Fn(&mut Picture)| {
            let mut picture = picture();
            change(&mut picture);
            match routes(&picture).write {
                Write::Wait(why) => why,
                Write::To(primary) => panic!("leads to {primary:?}"),
            }
        };
        fn leader(picture: &mut Picture) -> &mut Leader {
            picture.leader.as_mut().unwrap()
        }
        assert_eq!(waits(&|p| leader(p).closing = true), "n1 hands over");
        assert_eq!(
            waits(&|p| leader(p).behind = vec!["n3".into()]),
            "sessions of the primary before n1 are open at n3"
        );
        let closed = waits(&|p| {
            leader(p).open = false;
            leader(p).why_not = "n1, the leader: promotes".into();
        });
        assert_eq!(closed, "n1, the leader: promotes");
        let none = waits(&|p| {
            p.leader = None;
            p.why_none = "an election is open for epoch 5".into();
        });
        assert_eq!(none, "an election is open for epoch 5");
    }

    #[test]
    fn the_primary_gets_reads_only_as_configured_and_only_while_it_is_open() {
        let mut picture = picture();
        picture.primary_reads = PrimaryReads::Always;
        assert_eq!(names(&routes(&picture).read), ["n3", "n1", "n2"]);
        picture.primary_reads = PrimaryReads::Fallback;
        assert_eq!(names(&routes(&picture).read), ["n3", "n2"]);
        for place in &mut picture.members[1..] {
            place.unfit = Some(Unfit::Behind);
        }
        assert_eq!(names(&routes(&picture).read), ["n1"]);
        picture.leader.as_mut().unwrap().closing = true;
        let none = routes(&picture);
        assert_eq!(names(&none.read), [""; 0]);
        let why = "n1 leads, n2 lies too far behind, n3 lies too far behind";
        assert_eq!(none.why_no_read, why);
        // Whoever wants any member gets one that lies behind, too.
        assert_eq!(names(&none.any), ["n3", "n2"]);
    }
}
