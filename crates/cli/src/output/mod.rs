//! What is printed: tables for people, JSON and YAML for programs. Rendering is pure.

pub mod changes;
pub mod doctor;
pub mod dsn;
pub mod front;
pub mod lost;
pub mod progress;
pub mod rights;
pub mod status;

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;

use crate::args::Format;
use crate::failure::Failure;

/// Prints text to stdout.
///
/// # Errors
/// `Failure::BrokenPipe` when nobody reads on, `Failure::Error` for anything else.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
        _ => Failure::Error(format!("stdout cannot be written ({error}); check where it goes")),
    })
}

/// Renders `value` as JSON or YAML; `table` makes the form for people.
///
/// # Errors
/// `Failure::Error` if the value cannot be rendered.
pub fn render<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce() -> String,
) -> Result<String, Failure> {
    match format {
        Format::Table => Ok(table()),
        Format::Json => {
            serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(no_form("JSON"))
        }
        Format::Yaml => serde_saphyr::to_string(value)
            .map(|text| if text.ends_with('\n') { text } else { text + "\n" })
            .map_err(no_form("YAML")),
    }
}

/// Renders one of several documents of a stream: JSON on one line, YAML behind a line of its own.
///
/// # Errors
/// As [`render`].
pub fn render_next<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce() -> String,
) -> Result<String, Failure> {
    if format == Format::Json {
        return serde_json::to_string(value).map(|line| line + "\n").map_err(no_form("JSON"));
    }
    let text = render(format, value, table)?;
    Ok(if format == Format::Yaml { format!("---\n{text}") } else { text })
}

fn no_form<E: std::fmt::Display>(form: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure::Error(format!("the answer has no {form} form: {error}"))
}

/// A table without borders. Columns whose numbers are in `right` are aligned to the right.
pub fn table(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let cell = |(nth, text): (usize, &str)| {
        let alignment =
            if right.contains(&nth) { CellAlignment::Right } else { CellAlignment::Left };
        Cell::new(text).set_alignment(alignment)
    };
    table.set_header(header.iter().copied().enumerate().map(cell).collect::<Vec<_>>());
    for row in rows {
        let cells = row.iter().map(String::as_str).enumerate();
        table.add_row(cells.map(cell).collect::<Vec<_>>());
    }
    table.trim_fmt() + "\n"
}

/// A time for people; empty when unknown.
pub fn time(ms_since_1970: u64) -> String {
    if ms_since_1970 == 0 {
        return String::new();
    }
    let ms = i64::try_from(ms_since_1970).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default()
}

/// A number of bytes: plain below 1 MB, else in MB.
pub fn bytes(bytes: u64) -> String {
    const MB: u64 = 1024 * 1024;
    if bytes < MB { bytes.to_string() } else { format!("{} MB", bytes / MB) }
}

/// An LSN, empty when unknown.
pub fn lsn(lsn: u64) -> String {
    if lsn == 0 { String::new() } else { howdah_core::Lsn(lsn).to_string() }
}
