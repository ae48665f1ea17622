//! core stays free of I/O: what it depends on, directly or not, is on a short list.

use std::collections::BTreeSet;

#[test]
fn nothing_below_core_can_wait_sleep_open_or_log() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let metadata = cargo_metadata::MetadataCommand::new().manifest_path(manifest).exec();
    let metadata = metadata.expect("cargo metadata runs");
    let resolve = metadata.resolve.as_ref().expect("dependencies are resolved");
    let core = metadata.packages.iter().find(|package| package.name.as_str() == "howdah-core");
    let mut open = vec![core.expect("core is here").id.clone()];
    let mut below = BTreeSet::new();
    while let Some(id) = open.pop() {
        let node = resolve.nodes.iter().find(|node| node.id == id).expect("the node is resolved");
        let normal = node.deps.iter().filter(|dep| {
            dep.dep_kinds.iter().any(|kind| kind.kind == cargo_metadata::DependencyKind::Normal)
        });
        for dep in normal {
            if below.insert(metadata[&dep.pkg].name.to_string()) {
                open.push(dep.pkg.clone());
            }
        }
    }
    let allowed = [
        "serde",
        "serde_core",
        "serde_derive",
        "thiserror",
        "thiserror-impl",
        "proc-macro2",
        "quote",
        "syn",
        "unicode-ident",
    ];
    let foreign: Vec<_> = below.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(foreign.is_empty(), "core must not depend on {foreign:?}");
}
