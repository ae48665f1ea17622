//! What a door says itself, in PostgreSQL's protocol. Pure.
//!
//! Source: PostgreSQL's documentation, "Message Formats" and "Error and Notice Message Fields".

/// What went wrong, as a client's driver reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// SQLSTATE.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// What is known beside it; may be empty.
    pub detail: String,
    /// What to do; may be empty.
    pub hint: String,
}

/// SQLSTATE cannot_connect_now: drivers and pools try again.
pub const CANNOT_CONNECT_NOW: &str = "57P03";
/// SQLSTATE too_many_connections.
pub const TOO_MANY_CONNECTIONS: &str = "53300";
/// SQLSTATE protocol_violation.
pub const PROTOCOL_VIOLATION: &str = "08P01";
/// SQLSTATE transaction_resolution_unknown.
pub const OUTCOME_UNKNOWN: &str = "08007";

impl Refusal {
    /// Without detail and hint.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: String::new(), hint: String::new() }
    }

    /// An ErrorResponse after which the connection ends.
    pub fn fatal(&self) -> Vec<u8> {
        self.message("FATAL")
    }

    /// An ErrorResponse after which the session goes on.
    pub fn error(&self) -> Vec<u8> {
        self.message("ERROR")
    }

    fn message(&self, severity: &str) -> Vec<u8> {
        let mut body = Vec::with_capacity(256);
        let mut field = |kind: u8, text: &str| {
            if !text.is_empty() {
                body.push(kind);
                // A zero byte would end the field.
                body.extend(text.bytes().filter(|byte| *byte != 0));
                body.push(0);
            }
        };
        field(b'S', severity);
        field(b'V', severity);
        field(b'C', self.code);
        field(b'M', &self.message);
        field(b'D', &self.detail);
        field(b'H', &self.hint);
        body.push(0);
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        let mut message = vec![b'E'];
        message.extend(length.to_be_bytes());
        message.extend(body);
        message
    }
}

/// The value of one field of an ErrorResponse's or NoticeResponse's body.
pub fn field(body: &[u8], kind: u8) -> Option<&[u8]> {
    let fields = body.split(|byte| *byte == 0);
    fields.filter(|field| !field.is_empty()).find(|field| field[0] == kind).map(|field| &field[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_it_was_written() {
        let refusal = Refusal {
            detail: "an election is open".into(),
            ..Refusal::new(CANNOT_CONNECT_NOW, "there is no primary\0!")
        };
        let message = refusal.fatal();
        let length = u32::from_be_bytes(message[1..5].try_into().unwrap()) as usize;
        assert_eq!(message.len(), length + 1);
        let body = &message[5..];
        assert_eq!(field(body, b'C'), Some(&b"57P03"[..]));
        assert_eq!(field(body, b'V'), Some(&b"FATAL"[..]));
        assert_eq!(field(body, b'M'), Some(&b"there is no primary!"[..]));
        assert_eq!(field(body, b'D'), Some(&b"an election is open"[..]));
        assert_eq!(field(body, b'H'), None);
    }
}
