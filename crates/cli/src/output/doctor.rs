//! What is wrong in a cluster, by what its members say, and how to mend it. Pure.

use std::fmt::Write as _;

use howdah_rpc::control::{ClusterStatus, LogResponse, Member};
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Writes fail, or nobody could take over.
    Error,
    /// It will become worse, or is left over.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// The member, or empty for the cluster.
    pub member: String,
    /// What.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

fn finding(severity: Severity, member: &str, what: String, remedy: &str) -> Finding {
    Finding { severity, member: member.to_owned(), what, remedy: remedy.to_owned() }
}

/// What is wrong, the worst first.
pub fn findings(status: &ClusterStatus) -> Vec<Finding> {
    let mut found = of_cluster(status);
    for member in &status.members {
        found.extend(of_member(status, member));
    }
    versions(status, &mut found);
    found.sort_by_key(|finding| finding.severity);
    found
}

fn of_cluster(status: &ClusterStatus) -> Vec<Finding> {
    use Severity::{Error, Warning};
    let mut found = Vec::new();
    let mut add = |severity, what: String, remedy: &str| {
        found.push(finding(severity, "", what, remedy));
    };
    if !status.quorum {
        let what = format!(
            "{} reaches {} of {} voters of the Raft group: nothing can be decided, and the leader's \
             lease runs out",
            status.answered_by, status.quorum_reached, status.quorum_size
        );
        add(Error, what, "start the missing members, or mend the network between them");
    } else if status.quorum_reached < status.quorum_size {
        let what =
            format!("{} of {} voters are reached", status.quorum_reached, status.quorum_size);
        add(Warning, what, "start the missing members: one more loss may cost the quorum");
    }
    if !status.not_writable_because.is_empty() {
        let what = format!("no write can succeed: {}", status.not_writable_because);
        add(Error, what, "`howdah explain` and `howdah events` tell what it waits for");
    }
    if status.paused {
        let what = "maintenance mode is on: nobody fails over by itself".to_owned();
        add(Warning, what, "`howdah resume` when the work is done");
    } else if status.pause_wanted {
        let what = "maintenance mode was asked for and is not in force yet".to_owned();
        add(Warning, what, "it comes when the leader serves; `howdah resume` takes it back");
    }
    if status.quorum_size == 2 {
        let what = "the Raft group has two voters: the loss of either stops it".to_owned();
        add(Warning, what, "add a third member");
    }
    found
}

fn of_member(status: &ClusterStatus, member: &Member) -> Vec<Finding> {
    use Severity::{Error, Warning};
    let mut found = Vec::new();
    let mut add = |severity, what: String, remedy: &str| {
        found.push(finding(severity, &member.name, what, remedy));
    };
    let leads = member.name == status.leader;
    if member.state == "unreachable" {
        let what = format!("is silent: {}", member.reason);
        add(Error, what, "is its machine up, `howdah run` running there, its port open?");
        return found;
    }
    for trouble in &member.troubles {
        let severity = if leads { Error } else { Warning };
        let (what, remedy) = trouble.split_once(": ").unwrap_or((trouble, "see its log"));
        add(severity, what.to_owned(), remedy);
    }
    if member.fenced {
        add(
            Warning,
            "is fenced: its PostgreSQL stays stopped".into(),
            "`howdah unfence` lets it run",
        );
    } else if !leads && member.state != "streaming" && status.not_writable_because.is_empty() {
        let what = format!("is {} and does not stream: {}", member.state, member.reason);
        add(Warning, what, "it is looked after; if this stays, see its log");
    }
    if !member.pending_restart.is_empty() {
        let mut names: Vec<String> = member
            .pending_restart
            .iter()
            .map(|(name, change)| format!("{name} {change}"))
            .collect();
        names.sort();
        let what = format!("parameters wait for a restart: {}", names.join(", "));
        add(Warning, what, "`howdah restart --pending`");
    }
    if member.lag_known && !leads && member.replay_lag_bytes > 256 << 20 {
        let what = format!("replays {} MB behind the leader", member.replay_lag_bytes >> 20);
        add(Warning, what, "a long query or a slow disk there? see pg_stat_activity on it");
    }
    found
}

