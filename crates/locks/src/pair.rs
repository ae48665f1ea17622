//! A certificate and its key in their two files, changed as one.
//!
//! Written by whoever issues ([`crate::Authority::issue_into`]), read by every keyring. Two files cannot be renamed at
//! once, and a key that lies beside another's certificate opens nothing: so the new pair lies there whole, as
//! `tls.key.next` and `tls.crt.next`, before the key takes its place and then the certificate.
//! State: files only. Killed half way: until the key is renamed the old pair stands; from then on the certificate that
//! belongs to it lies beside, where whoever reads finds it, and finishes the change if it may write there.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::authority::Issued;
use crate::files::{self, FileError};
use crate::keyring::Paths;

/// What is done one after the other; between any two the power may fail.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The new key is written beside the old one.
    Key,
    /// The new certificate.
    Cert,
    /// The key takes its place.
    SwapKey,
    /// The certificate.
    SwapCert,
}

const STEPS: [Step; 4] = [Step::Key, Step::Cert, Step::SwapKey, Step::SwapCert];

/// Where a successor lies.
fn next(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".next");
    name.into()
}

/// Puts a new pair in the place of the old one.
pub(crate) fn write(paths: &Paths, new: &Issued) -> Result<(), FileError> {
    if paths.key == paths.cert {
        // One file changes as one.
        return files::write(&paths.key, &format!("{}{}", new.cert, new.key), 0o600);
    }
    // What an earlier one left undone is finished first: its certificate lies where this one's is to lie.
    let _ = read(paths);
    for step in STEPS {
        if let Err(why) = take(step, paths, new) {
            // From the renaming of the key on, what lies beside is needed.
            if !matches!(step, Step::SwapCert) {
                for path in [&paths.key, &paths.cert] {
                    let _ = fs::remove_file(next(path));
                }
            }
            return Err(why);
        }
    }
    Ok(())
}

fn take(step: Step, paths: &Paths, new: &Issued) -> Result<(), FileError> {
    match step {
        Step::Key => lay(&paths.key, &new.key, true),
        Step::Cert => lay(&paths.cert, &new.cert, false),
        Step::SwapKey => swap(&paths.key),
        Step::SwapCert => match swap(&paths.cert) {
            // A reader was quicker.
            Err(_) if files::read(&paths.cert).is_ok_and(|text| text == new.cert) => Ok(()),
            swapped => swapped,
        },
    }
}

/// Writes a successor beside a file, for the same people to read: who renews as root is not who uses it.
fn lay(path: &Path, text: &str, secret: bool) -> Result<(), FileError> {
    let fresh = next(path);
    let laid = || -> io::Result<()> {
        let file = files::write_synced(&fresh, text, 0o600)?;
        let like = fs::metadata(path).ok();
        let like = like.filter(|old| fchown(&file, Some(old.uid()), Some(old.gid())).is_ok());
        let mode = match like {
            _ if !secret => 0o644,
            Some(old) if files::is_closed(old.mode()) => old.mode() & 0o777,
            _ => 0o600,
        };
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    };
    laid().map_err(files::io("write", &fresh))?;
    files::sync_parent(path)
}

fn swap(path: &Path) -> Result<(), FileError> {
    fs::rename(next(path), path).map_err(files::io("replace", path))?;
    // Before the next step, lest a power failure keeps that one alone.
    files::sync_parent(path)
}

/// The certificate and its key, as they lie there.
pub(crate) fn read(paths: &Paths) -> Result<(String, String), FileError> {
    let key = files::read_key(&paths.key)?;
    let (cert, beside) = (files::read(&paths.cert), next(&paths.cert));
    if !beside.exists() || cert.as_ref().is_ok_and(|cert| fit(cert, &key)) {
        return Ok((cert?, key));
    }
    match files::read(&beside) {
        Ok(fresh) if fit(&fresh, &key) => {
            // Whoever may not write here goes on with what it read.
            let _ = swap(&paths.cert);
            Ok((fresh, key))
        }
        _ => Ok((cert?, key)),
    }
}

