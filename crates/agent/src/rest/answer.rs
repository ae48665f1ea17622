//! What goes back: a status code, and JSON or text.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub code: u16,
    pub kind: &'static str,
    pub body: String,
    /// Methods that would have been right.
    pub allow: Option<&'static str>,
    /// Ask for a name and a password.
    pub authenticate: bool,
}

impl Answer {
    pub fn json(code: u16, body: Value) -> Self {
        Self::text(code, "application/json", body.to_string())
    }

    pub fn text(code: u16, kind: &'static str, body: String) -> Self {
        Self { code, kind, body, allow: None, authenticate: false }
    }

    /// A message in Patroni's words, which scripts compare.
    pub fn message(code: u16, body: impl Into<String>) -> Self {
        Self::text(code, "text/plain; charset=utf-8", body.into())
    }

    /// What was wrong, and what to do.
    pub fn error(code: u16, error: &str, remedy: &str) -> Self {
        Self::json(code, json!({ "error": error, "remedy": remedy }))
    }

    /// Not understood at all.
    pub fn bad(error: &str, remedy: &str) -> Self {
        Self::error(400, error, remedy)
    }

    /// A field of the body is wrong.
    pub fn field(field: &str, error: &str, remedy: &str) -> Self {
        Self::json(422, json!({ "error": error, "field": field, "remedy": remedy }))
    }

    pub fn no_such_path(path: &str) -> Self {
        let error = format!("no such path: /{path}");
        Self::error(404, &error, "GET /patroni, /cluster, /health, /metrics; see docs/rest.md")
    }

    pub fn not_allowed(allow: &'static str) -> Self {
        let error = Self::error(405, "this path does not take this method", allow);
        Self { allow: Some(allow), ..error }
    }

    /// Without what only those who are known need to hear.
    pub fn briefly(self) -> Self {
        const HEARD: [&str; 6] = ["state", "role", "writable", "patroni", "error", "remedy"];
        match serde_json::from_str(&self.body) {
            Ok(Value::Object(mut fields)) => {
                fields.retain(|name, _| HEARD.contains(&name.as_str()));
                Self { body: Value::Object(fields).to_string(), ..self }
            }
            _ => self,
        }
    }

    pub fn too_large(limit: usize) -> Self {
        Self::error(413, &format!("the body is larger than {limit} bytes"), "send less")
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (code, [(header::CONTENT_TYPE, self.kind)], self.body).into_response();
        if let Some(allow) = self.allow {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.authenticate {
            let how = HeaderValue::from_static("Basic realm=\"howdah\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
        }
        response
    }
}
