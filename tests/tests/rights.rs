//! Who may do what by a token, a password, a socket; and that every order is kept with who gave it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use howdah_locks::authority::{CA_LIFETIME, LIFETIME};
use howdah_locks::{Authority, Identity, Paths, Role, Visitor, Wanted, files};
use howdah_rpc::access::Access;
use howdah_rpc::channel::lazy;
use howdah_rpc::control::FenceRequest;
use howdah_rpc::needs::needed;
use howdah_tests::calls::{calls, refusal};
use howdah_tests::cluster::printed;
use howdah_tests::keys::{SCOPE, paths};
use howdah_tests::net::Net;
use howdah_tests::rest::{self, Ask, get};
use howdah_tests::{Cluster, Options, keys, wait_for};
use serde_json::Value;
use tonic::Code;
use tonic::transport::Channel;

const SETTLE: Duration = Duration::from_secs(60);
const STATUS: &str = "/howdah.control.v1.Control/Status";

fn token(cluster: &Cluster, name: &str, role: &str) -> Result<String> {
    let token = cluster.howdah(&["token", "create", name, "--role", role])?;
    ensure!(howdah_locks::token::scope(&token) == Some(SCOPE), "no token: {} bytes", token.len());
    Ok(token)
}

/// Somebody without a certificate.
fn visitor(cluster: &Cluster, index: usize) -> Result<Channel> {
    let visitor = Visitor::load(&paths(&keys::admin(&cluster.ground.dir)).ca, SCOPE)?;
    let address = cluster.members[index].control();
    Ok(lazy(&address, Duration::from_secs(1), &Access::Visitor(visitor))?)
}

#[tokio::test]
async fn every_call_by_token_is_taken_from_those_whose_role_reaches_so_far() -> Result<()> {
    let cluster = Cluster::healthy("rights-tokens", Options::default()).await?;
    let index = (cluster.leader().await? + 1) % 3;
    // Where there is no token, nobody without a certificate comes past the handshake.
    let refused = refusal(&visitor(&cluster, index)?, Some("howdah_00"), STATUS, true).await;
    let refused = refused.context("somebody without certificate is answered")?;
    ensure!(refused.code() != Code::Unauthenticated, "he came past the handshake: {refused:?}");
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        let token = token(&cluster, &format!("t-{role}"), role.word())?;
        let channel = visitor(&cluster, index)?;
        wait_for("the token is known there", SETTLE, || async {
            let refused = refusal(&channel, Some(&token), STATUS, true).await;
            ensure!(refused.is_none(), "{refused:?}");
            Ok(())
        })
        .await?;
        for (path, streams) in calls()? {
            // What takes the test's own tokens away is asked for no name.
            let refused = refusal(&channel, Some(&token), &path, streams).await;
            let by_role = refused.as_ref().is_some_and(|status| {
                status.code() == Code::PermissionDenied && status.message().contains("takes role")
            });
            ensure!(by_role != (role >= needed(&path)), "{role} calls {path}: {refused:?}");
        }
    }
    let channel = visitor(&cluster, index)?;
    for shown in [None, Some(""), Some("howdah_00"), Some("t-admin")] {
        for (path, streams) in calls()? {
            let refused = refusal(&channel, shown, &path, streams).await;
            let unknown = refused.as_ref().is_some_and(|why| why.code() == Code::Unauthenticated);
            ensure!(unknown, "{shown:?} calls {path}: {refused:?}");
        }
    }
    cluster.passed();
    Ok(())
}

