//! `howdah completions` and `howdah man`.

use std::fs;

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::failure::{DONE, Failure};
use crate::output;

pub(super) fn completions(args: &CompletionsArgs) -> Result<u8, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "howdah", &mut text);
    output::print(&String::from_utf8_lossy(&text))?;
    Ok(DONE)
}

pub(super) fn man(args: &ManArgs) -> Result<u8, Failure> {
    if let Some(dir) = &args.dir {
        fs::create_dir_all(dir).map_err(Failure::io(dir.display()))?;
        clap_mangen::generate_to(Cli::command(), dir).map_err(Failure::io(dir.display()))?;
        return Ok(DONE);
    }
    let mut text = Vec::new();
    let rendered = clap_mangen::Man::new(Cli::command()).render(&mut text);
    rendered.map_err(Failure::io("the manual page cannot be rendered"))?;
    output::print(&String::from_utf8_lossy(&text))?;
    Ok(DONE)
}
