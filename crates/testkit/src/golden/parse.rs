//! Reads a script's arguments.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use goldenscript::{ArgumentConsumer, Command};
use howdah_core::{Epoch, Lsn, MemberName, Position, Timeline};

pub(super) struct Args<'a> {
    rest: ArgumentConsumer<'a>,
}

type Parsed<T> = Result<T, Box<dyn Error>>;

impl<'a> Args<'a> {
    pub fn new(command: &'a Command) -> Self {
        Self { rest: command.consume_args() }
    }

    pub fn end(&self) -> Parsed<()> {
        self.rest.reject_next()
    }

    pub fn word(&mut self) -> Option<&'a str> {
        self.rest.next_pos()
    }

    pub fn text(&mut self, key: &str) -> Option<&'a str> {
        self.rest.take_key(key)
    }

    pub fn member(&mut self) -> Parsed<MemberName> {
        Ok(MemberName::from(self.word().ok_or("a member is missing")?))
    }

    pub fn number<T: FromStr>(&mut self, key: &str) -> Parsed<Option<T>>
    where
        T::Err: Error + 'static,
    {
        Ok(self.text(key).map(str::parse).transpose()?)
    }

    pub fn lsn(&mut self, key: &str) -> Parsed<Option<Lsn>> {
        Ok(self.text(key).map(str::parse).transpose()?)
    }

    pub fn position(&mut self, key: &str) -> Parsed<Option<Position>> {
        self.text(key).map(position).transpose()
    }

    pub fn epoch(&mut self, key: &str) -> Parsed<Option<Epoch>> {
        Ok(self.number::<u64>(key)?.map(Epoch))
    }
}

/// `2@0/3000148` is a position on timeline 2.
pub(super) fn position(text: &str) -> Parsed<Position> {
    let (timeline, lsn) = text.split_once('@').ok_or("a position looks like 2@0/3000148")?;
    Ok(Position { timeline: Timeline(timeline.parse()?), lsn: lsn.parse()? })
}

/// `1500ms` or `2s`.
pub(super) fn span(text: &str) -> Parsed<Duration> {
    if let Some(ms) = text.strip_suffix("ms") {
        return Ok(Duration::from_millis(ms.parse()?));
    }
    let seconds = text.strip_suffix('s').ok_or("a time looks like 1500ms or 2s")?;
    Ok(Duration::from_secs(seconds.parse()?))
}
