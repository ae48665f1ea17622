//! A member that renews its own certificate: it has the key of a CA that the cluster believes.
//!
//! Called by the agent, at its start and while it runs; `howdah config check` asks whether it could. State: files only.
//! Killed half way: as in [`crate::pair`], the old pair or the new one stands.

use std::path::PathBuf;
use std::time::Duration;

use crate::authority::{Authority, AuthorityError, BEFORE, Wanted};
use crate::identity::NotAnIdentity;
use crate::keyring::Paths;
use crate::look::Look;

/// A shorter life would be nearly over when its certificate is in place.
const SHORTEST: Duration = Duration::from_secs(24 * 3600);

/// What renews a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Its files, and whom the member believes.
    pub paths: Paths,
    /// The key of one of these CAs.
    pub ca_key: PathBuf,
}

impl Renewal {
    /// The CA that it is renewed by.
    ///
    /// # Errors
    /// If the key is none, is open to others, or belongs to no CA in `paths.ca`.
    pub fn authority(&self) -> Result<Authority, AuthorityError> {
        Authority::of(&self.paths.ca, &self.ca_key)
    }

    /// Puts a new certificate in the place of this one, which lies there.
    ///
    /// # Errors
    /// What was in its way; the old one stays.
    pub fn renew(&self, old: &Look) -> Result<(), AuthorityError> {
        self.authority()?.issue_into(&wanted(old)?, &self.paths)
    }
}

/// The same holder and hosts, for as long as the old one was made for; a day at least. Pure.
fn wanted(old: &Look) -> Result<Wanted, NotAnIdentity> {
    let lifetime = old.lifetime().saturating_sub(BEFORE).max(SHORTEST);
    Ok(Wanted { identity: old.identity.clone()?, hosts: old.hosts.clone(), lifetime })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{CA_LIFETIME, LIFETIME};
    use crate::look::{in_file, today};
    use crate::{Identity, Keyring, KeyringError, Role, files};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn issued(lifetime: Duration) -> (tempfile::TempDir, Renewal) {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(&dir.path().join("pki"), "demo", CA_LIFETIME).unwrap();
        let identity = Identity::new("demo", Role::Member, "n1").unwrap();
        let hosts = vec!["10.0.0.1".to_owned(), "n1.example.org".to_owned()];
        let paths = Paths::in_dir(&dir.path().join("n1"));
        ca.issue_into(&Wanted { identity, hosts, lifetime }, &paths).unwrap();
        let ca_key = dir.path().join("pki/ca.key");
        (dir, Renewal { paths, ca_key })
    }

    fn look(renewal: &Renewal) -> Look {
        in_file(&renewal.paths.cert).unwrap().swap_remove(0)
    }

    #[test]
    fn the_new_one_is_the_same_holders_for_the_same_hosts_and_time() {
        for lifetime in [LIFETIME, 30 * DAY, DAY] {
            let (_dir, renewal) = issued(lifetime);
            let old = look(&renewal);
            for _ in 0..3 {
                renewal.renew(&look(&renewal)).unwrap();
            }
            let new = look(&renewal);
            assert_eq!((&new.identity, &new.hosts), (&old.identity, &old.hosts));
            assert_eq!(new.lifetime(), old.lifetime(), "it must not grow, nor shrink");
        }
    }

    #[test]
    fn one_that_has_ended_is_good_again_and_not_due_at_once() {
        let (_dir, renewal) = issued(Duration::ZERO);
        let loaded = || Keyring::load(renewal.paths.clone(), Some("demo"));
        assert!(matches!(loaded(), Err(KeyringError::Expired { .. })));
        renewal.renew(&look(&renewal)).unwrap();
        loaded().unwrap();
        assert!(!look(&renewal).is_due(today()));
    }

    #[test]
    fn another_cas_key_or_an_open_one_renews_nothing() {
        let (dir, renewal) = issued(LIFETIME);
        let before = std::fs::read(&renewal.paths.cert).unwrap();
        let told = |renewal: &Renewal| renewal.renew(&look(renewal)).err().unwrap().to_string();
        Authority::create(&dir.path().join("other"), "demo", CA_LIFETIME).unwrap();
        let other = Renewal { ca_key: dir.path().join("other/ca.key"), ..renewal.clone() };
        assert!(told(&other).contains("is not its key"), "{}", told(&other));
        let gone = Renewal { ca_key: dir.path().join("gone.key"), ..renewal.clone() };
        assert!(told(&gone).contains("gone.key"), "{}", told(&gone));
        let text = files::read_key(&renewal.ca_key).unwrap();
        files::write(&renewal.ca_key, &text, 0o644).unwrap();
        assert!(told(&renewal).contains("open to others"), "{}", told(&renewal));
        assert_eq!(std::fs::read(&renewal.paths.cert).unwrap(), before);
    }
}
