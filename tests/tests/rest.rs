//! REST orders on a real cluster, what a load balancer makes of the health checks, and gRPC for tools
//! that know nothing of howdah.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use howdah_tests::rest::{self, Ask};
use howdah_tests::{Cluster, Haproxy, Member, Options, wait_for};
use nix::sys::signal::Signal;

const SETTLE: Duration = Duration::from_secs(60);

/// Code and body of one request of an operator.
async fn send(member: &Member, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    rest::send(member, None, Ask { method, path, body, shown: Some(rest::BASIC) }).await
}

/// The same, with the code and a word that are wanted.
async fn expect(
    member: &Member,
    (method, path, body): (&str, &str, &str),
    code: u16,
    word: &str,
) -> Result<()> {
    let (found, text) = send(member, method, path, body).await?;
    ensure!(
        found == code && text.contains(word),
        "{method} {path} {body} at {}: {found} {text} instead of {code} {word}",
        member.name
    );
    Ok(())
}

#[tokio::test]
async fn orders_are_carried_out_or_refused_in_patronis_words() -> Result<()> {
    let cluster = Cluster::healthy("rest-orders", Options::default()).await?;
    let leader = cluster.leader().await?;
    let other = (leader + 1) % 3;
    let (first, second) = (&cluster.members[leader], &cluster.members[other]);
    let epoch = cluster.status().await?.epoch;
    let own = format!("{{\"leader\": \"{}\", \"candidate\": \"{0}\"}}", first.name);
    let nobody = format!("{{\"leader\": \"{}\", \"candidate\": \"n9\"}}", first.name);
    for (order, code, word) in [
        (("POST", "/switchover", ""), 400, "only from a specific leader"),
        (("POST", "/switchover", "{"), 400, "no JSON"),
        (("POST", "/switchover", &own), 400, "source are the same"),
        (("POST", "/switchover", &nobody), 412, "candidate does not exists"),
        (("POST", "/switchover", "{\"leader\": \"n9\"}"), 412, "leader name does not match"),
        (
            ("POST", "/switchover", "{\"leader\": \"n1\", \"scheduled_at\": \"x\"}"),
            501,
            "scheduled_at",
        ),
        (("DELETE", "/switchover", ""), 404, "no switchover is scheduled"),
        (("POST", "/failover", "{}"), 400, "only to a specific candidate"),
        (("POST", "/failover", "{\"candidate\": \"n9\"}"), 412, "candidate does not exists"),
        (("POST", "/restart", "{\"role\": \"replica\"}"), 503, "conditions are not satisfied"),
        (("POST", "/restart", "{\"role\": \"king\"}"), 422, "role"),
        (("POST", "/restart", "{\"postgres_version\": \"9.x\"}"), 422, "postgres_version"),
        (("POST", "/restart", "{\"restart_pending\": true}"), 503, "conditions are not satisfied"),
        (("DELETE", "/restart", ""), 404, "no restarts are scheduled"),
        (("POST", "/reinitialize", ""), 503, "I am the leader"),
        (("PATCH", "/config", "{\"ttl\": 10}"), 501, "ttl"),
        (("PUT", "/config", "{}"), 501, "cannot be edited"),
        (("POST", "/cluster", ""), 405, "GET"),
        (("PUT", "/restart", ""), 405, "POST, DELETE"),
        (("POST", "/nonsense", ""), 404, "no such path"),
    ] {
        expect(first, order, code, word).await?;
    }
    let (code, _) = send(first, "POST", "/switchover", &" ".repeat(100_000)).await?;
    ensure!(code == 413, "{code} for a large body");
    ensure!(cluster.status().await?.epoch == epoch, "a refused order changed the leader");
    expect(first, ("POST", "/reload", ""), 202, "reload scheduled").await?;
    expect(second, ("POST", "/restart", ""), 200, "restarted successfully").await?;
    cluster.settle(SETTLE).await?;
    expect(first, ("POST", "/restart", "{\"role\": \"primary\"}"), 200, "restarted successfully")
        .await?;
    ensure!(cluster.settle(SETTLE).await? == leader, "leadership moved");
    let order = format!("{{\"leader\": \"{}\", \"candidate\": \"{}\"}}", first.name, second.name);
    expect(second, ("POST", "/switchover", &order), 200, "Successfully switched over to").await?;
    ensure!(cluster.settle(SETTLE).await? == other, "{} does not lead", second.name);
    let order = format!("{{\"candidate\": \"{}\"}}", first.name);
    expect(first, ("POST", "/failover", &order), 200, "Successfully failed over to").await?;
    ensure!(cluster.settle(SETTLE).await? == leader, "{} does not lead", first.name);
    expect(second, ("POST", "/reinitialize", "{\"force\": true}"), 200, "reinitialize started")
        .await?;
    ensure!(cluster.settle(SETTLE).await? == leader, "leadership moved");
    let (code, page) = send(first, "GET", "/metrics", "").await?;
    ensure!(code == 200 && page.contains("howdah_leader_changes_total"), "{page}");
    let (_, page) = send(first, "GET", "/history", "").await?;
    let rows: serde_json::Value = serde_json::from_str(&page)?;
    ensure!(rows.as_array().is_some_and(|rows| rows.len() == 2), "{rows}");
    cluster.check_logs()
}