#[tokio::test]
async fn a_token_ends_when_it_is_revoked_and_the_others_go_on() -> Result<()> {
    let cluster = Cluster::healthy("rights-revoked", Options::default()).await?;
    let (old, new) = (token(&cluster, "old", "operator")?, token(&cluster, "new", "operator")?);
    let mut channels = Vec::new();
    for index in 0..3 {
        channels.push(visitor(&cluster, index)?);
    }
    let taken = async |token: &str, taken: bool| {
        for (index, channel) in channels.iter().enumerate() {
            let refused = refusal(channel, Some(token), STATUS, true).await;
            ensure!(refused.is_none() == taken, "at n{}: {refused:?}", index + 1);
        }
        Ok(())
    };
    wait_for("both are known", SETTLE, || async {
        taken(&old, true).await?;
        taken(&new, true).await
    })
    .await?;
    cluster.howdah(&["token", "revoke", "old"])?;
    // Connections that stand are no way around it.
    wait_for("the old one is refused", SETTLE, || taken(&old, false)).await?;
    taken(&new, true).await?;
    let again = cluster.howdah(&["token", "revoke", "old"]).err().context("revoked twice")?;
    ensure!(format!("{again:#}").contains("there is no token old"), "{again:#}");
    let twice = cluster.howdah(&["token", "create", "new", "--role", "admin"]);
    ensure!(twice.is_err(), "a name was given twice");
    // What is listed has no secret in it, and a token in a file is enough for the command line.
    let listed = cluster.howdah(&["token", "list", "-o", "json"])?;
    let rows: Value = serde_json::from_str(&listed)?;
    ensure!(rows[0]["name"] == "new" && rows[0]["role"] == "operator", "{listed}");
    ensure!(!listed.contains(&new[7..]), "a secret is listed");
    let file = cluster.ground.dir.join("new.token");
    files::write(&file, &format!("{new}\n"), 0o600)?;
    let ca = paths(&keys::admin(&cluster.ground.dir)).ca;
    let mut command = cluster.command();
    command.env_remove("HOWDAH_KEYS").env("HOWDAH_CA", &ca).env("HOWDAH_TOKEN_FILE", &file);
    let address = cluster.members[0].control();
    let listed = printed(command.args(["--endpoint", &address, "list"]))?;
    ensure!(listed.contains("n1") && listed.contains("Leader"), "{listed}");
    // One that others can read is not used.
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    let refused = command.output()?;
    ensure!(refused.status.code() == Some(64), "{refused:?}");
    cluster.check_logs()
}

/// A way to come to REST.
struct Guest {
    name: &'static str,
    keys: Option<Paths>,
    shown: Option<String>,
}

/// Files of a certificate that this CA issued.
fn certificate(
    cluster: &Cluster,
    ca: &Authority,
    dir: &str,
    (scope, role, lifetime): (&str, Role, Duration),
) -> Result<Option<Paths>> {
    let dir = cluster.ground.dir.join(dir);
    let identity = Identity::new(scope, role, "somebody")?;
    let issued = ca.issue(&Wanted { identity, hosts: Vec::new(), lifetime })?;
    files::make_dir(&dir)?;
    let files = paths(&dir);
    files::write(&files.ca, keys::authority(&cluster.ground.dir)?.cert(), 0o644)?;
    files::write(&files.cert, &issued.cert, 0o644)?;
    files::write(&files.key, &issued.key, 0o600)?;
    Ok(Some(files))
}

/// The rows of the table in docs/rest.md.
fn rows() -> Result<Vec<(String, [String; 4])>> {
    let page = include_str!("../../docs/rest.md");
    let lines = page.lines().skip_while(|line| !line.starts_with("```who")).skip(2);
    let mut rows = Vec::new();
    for line in lines.take_while(|line| !line.starts_with("```")) {
        let (name, rest) = line.split_at(line.find("  ").context("two spaces behind a name")?);
        let cells: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
        let cells = cells.try_into().map_err(|cells| anyhow::anyhow!("{name}: {cells:?}"))?;
        rows.push((name.to_owned(), cells));
    }
    ensure!(rows.len() > 10, "the table was not found");
    Ok(rows)
}

