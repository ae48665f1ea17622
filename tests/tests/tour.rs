//! The demo's tour, as a new user runs it: safety is asserted by its exit code, times are printed.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use howdah_tests::Ground;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn the_tour_holds() -> Result<()> {
    let ground = Ground::new("tour")?;
    let (out, err) = (ground.dir.join("out.json"), ground.dir.join("err.log"));
    let mut child = Command::new(&ground.howdah)
        .args(["demo", "--tour", "-o", "json", "--dir"])
        .arg(ground.dir.join("demo"))
        .env("HOWDAH_POSTGRESQL_BIN_DIR", &ground.bin_dir)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out)?)
        .stderr(std::fs::File::create(&err)?)
        .process_group(0)
        .spawn()
        .context("start the demo")?;
    let end = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= end {
            let _ = kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT);
            bail!("the tour did not end: {}", std::fs::read_to_string(&err)?);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let (said, told) = (std::fs::read_to_string(&out)?, std::fs::read_to_string(&err)?);
    println!("{said}");
    ensure!(status.success(), "{status}: {told}");
    serde_json::from_str::<serde_json::Value>(&said).context("its output is JSON")?;
    std::fs::remove_dir_all(&ground.dir)?;
    Ok(())
}