/// Asks every path of the table in docs/rest.md in all three methods, and compares with one column.
async fn answers_as(member: &Member, role: &str) -> Result<()> {
    let page = include_str!("../../docs/rest.md");
    let mut lines = page.lines().skip_while(|line| !line.starts_with("```table")).skip(1);
    let head: Vec<&str> = lines.next().context("a table")?.split_whitespace().collect();
    let column = head.iter().position(|name| *name == role).context("such a column")?;
    let (mut asked, mut wrong) = (0, Vec::new());
    for line in lines.take_while(|line| !line.starts_with("```")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (path, wanted) = (words[0], words[column].parse::<u16>()?);
        for method in ["GET", "HEAD", "OPTIONS"] {
            let (code, body) = send(member, method, path, "").await?;
            asked += 1;
            if code != wanted {
                wrong.push(format!("{method} {path}: {code} instead of {wanted}"));
            }
            if method == "HEAD" && !body.is_empty() {
                wrong.push(format!("HEAD {path} has a body: {body}"));
            }
        }
    }
    ensure!(asked > 120, "the table was not found");
    ensure!(wrong.is_empty(), "{} as {role}: {wrong:#?}", member.name);
    Ok(())
}

async fn comes_to_answer_as(member: &Member, role: &str) -> Result<()> {
    wait_for(&format!("{} answers as {role}", member.name), SETTLE, || async {
        answers_as(member, role).await
    })
    .await
}

#[tokio::test]
async fn every_path_answers_as_the_table_says_on_real_members() -> Result<()> {
    let options = Options { extra: "tags: { zone: a }\n".into(), ..Options::default() };
    let mut cluster = Cluster::healthy("rest-table", options).await?;
    let leader = cluster.leader().await?;
    let (second, third) = ((leader + 1) % 3, (leader + 2) % 3);
    comes_to_answer_as(&cluster.members[leader], "leader").await?;
    comes_to_answer_as(&cluster.members[second], "replica").await?;

    let name = cluster.members[third].name.clone();
    cluster.fence(&name, true).await?;
    comes_to_answer_as(&cluster.members[third], "stopped").await?;
    cluster.fence(&name, false).await?;

    cluster.pause(true).await?;
    comes_to_answer_as(&cluster.members[leader], "paused").await?;
    cluster.pause(false).await?;
    cluster.settle(SETTLE).await?;

    let member = &cluster.members[second];
    expect(member, ("POST", "/reinitialize", ""), 200, "reinitialize started").await?;
    let copier = wait_for("a copy is under way", SETTLE, || async {
        let processes = member.processes();
        let found = processes.iter().find(|process| process.title.contains("pg_basebackup"));
        let pid = found.context("no copy yet")?.pid;
        member.signal(pid, Signal::SIGSTOP)?;
        Ok(pid)
    })
    .await?;
    comes_to_answer_as(member, "copying").await?;
    member.signal(copier, Signal::SIGCONT)?;
    cluster.settle(SETTLE).await?;

    cluster.options.extra = "tags: { zone: a, nofailover: true }\n".into();
    cluster.configure()?;
    for member in [second, third] {
        expect(&cluster.members[member], ("POST", "/reload", ""), 202, "reload").await?;
    }
    cluster.members[leader].kill_node();
    comes_to_answer_as(&cluster.members[second], "leaderless").await?;
    cluster.check_logs()
}

