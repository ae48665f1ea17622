//! Certificates of a test's cluster: a CA of its own, an administrator's, and each member's.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use howdah_locks::authority::{CA_CERT, CA_LIFETIME, LIFETIME};
use howdah_locks::look::in_file;
use howdah_locks::{Authority, Identity, Keyring, Paths, Role, Wanted};
use howdah_rpc::access::Access;

/// The cluster's name.
pub const SCOPE: &str = "test";

/// Where a holder's files are.
pub fn paths(dir: &Path) -> Paths {
    Paths::in_dir(dir)
}

/// The CA below a test's directory; made where it is not there.
///
/// # Errors
/// If files cannot be read or written.
pub fn authority(ground: &Path) -> Result<Authority> {
    let dir = ground.join("pki");
    Ok(match dir.join(CA_CERT).exists() {
        true => Authority::load(&dir)?,
        false => Authority::create(&dir, SCOPE, CA_LIFETIME)?,
    })
}

/// Issues a certificate into `dir`, for `owner` to read.
///
/// # Errors
/// If files cannot be written.
pub fn issue(
    ca: &Authority,
    role: Role,
    name: &str,
    hosts: &[&str],
    dir: &Path,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    issue_for(ca, role, name, hosts, dir, owner, LIFETIME)
}

/// The same for as long as is said.
///
/// # Errors
/// As [`issue`].
pub fn issue_for(
    ca: &Authority,
    role: Role,
    name: &str,
    hosts: &[&str],
    dir: &Path,
    owner: Option<(u32, u32)>,
    lifetime: Duration,
) -> Result<()> {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    let identity = Identity::new(SCOPE, role, name)?;
    ca.issue_into(&Wanted { identity, hosts, lifetime }, &paths(dir))?;
    if let Some((uid, gid)) = owner {
        let Paths { ca, cert, key } = paths(dir);
        for path in [dir, &ca, &cert, &key] {
            chown(path, Some(uid), Some(gid))?;
        }
    }
    Ok(())
}

/// Whether the certificate there is good for this host.
pub fn covers(dir: &Path, host: &str) -> bool {
    in_file(&paths(dir).cert).is_ok_and(|looks| looks[0].covers(host))
}

/// Directory of the administrator's certificate.
pub fn admin(ground: &Path) -> PathBuf {
    ground.join("admin")
}

/// What an administrator shows.
///
/// # Errors
/// If its files cannot be read or written.
pub fn access(ground: &Path) -> Result<Access> {
    let dir = admin(ground);
    if !dir.exists() {
        issue(&authority(ground)?, Role::Admin, "tester", &[], &dir, None)?;
    }
    Ok(Access::Locked(Keyring::load(paths(&dir), Some(SCOPE))?))
}