async fn outcome(cluster: &Cluster, guest: &Guest, (method, path): (&str, &str)) -> Result<String> {
    let ca = keys::authority(&cluster.ground.dir)?;
    let tls = rest::client(ca.cert(), guest.keys.as_ref())?;
    let ask = Ask { method, path, body: "", shown: guest.shown.as_deref() };
    Ok(match rest::send(&cluster.members[0], Some(tls), ask).await {
        Err(_) => "none".to_owned(),
        Ok((code @ (401 | 403), _)) => code.to_string(),
        Ok(_) => "yes".to_owned(),
    })
}

#[tokio::test]
async fn rest_answers_everybody_as_the_table_says() -> Result<()> {
    let Some(net) = Net::or_skip()? else { return Ok(()) };
    let options = Options { rest: ", tls: true".into(), ..Options::default() };
    let mut cluster = Cluster::in_network("rights-rest", options, &net)?;
    cluster.start_all().await?;
    let ca = keys::authority(&cluster.ground.dir)?;
    let theirs = Authority::create(&cluster.ground.dir.join("theirs"), SCOPE, CA_LIFETIME)?;
    let by = |name, keys: Option<Paths>| Guest { name, keys, shown: None };
    let shows = |name, shown: String| Guest { name, keys: None, shown: Some(shown) };
    let ended = certificate(&cluster, &ca, "ended", (SCOPE, Role::Admin, Duration::from_secs(1)))?;
    let mut guests = vec![
        by("nothing", None),
        by(
            "a foreign CA's certificate",
            certificate(&cluster, &theirs, "foreign", (SCOPE, Role::Admin, LIFETIME))?,
        ),
        by(
            "another cluster's certificate",
            certificate(&cluster, &ca, "other", ("prod", Role::Admin, LIFETIME))?,
        ),
        by("an expired certificate", ended),
        shows("the password", rest::BASIC.to_owned()),
        shows("a wrong password", "Basic b3BzOndyb25n".to_owned()),
        shows("no token of this cluster", format!("Bearer howdah_{}", "0".repeat(64))),
    ];
    for (name, role) in [
        ("a viewer's certificate", Role::Viewer),
        ("an operator's certificate", Role::Operator),
        ("an administrator's certificate", Role::Admin),
        ("a member's certificate", Role::Member),
    ] {
        guests.push(by(name, certificate(&cluster, &ca, name, (SCOPE, role, LIFETIME))?));
    }
    for (name, role) in [
        ("a viewer's token", "viewer"),
        ("an operator's token", "operator"),
        ("an administrator's token", "admin"),
    ] {
        guests.push(shows(name, format!("Bearer {}", token(&cluster, role, role)?)));
    }
    guests.push(shows("a revoked token", format!("Bearer {}", token(&cluster, "gone", "admin")?)));
    cluster.howdah(&["token", "revoke", "gone"])?;
    let asked =
        [("GET", "/primary"), ("GET", "/metrics"), ("GET", "/cluster"), ("POST", "/switchover")];
    let rows = rows()?;
    let names: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    for guest in &guests {
        ensure!(names.contains(&guest.name), "{} is not in the table", guest.name);
    }
    wait_for("REST answers as the table says", SETTLE, || async {
        for (name, wanted) in &rows {
            let guest = guests.iter().find(|guest| guest.name == name);
            let guest = guest.with_context(|| format!("nobody comes with {name}"))?;
            let mut found = Vec::new();
            for ask in asked {
                found.push(outcome(&cluster, guest, ask).await?);
            }
            ensure!(found == wanted, "{name}: {found:?} instead of {wanted:?}");
        }
        Ok(())
    })
    .await?;
    // Who is not known hears of a health check no more than he needs, and in the clear nothing is said.
    let tls = rest::client(ca.cert(), None)?;
    let (_, body) = rest::send(&cluster.members[0], Some(tls), get("/primary")).await?;
    ensure!(!body.contains("replication") && body.contains("role"), "{body}");
    ensure!(rest::send(&cluster.members[0], None, get("/primary")).await.is_err(), "in the clear");
    cluster.check_logs()
}

