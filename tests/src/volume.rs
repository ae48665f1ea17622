//! Small file systems of their own, for what happens when one is full, read-only, or gone.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;

/// A loop-mounted ext4, unmounted when dropped.
pub struct Volume {
    /// Where it is mounted.
    pub at: PathBuf,
    image: PathBuf,
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{program} {}: {said}", args.join(" "));
    }
    Ok(())
}

impl Volume {
    /// Makes and mounts one, owned by `user`. `None`, told on stderr, where this machine cannot.
    ///
    /// # Errors
    /// If it can, and fails.
    pub fn new(at: &Path, megabytes: u64, user: Option<(u32, u32)>) -> Result<Option<Self>> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: loop mounts need root");
            return Ok(None);
        }
        fs::create_dir_all(at)?;
        let image = at.with_extension("img");
        fs::File::create(&image)?.set_len(megabytes << 20)?;
        let volume = Self { at: at.to_owned(), image };
        let made = run("mkfs.ext4", &["-q", "-F", "-m", "0", &volume.image.to_string_lossy()]);
        if let Err(why) = made.and_then(|()| volume.mount()) {
            eprintln!("SKIPPED: loop mounts do not work here: {why}");
            return Ok(None);
        }
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(at, Some(uid), Some(gid))?;
        }
        Ok(Some(volume))
    }

    /// Mounts it (again).
    ///
    /// # Errors
    /// What mount says.
    pub fn mount(&self) -> Result<()> {
        let (image, at) = (self.image.to_string_lossy(), self.at.to_string_lossy());
        run("mount", &["-o", "loop,errors=remount-ro", &image, &at])
    }

    /// Takes it away; what has files open there keeps them.
    ///
    /// # Errors
    /// What umount says.
    pub fn detach(&self) -> Result<()> {
        run("umount", &["-l", &self.at.to_string_lossy()])
    }

    /// Fills it up to the last block; the file is removed by [`Volume::free`].
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn fill(&self) -> Result<()> {
        use std::io::{Seek, SeekFrom, Write};
        let mut file = fs::File::create(self.ballast())?;
        // Most of it without writing it.
        let free = statvfs(&self.at)?;
        let most =
            free.blocks_available().saturating_mul(free.fragment_size()).saturating_sub(8 << 20);
        let _ = posix_fallocate(&file, 0, i64::try_from(most)?);
        file.seek(SeekFrom::End(0))?;
        for chunk in [1 << 20, 4096] {
            let zeros = vec![0u8; chunk];
            while file.write_all(&zeros).is_ok() {}
        }
        Ok(())
    }

    /// Makes room again, also if power is lost the next moment.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.ballast())?;
        Ok(fs::File::open(&self.at)?.sync_all()?)
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// The kernel finds an error in it, and makes it read-only.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn break_it(&self) -> Result<()> {
        let device = nix::libc::dev_t::from(fs::metadata(&self.at)?.dev());
        let minor = nix::libc::minor(device);
        let path = format!("/sys/fs/ext4/loop{minor}/trigger_fs_error");
        fs::write(&path, "told by a test").with_context(|| format!("write {path}"))
    }

    /// Somebody else's directory below the mount, so that nothing can be made there meanwhile.
    ///
    /// # Errors
    /// If its mode cannot be set. Only while it is not mounted.
    pub fn close_the_place(&self) -> Result<()> {
        Ok(fs::set_permissions(&self.at, fs::Permissions::from_mode(0o755))?)
    }

    /// Whoever reads a file there when it is taken away keeps the file system, and the error in it, alive
    /// until that is closed; mounted again before, it would still be the broken one.
    fn until_unused(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.is_attached()? {
            ensure!(Instant::now() < deadline, "{} is still in use", self.at.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether a loop device stands on the image: it goes with the last user of its file system.
    fn is_attached(&self) -> Result<bool> {
        for entry in fs::read_dir("/sys/block")? {
            let backing = entry?.path().join("loop/backing_file");
            if fs::read_to_string(backing).is_ok_and(|file| Path::new(file.trim()) == self.image) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes it away, and mounts what the disk holds.
    ///
    /// # Errors
    /// What the tools say, or that somebody has files open there for too long.
    pub fn remount(&self) -> Result<()> {
        self.detach()?;
        self.until_unused()?;
        self.mount()
    }

    /// Repairs it, as a person would after an error.
    ///
    /// # Errors
    /// What the tools say.
    pub fn repair(&self) -> Result<()> {
        self.detach()?;
        self.until_unused()?;
        // Exit code 1: errors were corrected.
        let status = Command::new("e2fsck").args(["-fy"]).arg(&self.image).output()?.status;
        ensure!(status.code().is_some_and(|code| code <= 1), "e2fsck: {status}");
        self.mount()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = self.detach();
        let _ = fs::remove_file(&self.image);
    }
}
