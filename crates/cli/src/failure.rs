//! How a command ends when it does not end well, and the exit codes.
//!
//! Place: every command returns `Result<u8, Failure>`; `dispatch` prints the failure and exits.

use std::io;

/// Done.
pub const DONE: u8 = 0;
/// Refused, or the answer is no.
pub const REFUSED: u8 = 1;
/// Something went wrong on the way.
pub const ERROR: u8 = 2;
/// Wrong usage or a configuration that cannot be used.
pub const USAGE: u8 = 64;
/// A fault of howdah itself, or an fsync that failed.
pub const INTERNAL: u8 = 70;

/// Why a command did not do what was asked: what was wrong, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The cluster said no.
    #[error("{0}")]
    Refused(String),
    /// It could not be done.
    #[error("{0}")]
    Error(String),
    /// The command line or the configuration is wrong.
    #[error("{0}")]
    Usage(String),
    /// The reader of the output went away, as `head` does.
    #[error("the reader of the output went away")]
    BrokenPipe,
}

impl Failure {
    /// The exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused(_) => REFUSED,
            Failure::Error(_) => ERROR,
            Failure::Usage(_) => USAGE,
            Failure::BrokenPipe => DONE,
        }
    }

    /// An error of input or output while doing `what`.
    pub fn io(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure::Error(format!("{what}: {error}"))
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        let text = status.message().to_owned();
        match status.code() {
            Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Aborted => Failure::Refused(text),
            code => Failure::Error(format!(
                "the member answered {code:?}: {text}; try again, or another --endpoint"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_by_the_cluster_is_no_error() {
        let refused = Failure::from(tonic::Status::failed_precondition("no candidate"));
        assert_eq!((refused.exit_code(), refused.to_string().as_str()), (REFUSED, "no candidate"));
        assert_eq!(Failure::from(tonic::Status::unavailable("gone")).exit_code(), ERROR);
        assert_eq!(Failure::BrokenPipe.exit_code(), DONE);
    }
}
