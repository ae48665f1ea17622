//! How many at once, and of one address how many: a flood from one place does not keep others out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Where an address counts: whoever has one of IPv6's has all 2^64 beside it.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        address => address,
    }
}

/// Those that are there, by address.
pub(crate) struct Crowd {
    places: Mutex<HashMap<IpAddr, usize>>,
    all: usize,
    each: usize,
}

/// One of them, until dropped.
pub(crate) struct Place(Arc<Crowd>, IpAddr);

impl Crowd {
    /// So many at most, and so many of one address.
    pub(crate) fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { places: Mutex::default(), all, each })
    }

    /// A place, if there is one.
    pub(crate) fn enter(crowd: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let from = network(from);
        let mut places = crowd.places.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = places.values().sum();
        let own = places.get(&from).copied().unwrap_or_default();
        if all >= crowd.all || own >= crowd.each {
            return None;
        }
        places.insert(from, own + 1);
        Some(Place(crowd.clone(), from))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = places.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                places.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv6_counts_as_its_network() {
        let (a, b): (IpAddr, IpAddr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        assert_eq!(network(a), network(b));
        assert_ne!(network(a), network("fd00:0:0:1::1".parse().unwrap()));
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(network(mapped), IpAddr::from([10, 0, 0, 1]));
    }

    #[test]
    fn one_address_does_not_take_all_places_and_gives_them_back() {
        let crowd = Crowd::new(3, 2);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let held = [Crowd::enter(&crowd, a), Crowd::enter(&crowd, a)];
        assert!(held.iter().all(Option::is_some) && Crowd::enter(&crowd, a).is_none());
        let other = Crowd::enter(&crowd, b);
        assert!(other.is_some() && Crowd::enter(&crowd, b).is_none(), "three in all");
        drop(held);
        assert!(Crowd::enter(&crowd, a).is_some());
        drop(other);
        assert!(crowd.places.lock().unwrap().is_empty(), "an address is kept");
    }
}
