//! Negative controls: with a guard rail switched off the simulation must fail for some seed, and soon.
//! `cargo nextest run -p howdah-core --features sabotage -E 'binary(sabotage)'`.

use howdah_core::Settings;
use howdah_core::rails::{ALL, Rails, without};
use howdah_core::sync::choose::Mode;
use howdah_testkit::sim::Sim;

/// So many seeds are enough for each rail; where they stop being, a rule or its check has changed.
const SEEDS: u64 = 1500;

/// Modes, and whether writes wait where no standby is there.
const MODES: [(Mode, bool); 4] =
    [(Mode::Quorum, true), (Mode::Quorum, false), (Mode::On, true), (Mode::Off, false)];

fn settings(synchronous_mode: Mode, synchronous_mode_strict: bool) -> Settings {
    Settings { synchronous_mode, synchronous_mode_strict, ..Settings::default() }
}

/// Looks for the first seed that fails, in one mode after the other.
fn caught(name: &str, rails: Rails) {
    assert_ne!(rails, ALL);
    for seed in 0..SEEDS {
        for (mode, strict) in MODES {
            let run = || Sim::with(seed, settings(mode, strict)).run();
            if let Err(story) = without(rails, run) {
                let first = story.lines().next().unwrap_or_default();
                println!("{name}: seed {seed}, mode {mode}: {first}");
                return;
            }
        }
    }
    panic!("nobody notices when this rail is off: {name}");
}

macro_rules! rails {
    ($($rail:ident),* $(,)?) => {$(
        #[test]
        fn $rail() {
            caught(stringify!($rail), Rails { $rail: false, ..ALL });
        }
    )*};
}

rails!(
    nonce,
    promise,
    votes,
    log_first,
    flushed_first,
    settled,
    barrier,
    barrier_applied,
    data_id,
    bar_first,
    recorded_first,
    numbers_once,
);

#[test]
fn with_all_rails_on_the_first_seeds_hold() {
    for seed in 0..20 {
        without(ALL, || Sim::with(seed, settings(Mode::Quorum, true)).run()).unwrap_or_else(
            |story| {
                panic!("seed {seed}: {story}");
            },
        );
    }
}