fn versions(status: &ClusterStatus, found: &mut Vec<Finding>) {
    let mut seen: Vec<(u32, &str)> = status
        .members
        .iter()
        .filter(|member| member.server_version > 0)
        .map(|member| (member.server_version, member.name.as_str()))
        .collect();
    seen.sort_unstable();
    if let (Some(first), Some(last)) = (seen.first(), seen.last())
        && first.0 != last.0
    {
        let what =
            format!("PostgreSQL differs: {} on {}, {} on {}", first.0, first.1, last.0, last.1);
        found.push(finding(Severity::Warning, "", what, "bring all members to one version"));
    }
}

/// Members that applied the same entries of the log and hold different states: a fault of howdah, or of
/// a machine's memory. Such answers come at different moments: only equal indexes can be compared.
pub fn disagreement(logs: &[LogResponse]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (nth, one) in logs.iter().enumerate() {
        let same = |other: &&LogResponse| other.applied_index == one.applied_index;
        for other in logs[nth + 1..].iter().filter(same) {
            if other.state_checksum != one.state_checksum {
                let what = format!(
                    "{} and {} hold different states after entry {} of the log",
                    one.member, other.member, one.applied_index
                );
                let remedy = "`howdah pause`, keep the raft directories of both, and report it";
                found.push(finding(Severity::Error, "", what, remedy));
            }
        }
    }
    found
}

/// For people.
pub fn for_people(found: &[Finding]) -> String {
    if found.is_empty() {
        return "All is well.\n".to_owned();
    }
    let mut text = String::new();
    for finding in found {
        let severity = match finding.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "warning",
        };
        let who = if finding.member.is_empty() { "cluster" } else { &finding.member };
        let _ = writeln!(text, "{severity:>7}  {who}: {}", finding.what);
        let _ = writeln!(text, "         -> {}", finding.remedy);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> ClusterStatus {
        let member = |name: &str, state: &str| Member {
            name: name.into(),
            state: state.into(),
            server_version: 150_018,
            ..Member::default()
        };
        ClusterStatus {
            leader: "n1".into(),
            quorum: true,
            quorum_reached: 3,
            quorum_size: 3,
            members: vec![
                member("n1", "running"),
                member("n2", "streaming"),
                member("n3", "streaming"),
            ],
            ..ClusterStatus::default()
        }
    }

    #[test]
    fn a_healthy_cluster_has_no_findings() {
        assert_eq!(findings(&status()), []);
        assert_eq!(for_people(&[]), "All is well.\n");
    }

    #[test]
    fn members_that_disagree_are_found_where_they_can_be_compared() {
        let log = |member: &str, applied_index, state_checksum| LogResponse {
            member: member.into(),
            applied_index,
            state_checksum,
            timelines: Vec::new(),
        };
        assert_eq!(disagreement(&[log("n1", 7, 1), log("n2", 7, 1), log("n3", 8, 2)]), []);
        let found = disagreement(&[log("n1", 7, 1), log("n2", 8, 3), log("n3", 7, 2)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].what.starts_with("n1 and n3"), "{found:?}");
    }

    #[test]
    fn each_trouble_is_found_with_a_remedy() {
        let mut ill = status();
        ill.quorum_reached = 2;
        ill.paused = true;
        ill.members[0].troubles.push("the volume has 1 MB left: make room".into());
        ill.members[1].state = "unreachable".into();
        ill.members[2].fenced = true;
        ill.members[2].server_version = 150_017;
        ill.members[0].pending_restart.insert("max_connections".into(), "40->50".into());
        let found = findings(&ill);
        for wanted in
            ["volume", "silent", "fenced", "max_connections", "2 of 3", "maintenance", "differs"]
        {
            assert!(found.iter().any(|f| f.what.contains(wanted)), "{wanted}: {found:#?}");
        }
        assert!(found.iter().all(|finding| !finding.remedy.is_empty()));
        assert_eq!(found[0].severity, Severity::Error);
        let text = for_people(&found);
        assert!(text.contains("-> make room"), "{text}");
    }
}
