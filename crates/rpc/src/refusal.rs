//! Refusals that programs can read: a gRPC status with `google.rpc.ErrorInfo` beside the sentence.
//!
//! Place: the agent's services make them, clients read the reason. Streams tell the same words in
//! their last message, in lower case (`Progress.error`).

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every reason.
pub const DOMAIN: &str = "howdah";

/// Why a call was refused, for programs. Reasons are added, never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The history does not have that epoch.
    NoSuchEpoch,
    /// The cluster does not have that member.
    NoSuchMember,
    /// The member that is needed does not answer.
    Unreachable,
    /// A configuration has a mistake; nothing was changed.
    WrongConfiguration,
    /// The request is meant for another member or another cluster.
    OtherMember,
}

impl Reason {
    /// The word in `ErrorInfo.reason`.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoSuchEpoch => "NO_SUCH_EPOCH",
            Self::NoSuchMember => "NO_SUCH_MEMBER",
            Self::Unreachable => "UNREACHABLE",
            Self::WrongConfiguration => "WRONG_CONFIGURATION",
            Self::OtherMember => "OTHER_MEMBER",
        }
    }

    fn code(self) -> Code {
        match self {
            Self::NoSuchEpoch | Self::NoSuchMember => Code::NotFound,
            Self::Unreachable => Code::Unavailable,
            Self::WrongConfiguration => Code::InvalidArgument,
            Self::OtherMember => Code::FailedPrecondition,
        }
    }

    /// The status; `sentence` is for people.
    pub fn status(self, sentence: impl Into<String>) -> Status {
        let details = ErrorDetails::with_error_info(self.word(), DOMAIN, HashMap::new());
        Status::with_error_details(self.code(), sentence, details)
    }
}

/// The reason that a status carries, if it is one of howdah's.
pub fn reason_of(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then_some(info.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_its_reason_beside_the_sentence() {
        let status = Reason::NoSuchMember.status("there is no member n9");
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "there is no member n9");
        assert_eq!(reason_of(&status).as_deref(), Some("NO_SUCH_MEMBER"));
        assert_eq!(reason_of(&Status::not_found("something else")), None);
    }
}
