//! What a certificate says of its holder: one URI among its names, `howdah://SCOPE/ROLE/NAME`. Pure.
//!
//! Why a name and not the subject: every CA can be told to put a URI there, and none makes one up.

use std::fmt;

/// How much its holder may do; each may all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Moves the leadership, restarts, pauses, has a standby copied.
    Operator,
    /// Changes what the cluster is: settings, members, rights.
    Admin,
    /// Is part of the cluster.
    Member,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Admin, Self::Member];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }

    /// The role of this word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Who somebody is, in which cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The cluster's name.
    pub scope: String,
    /// What its holder may do.
    pub role: Role,
    /// A member's name, or a person's or program's.
    pub name: String,
}

/// Something cannot be an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnIdentity {
    /// A name with other characters.
    #[error(
        "`{name}` cannot be a name here; write up to 63 letters, digits, dots, dashes, underscores and @"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A URI that begins as one, and is none.
    #[error(
        "`{uri}` is not howdah://SCOPE/ROLE/NAME with a role viewer, operator, admin or member"
    )]
    Form {
        /// The URI.
        uri: String,
    },
    /// No URI, or more than one.
    #[error("{count} names of the form howdah://SCOPE/ROLE/NAME; there must be exactly one")]
    Count {
        /// How many there are.
        count: usize,
    },
}

const SCHEME: &str = "howdah://";
/// Longest scope or name, bytes.
const NAME_MAX: usize = 63;

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(fits)
}

impl Identity {
    /// One whose names can be written into a certificate.
    ///
    /// # Errors
    /// Which name cannot be.
    pub fn new(scope: &str, role: Role, name: &str) -> Result<Self, NotAnIdentity> {
        for one in [scope, name] {
            if !is_name(one) {
                return Err(NotAnIdentity::Name { name: one.to_owned() });
            }
        }
        Ok(Self { scope: scope.to_owned(), role, name: name.to_owned() })
    }

    /// As it stands in a certificate.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.scope, self.role, self.name)
    }

    /// From a certificate's URIs, of which those of others do not count.
    ///
    /// # Errors
    /// If none, or more than one, is an identity.
    pub fn among<'u>(uris: impl IntoIterator<Item = &'u str>) -> Result<Self, NotAnIdentity> {
        let ours: Vec<&str> = uris.into_iter().filter(|uri| uri.starts_with(SCHEME)).collect();
        match ours[..] {
            [uri] => Self::parse(uri),
            _ => Err(NotAnIdentity::Count { count: ours.len() }),
        }
    }

    fn parse(uri: &str) -> Result<Self, NotAnIdentity> {
        let form = || NotAnIdentity::Form { uri: uri.to_owned() };
        let rest = uri.strip_prefix(SCHEME).ok_or_else(form)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [scope, role, name] = parts[..] else { return Err(form()) };
        let role = Role::of(role).ok_or_else(form)?;
        Self::new(scope, role, name)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of {}", self.role, self.name, self.scope)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exactly_one_uri_of_ours_counts() {
        let n1 = Identity::new("demo", Role::Member, "n1").unwrap();
        let others = ["spiffe://x/y", "https://n1"];
        assert_eq!(Identity::among(others.into_iter().chain([&*n1.uri()])), Ok(n1.clone()));
        assert_eq!(Identity::among(others), Err(NotAnIdentity::Count { count: 0 }));
        let two = [n1.uri(), n1.uri()];
        let two = Identity::among(two.iter().map(String::as_str));
        assert_eq!(two, Err(NotAnIdentity::Count { count: 2 }));
    }

    #[test]
    fn what_is_not_quite_one_is_none() {
        for uri in [
            "howdah://",
            "howdah://demo/member",
            "howdah://demo/member/n1/x",
            "howdah://demo/Member/n1",
            "howdah://demo/root/n1",
            "howdah://demo/member/",
            "howdah:///member/n1",
            "howdah://demo/member/n%31",
            "howdah://demo/member/n1?role=admin",
        ] {
            assert!(Identity::among([uri]).is_err(), "{uri}");
        }
    }

    #[test]
    fn each_role_may_what_those_before_it_may() {
        assert!(Role::ALL.is_sorted());
        assert!(Role::Admin < Role::Member && Role::Viewer < Role::Operator);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            scope in "[a-zA-Z0-9._@-]{1,63}",
            name in "[a-zA-Z0-9._@-]{1,63}",
            role in prop::sample::select(Role::ALL.to_vec()),
        ) {
            let identity = Identity::new(&scope, role, &name).unwrap();
            prop_assert_eq!(Identity::among([&*identity.uri()]), Ok(identity));
        }

        #[test]
        fn nothing_that_is_read_differs_from_what_was_written(uri in "howdah://[ -~]{0,40}") {
            if let Ok(identity) = Identity::among([&*uri]) {
                prop_assert_eq!(identity.uri(), uri);
            }
        }
    }
}
