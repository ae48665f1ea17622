//! Golden scripts: a situation told in commands, and what the rules make of it, generated and then
//! reviewed as a diff.
//!
//! Place: run from `crates/core/tests/golden.rs`. Beside what a script asks for, the runner checks
//! after every command that the state survives serialisation, that the invariants hold, that a
//! command applied twice changes nothing the second time, and that deciding twice gives the same.

mod commands;
mod local;
mod parse;
mod rights;
mod world;

use std::collections::BTreeSet;
use std::error::Error;

use goldenscript::{Command, Context, Runner};

use parse::Args;
pub use world::World;

/// Runs one script.
#[derive(Default)]
pub struct Golden {
    world: World,
    /// Names of the actions and reasons that occurred, for the coverage test.
    pub seen: BTreeSet<String>,
}

impl Runner for Golden {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = Args::new(command);
        let output = match command.name.as_str() {
            "at" => self.world.at(&mut args)?,
            "local" => self.world.local(&mut args)?,
            "silent" => self.world.silent(&mut args, true)?,
            "heard" => self.world.silent(&mut args, false)?,
            "decide" => {
                let (output, seen) = self.world.decide(&mut args)?;
                self.seen.extend(seen);
                output
            }
            "state" => self.world.state(),
            name => self.world.apply(name, &mut args)?,
        };
        args.end()?;
        Ok(output)
    }
}