#[tokio::test]
async fn a_secret_in_the_clear_from_another_machine_is_not_taken() -> Result<()> {
    let Some(net) = Net::or_skip()? else { return Ok(()) };
    let mut cluster = Cluster::in_network("rights-clear", Options::default(), &net)?;
    cluster.start_all().await?;
    let member = &cluster.members[0];
    let order = |shown| Ask { method: "POST", path: "/switchover", body: "", shown };
    let (code, text) = rest::send(member, None, order(Some(rest::BASIC))).await?;
    ensure!(code == 403 && text.contains("plain HTTP"), "{code} {text}");
    let (code, _) = rest::send(member, None, order(None)).await?;
    ensure!(code == 401, "{code}");
    for (path, wanted) in [
        ("/primary", None),
        ("/metrics", Some(200)),
        ("/cluster", Some(401)),
        ("/patroni", Some(401)),
    ] {
        let (code, body) = rest::send(member, None, get(path)).await?;
        let right = wanted.map_or(code == 200 || code == 503, |wanted| code == wanted);
        ensure!(right, "{path}: {code} {body}");
    }
    cluster.check_logs()
}

/// The program by the configuration of the first member, and nothing else: over the socket.
fn on_the_machine(cluster: &Cluster, args: &[&str]) -> Result<String> {
    printed(&mut local(cluster, args))
}

fn local(cluster: &Cluster, args: &[&str]) -> std::process::Command {
    let mut command = cluster.command();
    command.env_remove("HOWDAH_KEYS").arg("-c").arg(cluster.members[0].dir.join("howdah.yml"));
    command.args(args);
    command
}

/// Orders that are kept: who, what, how it ended.
fn audit(cluster: &Cluster) -> Result<Vec<[String; 4]>> {
    let rows: Value = serde_json::from_str(&cluster.howdah(&["audit", "-o", "json"])?)?;
    let rows = rows.as_array().context("a list")?;
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    Ok(rows
        .iter()
        .map(|row| ["who", "what", "outcome", "text"].map(|key| text(row, key)))
        .collect())
}

