//! Histories as Jepsen writes them: one EDN map per event. Elle and Knossos read this.
//!
//! Of EDN only what histories use is understood: maps with keywords as keys, vectors, lists, whole
//! numbers, strings, keywords, nil, true and false, commas as blanks and comments.

use super::{Event, History, HistoryError, Kind, Process, Value};

/// A history, one line per event.
pub fn print(history: &History) -> String {
    history.events.iter().map(|event| line(event) + "\n").collect()
}

fn line(event: &Event) -> String {
    let process = match event.process {
        Process::Client(number) => number.to_string(),
        Process::Nemesis => ":nemesis".to_owned(),
    };
    let mut text = format!(
        "{{:index {} :time {} :process {process} :type :{} :f :{} :value {}",
        event.index,
        event.time,
        event.kind.as_str(),
        event.f,
        show(&event.value)
    );
    for (key, value) in [("node", &event.node), ("error", &event.error)] {
        if let Some(value) = value {
            text += &format!(" :{key} {}", quoted(value));
        }
    }
    if let Some(timeline) = event.timeline {
        text += &format!(" :timeline {timeline}");
    }
    if let Some(xid) = event.xid {
        text += &format!(" :xid {xid}");
    }
    text + "}"
}

fn show(value: &Value) -> String {
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Flag(flag) => flag.to_string(),
        Value::Int(int) => int.to_string(),
        Value::Word(word) => format!(":{word}"),
        Value::Text(text) => quoted(text),
        Value::List(list) => {
            format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(" "))
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            c => out.push(c),
        }
    }
    out + "\""
}

/// Reads a history.
///
/// # Errors
/// Which line does not hold an event.
pub fn parse(text: &str) -> Result<History, HistoryError> {
    let mut events = Vec::new();
    for (nth, line) in text.lines().enumerate() {
        let failed = |why: String| HistoryError::Line { line: nth + 1, why };
        let mut reader = Reader { rest: line };
        reader.blanks();
        if reader.rest.is_empty() {
            continue;
        }
        events.push(reader.event().map_err(failed)?);
    }
    Ok(History { events })
}

struct Reader<'a> {
    rest: &'a str,
}

/// Nesting beyond this is no value of an operation, and would exhaust the stack.
const DEEPEST: usize = 32;

impl Reader<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if self.rest.starts_with(';') {
            self.rest = "";
        }
    }

    fn takes(&mut self, mark: char) -> bool {
        self.blanks();
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self) -> String {
        let ends = |c: char| c.is_whitespace() || ",;()[]{}\"".contains(c);
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn text(&mut self) -> Result<String, String> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 'r')) => out.push('\r'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, c @ ('"' | '\\'))) => out.push(c),
                    other => return Err(format!("\\{:?} in a text", other.map(|(_, c)| c))),
                },
                c => out.push(c),
            }
        }
        Err("a text without an end".to_owned())
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err(format!("values deeper than {DEEPEST}"));
        }
        for (open, close) in [('[', ']'), ('(', ')')] {
            if self.takes(open) {
                let mut list = Vec::new();
                while !self.takes(close) {
                    list.push(self.value(depth + 1)?);
                }
                return Ok(Value::List(list));
            }
        }
        if self.takes('"') {
            return Ok(Value::Text(self.text()?));
        }
        if self.takes(':') {
            return Ok(Value::Word(self.word()));
        }
        match self.word().as_str() {
            "nil" => Ok(Value::Nil),
            "true" => Ok(Value::Flag(true)),
            "false" => Ok(Value::Flag(false)),
            word => word.parse().map(Value::Int).map_err(|_| format!("{word:?} is no value")),
        }
    }

    fn event(&mut self) -> Result<Event, String> {
        if !self.takes('{') {
            return Err("it does not begin with {".to_owned());
        }
        let mut event = Event {
            index: 0,
            time: 0,
            process: Process::Nemesis,
            kind: Kind::Info,
            f: String::new(),
            value: Value::Nil,
            node: None,
            error: None,
            timeline: None,
            xid: None,
        };
        let mut seen = Vec::new();
        while !self.takes('}') {
            if !self.takes(':') {
                return Err("a key that is no keyword".to_owned());
            }
            let key = self.word();
            let value = self.value(0)?;
            fill(&mut event, &key, value).ok_or_else(|| format!("the value of :{key}"))?;
            seen.push(key);
        }
        for wanted in ["index", "time", "process", "type", "f"] {
            if !seen.iter().any(|key| key == wanted) {
                return Err(format!("it has no :{wanted}"));
            }
        }
        self.blanks();
        if self.rest.is_empty() { Ok(event) } else { Err(format!("{:?} behind it", self.rest)) }
    }
}

/// Unknown keys are left out: other writers of histories have some of their own.
fn fill(event: &mut Event, key: &str, value: Value) -> Option<()> {
    let number = |value: &Value| value.int().and_then(|int| u64::try_from(int).ok());
    let text = |value: &Value| match value {
        Value::Text(text) | Value::Word(text) => Some(text.clone()),
        _ => None,
    };
    match key {
        "index" => event.index = number(&value)?,
        "time" => event.time = number(&value)?,
        "timeline" => event.timeline = Some(u32::try_from(number(&value)?).ok()?),
        "xid" => event.xid = Some(number(&value)?),
        "process" => event.process = Process::of(&value)?,
        "f" => event.f = text(&value)?,
        "node" => event.node = Some(text(&value)?),
        "error" => event.error = Some(text(&value).unwrap_or_else(|| show(&value))),
        "value" => event.value = value,
        "type" => {
            let kinds = [Kind::Invoke, Kind::Ok, Kind::Fail, Kind::Info];
            let word = text(&value)?;
            event.kind = kinds.into_iter().find(|kind| kind.as_str() == word)?;
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_jepsen_writes() {
        let text = "{:type :invoke, :f :txn, :value [[:append 5 1] [:r 7 nil]], :process 3, \
                    :time 12, :index 0} ; a note\n\n\
                    {:type :ok, :f :txn, :value ([:append 5 1] [:r 7 [2 -9]]), :process 3, :time 15, \
                    :index 1, :error [:x \"a \\\"b\\\"\"], :clock-offset 5}\n\
                    {:index 2 :time 20 :process :nemesis :type :info :f :cut :value nil}\n";
        let history = parse(text).unwrap();
        assert_eq!(history.events.len(), 3);
        let second = &history.events[1];
        let read = Value::List(vec![Value::word("r"), Value::Int(7), Value::ints([2, -9])]);
        assert_eq!(second.value.list().unwrap()[1], read);
        assert_eq!(second.error.as_deref(), Some("[:x \"a \\\"b\\\"\"]"));
        assert_eq!(history.events[2].process, Process::Nemesis);
    }

    #[test]
    fn what_is_no_event_is_named_by_its_line() {
        let deep = format!("{{:value {}1{}}}", "[".repeat(99), "]".repeat(99));
        for (text, part) in [
            ("{:index 0", "no keyword"),
            ("[]", "begin"),
            ("{:index 0 :time 1 :process 2 :type :ok}", "no :f"),
            ("{:index x}", "\"x\""),
            ("{:index -1}", ":index"),
            ("{:type :odd}", ":type"),
            ("{:value \"abc}", "without an end"),
            ("{:index 0 :time 1 :process 2 :type :ok :f :r} x", "behind"),
            (deep.as_str(), "deeper"),
        ] {
            let error = parse(&format!("\n{text}")).unwrap_err();
            let HistoryError::Line { line: 2, why } = &error else { panic!("{error:?}") };
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
