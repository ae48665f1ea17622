//! Bodies of orders, checked field by field before anything is done. Pure.

use serde_json::{Map, Value};

use super::answer::Answer;

/// The fields of a body, taken out one by one; what is left over at the end is a mistake.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body; an empty one has no fields.
    pub fn read(body: &[u8]) -> Result<Self, Answer> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Answer::bad("the body is no JSON object", "write {\"name\": value}")),
            Err(why) => Err(Answer::bad(&format!("the body is no JSON: {why}"), "mend it")),
        }
    }

    /// A text; `null` and an empty one count as absent.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Answer> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                Err(Answer::field(name, &format!("{other} is no text"), "put it in quotes"))
            }
        }
    }

    /// True or false.
    pub fn flag(&mut self, name: &str) -> Result<bool, Answer> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => {
                Err(Answer::field(name, &format!("{other} is neither"), "write true or false"))
            }
        }
    }

    /// A time span as Patroni writes it: seconds, or a text such as 30s, 2min, 500ms.
    pub fn milliseconds(&mut self, name: &str) -> Result<Option<u64>, Answer> {
        let wrong = |what: &Value| {
            Answer::field(name, &format!("{what} is no time"), "write seconds, or 30s, 2min, 500ms")
        };
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => {
                let ms = number.as_f64().filter(|s| *s >= 0.0 && *s < 1e9).map(|s| s * 1000.0);
                let ms = ms.ok_or_else(|| wrong(&Value::Number(number)))?;
                // Below 2^53, so that nothing is cut off.
                Ok(Some(ms as u64))
            }
            Some(Value::String(text)) => {
                span(&text).map(Some).ok_or_else(|| wrong(&Value::String(text)))
            }
            Some(other) => Err(wrong(&other)),
        }
    }

    /// What must wait for a later version.
    pub fn not_yet(&mut self, name: &str) -> Result<(), Answer> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(()),
            Some(_) => {
                let error = format!("{name}: nothing can be scheduled yet");
                let remedy = "leave it out to do it now, or ask at the time from cron";
                let body = serde_json::json!({ "error": error, "field": name, "remedy": remedy });
                Err(Answer::json(501, body))
            }
        }
    }

    /// Fails if a field was not taken.
    pub fn end(self) -> Result<(), Answer> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Answer::field(name, "there is no such field", "leave it out")),
        }
    }
}

fn span(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1000,
        "ms" => 1,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(unit)
}