/// Whether this is the key of that certificate.
fn fit(cert: &str, key: &str) -> bool {
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let (Ok(chain), Ok(key)) = (chain, key) else { return false };
    let provider = rustls::crypto::ring::default_provider();
    !chain.is_empty() && CertifiedKey::from_der(chain, key, &provider).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{CA_LIFETIME, LIFETIME, Wanted};
    use crate::{Authority, Identity, Keyring, Role};

    struct Bench {
        dir: tempfile::TempDir,
        ca: Authority,
        paths: Paths,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(&dir.path().join("pki"), "demo", CA_LIFETIME).unwrap();
        let paths = Paths::in_dir(&dir.path().join("n1"));
        let bench = Bench { dir, ca, paths };
        bench.ca.issue_into(&bench.wanted(), &bench.paths).unwrap();
        bench
    }

    impl Bench {
        fn wanted(&self) -> Wanted {
            let identity = Identity::new("demo", Role::Member, "n1").unwrap();
            Wanted { identity, hosts: Vec::new(), lifetime: LIFETIME }
        }

        fn issued(&self) -> Issued {
            self.ca.issue(&self.wanted()).unwrap()
        }

        fn files(&self) -> usize {
            fs::read_dir(self.dir.path().join("n1")).unwrap().count()
        }

        /// As an agent's start: a keyring that fits; which certificate it has.
        fn cert(&self) -> String {
            Keyring::load(self.paths.clone(), Some("demo")).unwrap();
            read(&self.paths).unwrap().0
        }
    }

    #[test]
    fn wherever_it_stops_an_agent_starts_and_the_next_one_comes_to_its_end() {
        for stop in 0..=STEPS.len() {
            // Also in the middle of writing what lies beside.
            for torn in [None, Some(0), Some(40), Some(400)] {
                let bench = bench();
                let (old, new) = (bench.cert(), bench.issued());
                for step in &STEPS[..stop] {
                    take(*step, &bench.paths, &new).unwrap();
                }
                if let (Some(length), Some(Step::Key | Step::Cert)) = (torn, STEPS.get(stop)) {
                    let path = if stop == 0 { &bench.paths.key } else { &bench.paths.cert };
                    let text = if stop == 0 { &new.key } else { &new.cert };
                    fs::write(next(path), &text[..length.min(text.len() / 2)]).unwrap();
                }
                let expected = if stop < 3 { &old } else { &new.cert };
                assert_eq!(bench.cert(), *expected, "after {stop} steps, torn at {torn:?}");
                let another = bench.issued();
                write(&bench.paths, &another).unwrap();
                assert_eq!(bench.cert(), another.cert, "after {stop} steps, torn at {torn:?}");
                assert_eq!(bench.files(), 3, "something is left");
            }
        }
    }

    #[test]
    fn a_second_change_on_top_of_a_broken_one_may_break_as_well() {
        for first in 0..STEPS.len() {
            for second in 0..STEPS.len() {
                let bench = bench();
                let (one, two) = (bench.issued(), bench.issued());
                for step in &STEPS[..first] {
                    take(*step, &bench.paths, &one).unwrap();
                }
                let _ = read(&bench.paths);
                for step in &STEPS[..second] {
                    take(*step, &bench.paths, &two).unwrap();
                }
                bench.cert();
            }
        }
    }

    #[test]
    fn a_first_pair_is_whole_from_its_key_on() {
        let bench = bench();
        fs::remove_file(&bench.paths.key).unwrap();
        fs::remove_file(&bench.paths.cert).unwrap();
        let new = bench.issued();
        for step in &STEPS[..3] {
            take(*step, &bench.paths, &new).unwrap();
        }
        assert_eq!(bench.cert(), new.cert);
    }

    #[test]
    fn what_a_person_left_half_done_is_not_completed_by_something_else() {
        let bench = bench();
        let (theirs, other) = (bench.issued(), bench.issued());
        fs::write(next(&bench.paths.cert), &other.cert).unwrap();
        fs::write(&bench.paths.key, &theirs.key).unwrap();
        let why = Keyring::load(bench.paths.clone(), None).unwrap_err().to_string();
        assert!(why.contains("not the key of the certificate"), "{why}");
    }

    #[test]
    fn who_may_not_write_goes_on_with_what_lies_beside() {
        let bench = bench();
        let new = bench.issued();
        for step in &STEPS[..3] {
            take(*step, &bench.paths, &new).unwrap();
        }
        // A directory of that name cannot be replaced, also not by root.
        fs::remove_file(&bench.paths.cert).unwrap();
        fs::create_dir(&bench.paths.cert).unwrap();
        assert_eq!(read(&bench.paths).unwrap().0, new.cert);
        assert!(next(&bench.paths.cert).exists());
    }

    #[test]
    fn modes_stay_as_somebody_chose_them_and_a_failure_leaves_nothing() {
        let bench = bench();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let choose = |bits| fs::set_permissions(&bench.paths.key, Permissions::from_mode(bits));
        for (had, has) in [(0o640, 0o640), (0o400, 0o400), (0o644, 0o600), (0o600, 0o600)] {
            choose(had).unwrap();
            write(&bench.paths, &bench.issued()).unwrap();
            assert_eq!((mode(&bench.paths.key), mode(&bench.paths.cert)), (has, 0o644));
        }
        let old = bench.cert();
        fs::create_dir(next(&bench.paths.cert)).unwrap();
        assert!(write(&bench.paths, &bench.issued()).is_err());
        fs::remove_dir(next(&bench.paths.cert)).unwrap();
        assert_eq!((bench.cert(), bench.files()), (old, 3));
    }

    #[test]
    fn one_file_for_both_stays_one() {
        let bench = bench();
        let both = bench.dir.path().join("both.pem");
        let paths = Paths { cert: both.clone(), key: both, ca: bench.paths.ca.clone() };
        bench.ca.issue_into(&bench.wanted(), &paths).unwrap();
        Keyring::load(paths, Some("demo")).unwrap();
    }
}
