//! What the kernel says of processes, and what processes call themselves.

use howdah_guard::fuzzing::{control_group, stat};
use howdah_postgres::procs::{Children, Kind, Proc, kind};

use crate::{parts, text};

/// No name of a process forges its parent; no title hides a process that receives WAL, and one that says nothing
/// proves nothing; a control group lies below a mount point. The input: a name, then two texts.
pub fn procfs(bytes: &[u8]) -> bool {
    let parts = parts(bytes, 3);
    let name: Vec<u8> = parts[0].iter().copied().take(64).collect();
    let line = [&b"12 ("[..], &name, b") S 77 12 12 0 -1 4194304 1 2"].concat();
    assert_eq!(stat(&line), Some((77, false)), "{}", text(&line));
    let read = stat(bytes);
    let title = text(parts[0]);
    titles(&title);
    let (mounts, groups) = (parts.get(1), parts.get(2));
    let group = mounts.zip(groups).and_then(|(mounts, groups)| {
        let (mounts, groups) = (text(mounts), text(groups));
        let found = control_group(&mounts, &groups)?;
        assert!(groups.contains("0::") && mounts.contains("cgroup2 "), "{}", found.display());
        Some(found)
    });
    read.is_some() || group.is_some() || kind(&title, "demo") != Kind::Unnamed
}

fn titles(title: &str) {
    for cluster in ["", "demo", "a: b", title] {
        let of = |title: &str| kind(title, cluster);
        assert_eq!(of(title) == Kind::Unnamed, !title.starts_with("postgres: "));
        let prefix = if cluster.is_empty() { String::new() } else { format!("{cluster}: ") };
        assert_eq!(of(&format!("postgres: {prefix}walreceiver")), Kind::WalReceiver);
        assert_eq!(of(&format!("postgres: {prefix}walreceiver {title}")), Kind::WalReceiver);
        let list = [Proc { pid: 3, ppid: 2, title: title.to_owned() }];
        let children = Children::of(2, cluster, &list);
        let proves = !matches!(of(title), Kind::WalReceiver | Kind::Unnamed);
        assert_eq!(children.proves_no_walreceiver(), proves);
        assert!(Children::of(9, cluster, &list).proves_no_walreceiver());
    }
}
