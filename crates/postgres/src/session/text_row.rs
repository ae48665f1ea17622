//! A row of a simple query: every value as the text that the server prints.

use std::str::FromStr;

use tokio_postgres::SimpleQueryRow;

use super::SessionError;

/// Stands for a value that is no UTF-8.
const UNREADABLE: &str = "\u{fffd}";

/// A row of text; NULL is none. A value of another form than expected is an error, not a panic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextRow(Vec<Option<String>>);

impl TextRow {
    /// A database without an encoding of its own gives names as they came, in whatever encoding: what is no
    /// text must not keep the rest from being read.
    pub(super) fn of(row: &SimpleQueryRow) -> Self {
        let value = |nth| row.try_get(nth).unwrap_or(Some(UNREADABLE)).map(str::to_owned);
        Self((0..row.len()).map(value).collect())
    }

    fn get(&self, column: usize) -> Option<&str> {
        self.0.get(column)?.as_deref()
    }

    /// A text that is there.
    ///
    /// # Errors
    /// `Answer` if it is not.
    pub fn text(&self, column: usize, what: &'static str) -> Result<&str, SessionError> {
        self.get(column).ok_or_else(|| SessionError::Answer {
            what,
            detail: format!("nothing in column {}", column + 1),
        })
    }

    /// A value that may be missing.
    ///
    /// # Errors
    /// `Answer` if it is of another form.
    pub fn maybe<T: FromStr>(
        &self,
        column: usize,
        what: &'static str,
    ) -> Result<Option<T>, SessionError> {
        let read = |text: &str| {
            let wrong = |_| SessionError::Answer { what, detail: text.to_owned() };
            text.parse().map_err(wrong)
        };
        self.get(column).map(read).transpose()
    }

    /// A value that is there.
    ///
    /// # Errors
    /// `Answer` if it is not, or of another form.
    pub fn value<T: FromStr>(&self, column: usize, what: &'static str) -> Result<T, SessionError> {
        self.text(column, what)?;
        self.maybe(column, what)?.ok_or(SessionError::Answer { what, detail: String::new() })
    }

    /// A boolean.
    ///
    /// # Errors
    /// `Answer` if it is none.
    pub fn flag(&self, column: usize, what: &'static str) -> Result<bool, SessionError> {
        match self.text(column, what)? {
            "t" => Ok(true),
            "f" => Ok(false),
            other => Err(SessionError::Answer { what, detail: other.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_another_form_are_errors() {
        let row = TextRow(vec![Some("t".into()), Some("17".into()), None, Some("x".into())]);
        assert!(row.flag(0, "a test").unwrap());
        assert_eq!(row.value::<u32>(1, "a test").unwrap(), 17);
        assert_eq!(row.maybe::<u32>(2, "a test").unwrap(), None);
        for wrong in [2, 3, 9] {
            let error = row.value::<u32>(wrong, "a test").unwrap_err();
            assert!(error.to_string().contains("a test"), "{error}");
        }
        assert!(row.flag(1, "a test").is_err());
    }
}
