//! Paths, users, ports and patience.

use std::fs::{self, File};
use std::future::Future;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// First port that tests use; all lie below the ephemeral range.
const FIRST_PORT: u16 = 20_000;
/// One past the last.
const LAST_PORT: u16 = 24_000;
/// One for the machine, so that runs with different roots do not meet.
const PORTS: &str = "/var/tmp/howdah-test.ports";
/// Ports that one cluster takes.
pub const BLOCK: u16 = 64;

/// Where tests live.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Directory of this test.
    pub dir: PathBuf,
    /// The binary under test.
    pub howdah: PathBuf,
    /// PostgreSQL's programs.
    pub bin_dir: PathBuf,
    /// First port of this test's block.
    pub port: u16,
    /// The OS user that PostgreSQL runs as, if the tests run as root.
    pub user: Option<(u32, u32)>,
}

impl Ground {
    /// A fresh directory and a block of ports.
    ///
    /// # Errors
    /// If something that a test stands on is missing; says what.
    pub fn new(test: &str) -> Result<Self> {
        let root = std::env::var_os("HOWDAH_TEST_ROOT");
        let root = root.map_or_else(|| PathBuf::from("/var/tmp/howdah-test"), PathBuf::from);
        fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
        let port = next_block(Path::new(PORTS))?;
        let dir = root.join(format!("{test}-{port}"));
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let user = if nix::unistd::geteuid().is_root() {
            let user =
                nix::unistd::User::from_name("postgres")?.context("there is no user postgres")?;
            nix::unistd::chown(&dir, Some(user.uid), Some(user.gid))?;
            Some((user.uid.as_raw(), user.gid.as_raw()))
        } else {
            None
        };
        Ok(Self { dir, howdah: binary(&root)?, bin_dir: postgres_bin()?, port, user })
    }
}

/// The binary, where user postgres may run it.
fn binary(root: &Path) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HOWDAH_TEST_BINARY") {
        return Ok(path.into());
    }
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/howdah");
    if !built.exists() {
        bail!("{} is not built; run `make build`", built.display());
    }
    let copy = root.join("howdah");
    let newer = |a: &Path, b: &Path| -> Result<bool> {
        Ok(!b.exists() || fs::metadata(a)?.modified()? > fs::metadata(b)?.modified()?)
    };
    if newer(&built, &copy)? {
        let fresh = root.join(format!("howdah.{}", std::process::id()));
        fs::copy(&built, &fresh)?;
        fs::rename(&fresh, &copy)?;
    }
    Ok(copy)
}

/// Programs of the PostgreSQL under test: `HOWDAH_TEST_PG_BIN`, which tools/with-test-root sets, else
/// Debian's 15.
///
/// # Errors
/// If there are none.
pub fn postgres_bin() -> Result<PathBuf> {
    let named = std::env::var_os("HOWDAH_TEST_PG_BIN").map(PathBuf::from);
    let bin = named.unwrap_or_else(|| "/usr/lib/postgresql/15/bin".into());
    if !bin.join("postgres").exists() {
        bail!("there is no PostgreSQL at {}; set HOWDAH_TEST_PG_BIN", bin.display());
    }
    Ok(bin)
}

/// The next block of ports, under a file lock, so that tests in parallel do not meet.
fn next_block(path: &Path) -> Result<u16> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    // Whoever made it may be root, and the next one not; only the owner can change the mode.
    let _ = file.set_permissions(fs::Permissions::from_mode(0o666));
    let mut file =
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).context("lock")?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut next = text.trim().parse::<u16>().unwrap_or(FIRST_PORT);
    if next + BLOCK > LAST_PORT || next < FIRST_PORT {
        next = FIRST_PORT;
    }
    while (next..next + BLOCK).any(taken) {
        next = if next + 2 * BLOCK > LAST_PORT { FIRST_PORT } else { next + BLOCK };
    }
    file.seek(SeekFrom::Start(0))?;
    file.set_len(0)?;
    write!(file, "{}", next + BLOCK)?;
    nix::unistd::fsync(file.as_fd())?;
    Ok(next)
}

fn taken(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_err()
}

/// Asks `what` again and again until it answers, or fails with `wanted` when `limit` has passed.
///
/// # Errors
/// What was wanted, and the last answer.
pub async fn wait_for<T, F>(wanted: &str, limit: Duration, mut what: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let last = match what().await {
            Ok(answer) => return Ok(answer),
            Err(why) => why,
        };
        if Instant::now() >= deadline {
            return Err(last.context(format!("not within {limit:?}: {wanted}")));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
