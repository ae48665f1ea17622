//! What each call needs, in one table. Pure.
//!
//! A call that stands nowhere here is an administrator's: nothing is open because it was forgotten. A test goes through all
//! services that are described.

use howdah_locks::Role;

/// Path of a call, or of a service where it ends with `/`, and the least role.
const NEEDS: [(&str, Role); 26] = [
    ("/howdah.raft.v1.Raft/", Role::Member),
    ("/howdah.peer.v1.Peer/", Role::Member),
    ("/howdah.control.v1.Control/Status", Role::Viewer),
    ("/howdah.control.v1.Control/History", Role::Viewer),
    ("/howdah.control.v1.Control/Lost", Role::Viewer),
    ("/howdah.control.v1.Control/Explain", Role::Viewer),
    ("/howdah.control.v1.Control/Events", Role::Viewer),
    ("/howdah.control.v1.Control/GetConfig", Role::Viewer),
    ("/howdah.control.v1.Control/Switchover", Role::Operator),
    ("/howdah.control.v1.Control/Failover", Role::Operator),
    ("/howdah.control.v1.Control/Reinit", Role::Operator),
    ("/howdah.control.v1.Control/Restart", Role::Operator),
    ("/howdah.control.v1.Control/Reload", Role::Operator),
    ("/howdah.control.v1.Control/Pause", Role::Operator),
    ("/howdah.control.v1.Control/Resume", Role::Operator),
    ("/howdah.control.v1.Control/Fence", Role::Operator),
    ("/howdah.control.v1.Control/Unfence", Role::Operator),
    ("/howdah.control.v1.Control/Audit", Role::Viewer),
    ("/howdah.control.v1.Control/CreateToken", Role::Admin),
    ("/howdah.control.v1.Control/ListTokens", Role::Admin),
    ("/howdah.control.v1.Control/RevokeToken", Role::Admin),
    ("/howdah.control.v1.Control/RotateSecrets", Role::Admin),
    // The raw log holds the replication secret.
    ("/howdah.control.v1.Control/Log", Role::Admin),
    ("/grpc.health.v1.Health/", Role::Viewer),
    ("/grpc.reflection.v1.ServerReflection/", Role::Viewer),
    ("/grpc.reflection.v1alpha.ServerReflection/", Role::Viewer),
];

/// The least role that may call this path.
pub fn needed(path: &str) -> Role {
    let fits =
        |known: &str| if known.ends_with('/') { path.starts_with(known) } else { path == known };
    NEEDS.iter().find(|(known, _)| fits(known)).map_or(Role::Admin, |(_, role)| *role)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_call_that_is_described_stands_in_the_table() {
        let described = FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap();
        let mut paths = Vec::new();
        for file in &described.file {
            for service in &file.service {
                for method in &service.method {
                    let (package, service, method) =
                        (file.package(), service.name(), method.name());
                    paths.push(format!("/{package}.{service}/{method}"));
                }
            }
        }
        assert!(paths.len() > 20, "{paths:?}");
        for path in &paths {
            let listed = NEEDS.iter().any(|(known, _)| {
                if known.ends_with('/') { path.starts_with(known) } else { path == known }
            });
            assert!(listed, "{path} needs a role");
        }
        for (known, _) in NEEDS.iter().filter(|(known, _)| known.starts_with("/howdah")) {
            assert!(paths.iter().any(|path| path.starts_with(known)), "{known} is nothing");
        }
    }

    #[test]
    fn what_is_not_known_is_an_administrators() {
        for path in ["", "/", "/x", "/howdah.control.v1.Control/StatusX", "/howdah.raft.v1.Raft"] {
            assert_eq!(needed(path), Role::Admin, "{path}");
        }
        assert_eq!(needed("/howdah.raft.v1.Raft/Anything"), Role::Member);
    }
}
