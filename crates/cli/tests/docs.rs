//! docs/cli.md says what the program does.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::path::Path;

use clap::CommandFactory;

#[test]
fn the_page_on_the_command_line_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let made = howdah_cli::docs::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(made == kept, "docs/cli.md is out of date; UPDATE_DOCS=1 writes it anew");
}

#[test]
fn every_command_has_an_example() {
    let mut left = vec![howdah_cli::args::Cli::command()];
    while let Some(command) = left.pop() {
        let below: Vec<_> =
            command.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
        if below.is_empty() {
            let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.contains("Examples:"), "{} has no example", command.get_name());
        }
        left.extend(below);
    }
}