/// Asks through the load balancer which port serves, and whether it is in recovery.
async fn served_by(port: u16) -> Result<(String, bool)> {
    let dsn = format!(
        "host=127.0.0.1 port={port} user=tester password={} dbname=postgres connect_timeout=2",
        howdah_tests::cluster::PASSWORD
    );
    let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await?;
    let driven = tokio::spawn(connection);
    let sql = "SELECT current_setting('port'), pg_is_in_recovery()";
    let row = client.query_one(sql, &[]).await?;
    drop(client);
    driven.abort();
    Ok((row.get(0), row.get(1)))
}

#[tokio::test]
async fn a_load_balancer_made_for_patroni_follows_a_switchover_and_a_failover() -> Result<()> {
    let mut cluster = Cluster::healthy("haproxy", Options::default()).await?;
    let Some(balancer) = Haproxy::start(&cluster, None)? else { return Ok(()) };
    let mut leader = cluster.leader().await?;
    for step in ["start", "switchover", "death"] {
        match step {
            "switchover" => {
                let to = cluster.members[(leader + 1) % 3].name.clone();
                cluster.switchover(&to).await?;
                leader = cluster.settle(SETTLE).await?;
            }
            "death" => {
                cluster.members[leader].kill_node();
                leader = cluster.other_leader(leader, SETTLE).await?;
            }
            _ => {}
        }
        let wanted = (cluster.members[leader].pg_port.to_string(), false);
        wait_for(&format!("after {step}: writes go to the leader"), SETTLE, || async {
            let found = served_by(balancer.write).await?;
            ensure!(found == wanted, "{found:?} instead of {wanted:?}");
            Ok(())
        })
        .await?;
        wait_for(&format!("after {step}: reads go to a replica"), SETTLE, || async {
            let (port, recovers) = served_by(balancer.read).await?;
            ensure!(recovers, "{port} is no replica");
            Ok(())
        })
        .await?;
    }
    cluster.check_logs()
}

#[tokio::test]
async fn tools_that_know_nothing_find_the_services_by_reflection() -> Result<()> {
    use howdah_rpc::control::{ExplainRequest, ReloadRequest};
    use howdah_rpc::refusal::reason_of;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let cluster = Cluster::healthy("reflection", Options::default()).await?;
    let channel = cluster.channel(0)?;
    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel.clone());
    let stream = client.server_reflection_info(tokio_stream::iter([asked])).await?;
    let answer = stream.into_inner().message().await?.context("an answer")?;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        anyhow::bail!("another answer: {answer:?}");
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for wanted in ["howdah.control.v1.Control", "grpc.health.v1.Health"] {
        ensure!(names.iter().any(|name| name == wanted), "{wanted} is not in {names:?}");
    }
    let request = HealthCheckRequest { service: "howdah.control.v1.Control".into() };
    let health = HealthClient::new(channel).check(request).await?.into_inner();
    ensure!(health.status == 1, "not serving: {}", health.status);
    // What is refused says why in a word for programs too.
    let mut control = cluster.client(1)?;
    let reload = ReloadRequest { member: "n9".into() };
    let refused = control.reload(reload).await.err().context("no such member")?;
    ensure!(reason_of(&refused).as_deref() == Some("NO_SUCH_MEMBER"), "{refused:?}");
    let refused = control.explain(ExplainRequest { epoch: 99 }).await.err().context("no epoch")?;
    ensure!(reason_of(&refused).as_deref() == Some("NO_SUCH_EPOCH"), "{refused:?}");
    cluster.check_logs()
}
