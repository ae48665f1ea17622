//! Points at which a test has the agent die: between a decision and its effect, and between the effect and the news
//! of it.
//!
//! Place: called by the shell and by jobs. Only a build with the feature `sabotage`, which no release has, looks
//! at all: at the file that `HOWDAH_TEST_DIE_AT` names. Whoever is at the point that it names takes it away, so that
//! one agent dies of it and no more, and is gone as by kill -9. `tests/examples/deaths.rs` lists the points.

use howdah_core::view::Job;

/// Here an agent may die.
#[cfg(not(feature = "sabotage"))]
pub(crate) const fn point(_: &str, _: &str) {}

/// Here an agent may die in its job.
#[cfg(not(feature = "sabotage"))]
pub(crate) const fn of_job(_: Job, _: &str) {}

/// Here an agent may die in its job.
#[cfg(feature = "sabotage")]
pub(crate) fn of_job(job: Job, which: &str) {
    point(&format!("{job:?}"), which);
}

/// Here an agent may die.
#[cfg(feature = "sabotage")]
pub(crate) fn point(of: &str, which: &str) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let Some(file) = std::env::var_os("HOWDAH_TEST_DIE_AT") else { return };
    let told = std::fs::read_to_string(&file).unwrap_or_default();
    if told.trim() != format!("{of} {which}") {
        return;
    }
    // Of several that are here at once one dies.
    if std::fs::remove_file(&file).is_ok() {
        tracing::warn!("dies at `{of} {which}`, as it was told");
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
}
