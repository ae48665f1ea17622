//! Disks that are slow to write through, or refuse to: a library is put before libc's fsync in all processes of
//! the members, and does to each what its file says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use howdah_tests::Cluster;
use howdah_tests::dice::Dice;

const LIBRARY: &str = "libhowdah_storm_shim.so";

/// The file that each member's processes read before they write through.
#[derive(Clone, Debug)]
pub struct Disks {
    files: Vec<PathBuf>,
}

impl Disks {
    /// Has the members, which do not run yet, take the library along; none where it is not built.
    ///
    /// # Errors
    /// If it cannot be put where the members' user may read it.
    pub fn prepare(cluster: &mut Cluster) -> Result<Option<Self>> {
        let Some(library) = library() else { return Ok(None) };
        let copy = cluster.ground.dir.join(LIBRARY);
        fs::copy(&library, &copy).with_context(|| format!("copy {}", library.display()))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        let mut files = Vec::new();
        for member in &mut cluster.members {
            let file = cluster.ground.dir.join(format!("{}.sync", member.name));
            member.env.insert("LD_PRELOAD".to_owned(), copy.display().to_string());
            member.env.insert("STORM_SYNC_FILE".to_owned(), file.display().to_string());
            files.push(file);
        }
        Ok(Some(Self { files }))
    }

    /// Each write-through takes some tenths of a second longer, for a while.
    pub(super) async fn slow(&self, index: usize, length: Duration, dice: &mut Dice) -> Result<()> {
        let longer = dice.between(Duration::from_millis(50), Duration::from_millis(1500));
        self.is(index, &format!("slow {}", longer.as_millis()), length).await
    }

    /// Each write-through fails, for a while.
    pub(super) async fn fail(&self, index: usize, length: Duration) -> Result<()> {
        self.is(index, "fail", length).await
    }

    async fn is(&self, index: usize, what: &str, length: Duration) -> Result<()> {
        let file = &self.files[index];
        let put = |text: &str| -> Result<()> {
            // Whoever reads it meanwhile finds the one or the other.
            let fresh = file.with_extension("fresh");
            fs::write(&fresh, text)?;
            fs::rename(&fresh, file).with_context(|| format!("write {}", file.display()))
        };
        put(what)?;
        tokio::time::sleep(length).await;
        put("well")
    }
}

/// Beside this program, or one directory above, where test programs have it.
fn library() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let beside = |dir: &Path| Some(dir.join(LIBRARY)).filter(|path| path.exists());
    let dir = program.parent()?;
    beside(dir).or_else(|| beside(dir.parent()?))
}