async fn kept(cluster: &Cluster, who: &str, what: &str, outcome: &str) -> Result<()> {
    wait_for(&format!("{who}: {what} is kept"), SETTLE, || async {
        let found = audit(cluster)?;
        let fits =
            |row: &&[String; 4]| row[0].contains(who) && row[1].contains(what) && row[2] == outcome;
        ensure!(found.iter().any(|row| fits(&row)), "{found:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_order_is_kept_with_who_gave_it_and_how_it_ended() -> Result<()> {
    let cluster = Cluster::healthy("rights-audit", Options::default()).await?;
    let leader = cluster.leader().await?;
    let other = cluster.members[(leader + 1) % 3].name.clone();
    // By a certificate; a rehearsal is no order.
    cluster.howdah(&["switchover", "--dry-run"])?;
    cluster.howdah(&["switchover", "--candidate", &other, "--yes"])?;
    kept(&cluster, "admin tester (certificate)", &format!("switch over to {other}"), "done")
        .await?;
    cluster.settle(SETTLE).await?;
    // By a password, over REST; refused.
    let body = format!("{{\"leader\": \"{other}\", \"candidate\": \"n9\"}}");
    let ask = Ask { method: "POST", path: "/switchover", body: &body, shown: Some(rest::BASIC) };
    let (code, text) = rest::send(&cluster.members[0], None, ask).await?;
    ensure!(code == 412, "{code} {text}");
    kept(&cluster, "operator ops (password)", "switch over to n9", "not done").await?;
    // By being who one is on this machine.
    on_the_machine(&cluster, &["pause"])?;
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid())?.context("a name")?.name;
    kept(&cluster, &format!("admin {me} (socket)"), "pause", "done").await?;
    on_the_machine(&cluster, &["resume"])?;
    // By a token.
    let token = token(&cluster, "robot", "operator")?;
    let ask =
        Ask { method: "POST", path: "/reload", body: "", shown: Some(&format!("Bearer {token}")) };
    wait_for("the token is known", SETTLE, || async {
        let (code, text) = rest::send(&cluster.members[0], None, ask).await?;
        ensure!(code == 202, "{code} {text}");
        Ok(())
    })
    .await?;
    kept(&cluster, "operator robot (token)", "reload n1", "done").await?;
    kept(&cluster, "admin tester", "make token robot for operator", "done").await?;
    let found = audit(&cluster)?;
    ensure!(found.len() == 6, "{found:#?}");
    // The story of the cluster has it too, in its place, and secrets stand in neither.
    let events = cluster.howdah(&["events", "-o", "json"])?;
    ensure!(
        events.contains("admin tester (certificate)") && events.contains("\"order\""),
        "{events}"
    );
    ensure!(
        !events.contains(&token[7..]) && !format!("{found:?}").contains(&token[7..]),
        "a secret"
    );
    cluster.check_logs()
}

#[tokio::test]
async fn an_order_that_cannot_be_recorded_is_not_begun() -> Result<()> {
    let mut cluster = Cluster::healthy("rights-unrecorded", Options::default()).await?;
    // What would move the cursor of whoever reads it is no order to his terminal.
    let odd = "n9\r\u{1b}[1A\u{1b}[2K";
    let request = FenceRequest { member: odd.to_owned() };
    let mut told = cluster.client(0)?.fence(request).await?.into_inner();
    while told.message().await?.is_some_and(|progress| !progress.finished) {}
    kept(&cluster, "admin tester (certificate)", r"fence n9\r\u{1b}[1A\u{1b}[2K", "not done")
        .await?;
    for index in [1, 2] {
        cluster.members[index].kill_node();
    }
    let own = cluster.members[0].name.clone();
    let output = local(&cluster, &["fence", &own, "--yes"]).output()?;
    let refused = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(
        refused.contains("cannot be recorded") && refused.contains("nothing was begun"),
        "{refused}"
    );
    // One member alone can do this, and does.
    on_the_machine(&cluster, &["reload", &own])?;
    for index in [1, 2] {
        cluster.start(index)?;
    }
    cluster.settle(SETTLE).await?;
    let found = audit(&cluster)?;
    let done = |what: &str| found.iter().any(|row| row[1] == what && row[2] == "done");
    ensure!(!done(&format!("fence {own}")) && !done(&format!("reload {own}")), "{found:#?}");
    cluster.check_logs()
}

#[tokio::test]
async fn nobody_else_on_the_machine_gets_in_by_the_socket() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become somebody else");
        return Ok(());
    }
    let cluster = Cluster::healthy("rights-socket", Options::default()).await?;
    let listed = on_the_machine(&cluster, &["list"])?;
    ensure!(listed.contains("n2"), "{listed}");
    let dir = cluster.members[0].raft.clone();
    let socket = dir.join("control");
    let as_nobody = || -> Result<String> {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.arg(&cluster.ground.howdah).arg("--endpoint");
        command.arg(format!("unix:{}", socket.display())).arg("list");
        let output = command.output()?;
        ensure!(!output.status.success(), "nobody is answered");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let refused = as_nobody()?;
    ensure!(refused.contains("Permission denied"), "{refused}");
    // Even where somebody opened the directory: the kernel says who it is.
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777))
    };
    open(&dir)?;
    open(&socket)?;
    as_nobody()?;
    wait_for("it says who was not let in", SETTLE, || async {
        ensure!(
            cluster.members[0].log().contains("is neither root nor howdah's own user"),
            "it does not"
        );
        Ok(())
    })
    .await?;
    cluster.check_logs()
}
