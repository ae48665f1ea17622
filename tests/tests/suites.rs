//! What a scanner of TLS finds at a member's ports: protocol versions and suites, as OpenSSL sees them.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use howdah_tests::keys::paths;
use howdah_tests::{Cluster, Options, keys};

/// What OpenSSL says of one handshake; none: there was none.
fn handshake(
    address: &str,
    starttls: bool,
    keys: &[String],
    flags: &[&str],
) -> Result<Option<String>> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", address, "-brief"]).args(keys).args(flags);
    if starttls {
        command.args(["-starttls", "postgres"]);
    }
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    let line = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.map(|value| value.trim().to_owned())
    };
    match (line("Protocol version:"), line("Ciphersuite:")) {
        (Some(version), Some(suite)) if output.status.success() => {
            Ok(Some(format!("{version} {suite}")))
        }
        _ => Ok(None),
    }
}

/// Suites of TLS 1.2 that OpenSSL can offer.
fn suites() -> Result<Vec<String>> {
    let output = Command::new("openssl")
        .args(["ciphers", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let names: Vec<String> =
        text.split(':').filter(|name| !name.starts_with("TLS_")).map(str::to_owned).collect();
    ensure!(names.len() > 30, "openssl offers {names:?}");
    Ok(names)
}

fn is_good(suite: &str) -> bool {
    suite.starts_with("ECDHE-")
        && (suite.contains("-GCM-") || suite.contains("CHACHA20"))
        && !suite.contains("PSK")
}

#[tokio::test]
async fn each_port_speaks_tls_1_2_and_1_3_with_good_suites_alone() -> Result<()> {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: there is no openssl");
        return Ok(());
    }
    let options = Options { rest: ", tls: true".into(), ..Options::default() };
    let cluster = Cluster::healthy("suites", options).await?;
    let member = &cluster.members[cluster.leader().await?];
    let dir = keys::admin(&cluster.ground.dir);
    let shown = paths(&dir);
    let keys: Vec<String> = [("-cert", &shown.cert), ("-key", &shown.key), ("-CAfile", &shown.ca)]
        .iter()
        .flat_map(|(flag, path)| [(*flag).to_owned(), path.display().to_string()])
        .collect();
    let rest = format!("{}:{}", member.host, member.rest_port);
    let pg = format!("{}:{}", member.host, member.pg_port);
    let mut doors = vec![("gRPC", member.control(), false), ("REST", rest, false)];
    if member.psql("SHOW ssl_library")?.is_empty() {
        eprintln!("SKIPPED: PostgreSQL's port: it was built without TLS");
    } else {
        doors.push(("PostgreSQL", pg, true));
    }
    let offered = suites()?;
    for (name, address, starttls) in doors {
        let shake = |flags: &[&str]| handshake(&address, starttls, &keys, flags);
        for old in ["-tls1", "-tls1_1"] {
            let found = shake(&[old, "-cipher", "ALL:@SECLEVEL=0"])?;
            ensure!(found.is_none(), "{name}: {old}: {found:?}");
        }
        let newest = shake(&[])?.unwrap_or_default();
        ensure!(newest.starts_with("TLSv1.3"), "{name}: {newest}");
        let mut taken = Vec::new();
        for suite in &offered {
            let cipher = format!("{suite}:@SECLEVEL=0");
            if let Some(found) = shake(&["-tls1_2", "-cipher", &cipher])? {
                ensure!(found.starts_with("TLSv1.2"), "{name}: {found}");
                taken.push(suite.clone());
            }
        }
        let bad: Vec<&String> = taken.iter().filter(|suite| !is_good(suite)).collect();
        ensure!(bad.is_empty(), "{name} takes {bad:?}");
        ensure!(!taken.is_empty(), "{name} takes no suite of TLS 1.2");
        eprintln!("{name}: {newest}; of {} suites of TLS 1.2: {}", offered.len(), taken.join(" "));
    }
    // Without a certificate there is no answer at gRPC: TLS 1.3 says so after its handshake.
    let bare = handshake(&member.control(), false, &keys[4..], &["-tls1_2"])?;
    ensure!(bare.is_none(), "gRPC lets in whoever shows nothing: {bare:?}");
    cluster.check_logs()
}
