//! Disks that are slow to write through, or refuse to: a library is put before libc's fsync in all processes of
//! the members, and does to each what its file says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::manager;

const LIBRARY: &str = "libhowdah_test_shim.so";

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
            member.env.insert("TEST_SYNC_FILE".to_owned(), file.display().to_string());
            files.push(file);
        }
        Ok(Some(Self { files }))
    }

    /// Each write-through takes some tenths of a second longer, for a while.
    ///
    /// # Errors
    /// If the member cannot be told.
    pub async fn slow(&self, index: usize, length: Duration, dice: &mut Dice) -> Result<()> {
        let longer = dice.between(Duration::from_millis(50), Duration::from_millis(1500));
        self.put(index, &format!("slow {}", longer.as_millis()))?;
        tokio::time::sleep(length).await;
        self.put(index, "well")
    }

    /// Each write-through fails, for a while. A member whose store fails ends, and is started again.
    ///
    /// # Errors
    /// If the member cannot be told or started, or does not answer when its disk is well again.
    pub async fn fail(&self, cluster: &mut Cluster, index: usize, length: Duration) -> Result<()> {
        self.put(index, "fail")?;
        manager::keep_running(cluster, index, length).await?;
        self.put(index, "well")?;
        manager::until_it_stays(cluster, index).await
    }

    /// What a member's processes find when they read its file.
    fn put(&self, index: usize, what: &str) -> Result<()> {
        let file = &self.files[index];
        // Whoever reads it meanwhile finds the one or the other.
        let fresh = file.with_extension("fresh");
        fs::write(&fresh, what)?;
        fs::rename(&fresh, file).with_context(|| format!("write {}", file.display()))
    }
}

/// Beside this program, or one directory above, where test programs have it.
fn library() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let beside = |dir: &Path| Some(dir.join(LIBRARY)).filter(|path| path.exists());
    let dir = program.parent()?;
    beside(dir).or_else(|| beside(dir.parent()?))
}
