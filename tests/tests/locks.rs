//! Who is let in at a member's gRPC port, and certificates that change while it serves.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use howdah_locks::authority::{CA_LIFETIME, LIFETIME};
use howdah_locks::{Authority, Identity, Keyring, Role, Wanted, files};
use howdah_rpc::access::Access;
use howdah_rpc::channel::lazy;
use howdah_rpc::control::StatusRequest;
use howdah_rpc::control::control_client::ControlClient;
use howdah_rpc::needs::needed;
use howdah_rpc::raft::raft_client::RaftClient;
use howdah_rpc::raft::{HelloRequest, JoinRequest};
use howdah_tests::calls::{calls, refusal};
use howdah_tests::checks::{Calm, first_acks, never_held_up};
use howdah_tests::keys::{SCOPE, issue, paths};
use howdah_tests::net::{self, Net};
use howdah_tests::{Cluster, Options, Writer, keys, wait_for};
use tonic::Code;
use tonic::transport::Channel;

const SETTLE: Duration = Duration::from_secs(60);

/// A holder's directory below the test's.
fn holder(cluster: &Cluster, ca: &Authority, role: Role, name: &str) -> Result<PathBuf> {
    let dir = cluster.ground.dir.join(format!("as-{role}-{name}"));
    issue(ca, role, name, &[], &dir, None)?;
    Ok(dir)
}

fn channel(cluster: &Cluster, index: usize, dir: &Path) -> Result<Channel> {
    let access = Access::Locked(Keyring::load(paths(dir), None)?);
    Ok(lazy(&cluster.members[index].control(), Duration::from_secs(1), &access)?)
}

#[tokio::test]
async fn every_call_is_taken_from_those_alone_whose_role_reaches_so_far() -> Result<()> {
    let cluster = Cluster::healthy("locks-roles", Options::default()).await?;
    let ca = keys::authority(&cluster.ground.dir)?;
    // Not the leader: what is allowed happens, and shall have the shortest way.
    let index = (cluster.leader().await? + 1) % 3;
    let mut taken = 0;
    for role in Role::ALL {
        // Of a member that is in the cluster: n9 is nobody's, and yet may call what members may.
        let dir = holder(&cluster, &ca, role, "n9")?;
        let channel = channel(&cluster, index, &dir)?;
        for (path, streams) in calls()? {
            let refused = refusal(&channel, None, &path, streams).await;
            let by_role = refused.as_ref().is_some_and(|status| {
                status.code() == Code::PermissionDenied && status.message().contains("takes role")
            });
            let may = role >= needed(&path);
            ensure!(by_role != may, "{role} calls {path}: {refused:?}");
            taken += usize::from(may);
        }
    }
    ensure!(taken > 40, "only {taken} calls were taken");
    cluster.passed();
    Ok(())
}

#[tokio::test]
async fn whoever_is_not_of_the_cluster_gets_no_answer_at_all() -> Result<()> {
    let cluster = Cluster::healthy("locks-strangers", Options::default()).await?;
    let ca = keys::authority(&cluster.ground.dir)?;
    let address = cluster.members[0].control();
    let status = "/howdah.control.v1.Control/Status";
    // No TLS.
    let open = lazy(&address, Duration::from_secs(1), &Access::Open)?;
    ensure!(refusal(&open, None, status, true).await.is_some(), "without TLS it is answered");
    // A CA of somebody else, who believes the right one.
    let theirs = Authority::create(&cluster.ground.dir.join("theirs"), SCOPE, CA_LIFETIME)?;
    let dir = holder(&cluster, &theirs, Role::Member, "n1")?;
    files::write(&paths(&dir).ca, ca.cert(), 0o644)?;
    let told =
        refusal(&channel(&cluster, 0, &dir)?, None, status, true).await.context("a foreign CA")?;
    ensure!(told.code() != Code::PermissionDenied, "it came past the handshake: {told:?}");
    // The right CA, another cluster.
    let dir = cluster.ground.dir.join("other-cluster");
    let identity = Identity::new("prod", Role::Member, "n1")?;
    let issued = ca.issue(&Wanted { identity, hosts: Vec::new(), lifetime: LIFETIME })?;
    files::make_dir(&dir)?;
    files::write(&paths(&dir).ca, ca.cert(), 0o644)?;
    files::write(&paths(&dir).cert, &issued.cert, 0o644)?;
    files::write(&paths(&dir).key, &issued.key, 0o600)?;
    ensure!(
        refusal(&channel(&cluster, 0, &dir)?, None, status, true).await.is_some(),
        "another cluster"
    );
    // One that has ended meanwhile.
    let dir = cluster.ground.dir.join("ended");
    let identity = Identity::new(SCOPE, Role::Admin, "late")?;
    let lifetime = Duration::from_secs(3);
    let issued = ca.issue(&Wanted { identity, hosts: Vec::new(), lifetime })?;
    files::make_dir(&dir)?;
    files::write(&paths(&dir).ca, ca.cert(), 0o644)?;
    files::write(&paths(&dir).cert, &issued.cert, 0o644)?;
    files::write(&paths(&dir).key, &issued.key, 0o600)?;
    let late = Access::Locked(Keyring::load(paths(&dir), None)?);
    wait_for("it is let in no more", Duration::from_secs(20), || async {
        let fresh = lazy(&address, Duration::from_secs(1), &late)?;
        ensure!(refusal(&fresh, None, status, true).await.is_some(), "it is let in");
        Ok(())
    })
    .await?;
    // The right one is answered, and members said why they did not let the others in.
    let dir = holder(&cluster, &ca, Role::Viewer, "monitoring")?;
    let refused = refusal(&channel(&cluster, 0, &dir)?, None, status, true).await;
    ensure!(refused.is_none(), "{refused:?}");
    ensure!(cluster.members[0].log().contains("is not let in: TLS:"), "nothing is logged");
    cluster.check_logs()
}

#[tokio::test]
async fn a_member_speaks_for_itself_alone() -> Result<()> {
    let cluster = Cluster::healthy("locks-names", Options::default()).await?;
    let mut client = RaftClient::new(channel(&cluster, 0, &cluster.members[1].dir.join("tls"))?);
    let hello = |member: &str| HelloRequest {
        scope: SCOPE.into(),
        member: member.into(),
        ..HelloRequest::default()
    };
    client.hello(hello("n2")).await?;
    let refused = client.hello(hello("n3")).await.err().context("n2 speaks for n3")?;
    ensure!(refused.message().contains("cannot speak for member n3"), "{refused:?}");
    let join = JoinRequest { scope: SCOPE.into(), member: "n4".into(), ..JoinRequest::default() };
    let refused = client.join(join).await.err().context("n2 takes n4 in")?;
    ensure!(refused.code() == Code::PermissionDenied, "{refused:?}");
    cluster.check_logs()
}

/// Every member's files, made anew by this CA; the old ones stay in force until these fit together.
fn renew(cluster: &Cluster, ca: &Authority, believed: &str) -> Result<()> {
    for member in &cluster.members {
        let dir = member.dir.join("tls");
        let owner = cluster.ground.user;
        issue(ca, Role::Member, &member.name, &[&member.host], &dir, owner)?;
        believe(cluster, &dir, believed)?;
    }
    Ok(())
}

fn believe(cluster: &Cluster, dir: &Path, believed: &str) -> Result<()> {
    let file = paths(dir).ca;
    files::write(&file, believed, 0o644)?;
    if let Some((uid, gid)) = cluster.ground.user {
        std::os::unix::fs::chown(&file, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Until each member said so `times`.
async fn taken_up(cluster: &Cluster, times: usize) -> Result<()> {
    wait_for("members take up what lies there", Duration::from_secs(40), || async {
        for member in &cluster.members {
            let count = member.log().matches("took up new certificates").count();
            ensure!(count >= times, "{} did {count} times", member.name);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn certificates_and_their_ca_change_under_load_and_nobody_notices() -> Result<()> {
    let cluster = Cluster::healthy("locks-rotation", Options::default()).await?;
    let leader = cluster.leader().await?;
    let calm = Calm::of(&cluster).await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 100).await?;
    let old = keys::authority(&cluster.ground.dir)?;
    // Members' own.
    renew(&cluster, &old, old.cert())?;
    taken_up(&cluster, 1).await?;
    // The CA: believed beside the old one, then issuing, then alone.
    let new = Authority::create(&cluster.ground.dir.join("next"), SCOPE, CA_LIFETIME)?;
    let both = format!("{}{}", old.cert(), new.cert());
    for member in &cluster.members {
        believe(&cluster, &member.dir.join("tls"), &both)?;
    }
    taken_up(&cluster, 2).await?;
    renew(&cluster, &new, &both)?;
    taken_up(&cluster, 3).await?;
    for member in &cluster.members {
        believe(&cluster, &member.dir.join("tls"), new.cert())?;
    }
    taken_up(&cluster, 4).await?;
    // Whoever comes now is known by the new one alone.
    let status = "/howdah.control.v1.Control/Status";
    let (by_old, by_new) = (
        holder(&cluster, &old, Role::Viewer, "old")?,
        holder(&cluster, &new, Role::Viewer, "new")?,
    );
    files::write(&paths(&by_old).ca, new.cert(), 0o644)?;
    for index in 0..3 {
        let refused = refusal(&channel(&cluster, index, &by_new)?, None, status, true).await;
        ensure!(refused.is_none(), "{refused:?}");
        let refused = refusal(&channel(&cluster, index, &by_old)?, None, status, true).await;
        ensure!(refused.is_some(), "the old CA is still believed");
    }
    never_held_up(&writer).await?;
    writer.finish().await;
    let mut client = ControlClient::new(channel(&cluster, leader, &by_new)?);
    let mut answer = client.status(StatusRequest { watch: false }).await?.into_inner();
    let after = answer.message().await?.context("an answer")?;
    calm.holds(&cluster, &after)?;
    let log = cluster.members[leader].log();
    ensure!(!log.contains("are not taken up"), "files that fit were refused");
    cluster.check_logs()
}

/// All frames of a network's router, looked through for these words until told to stop.
struct Wire {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<(u64, Vec<String>)>>,
}

impl Wire {
    /// Between members alone: what a client says in the clear is its own affair.
    fn tap(net: &Net, words: Vec<Vec<u8>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let members: Vec<[u8; 4]> = (1..=3).map(|node| [10, 77, node, 2]).collect();
        let (router, stopped) = (net.router(), stop.clone());
        let thread = std::thread::spawn(move || {
            net::enter(&router)?;
            // Every frame of every interface there. Source: packet(7), ETH_P_ALL.
            let protocol = socket2::Protocol::from(i32::from(0x0003_u16.to_be()));
            let socket =
                socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, Some(protocol))?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            socket.set_recv_buffer_size(64 << 20)?;
            let (mut frames, mut found) = (0, Vec::new());
            let mut bytes = vec![0_u8; 1 << 17];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(count) = (&socket).read(&mut bytes) else { continue };
                let frame = &bytes[..count];
                let end = |at: usize| frame.get(at..at + 4).and_then(|part| part.try_into().ok());
                let ours = |part: Option<[u8; 4]>| part.is_some_and(|one| members.contains(&one));
                // Ethernet's header, then the addresses of IPv4's.
                if !ours(end(26)) || !ours(end(30)) {
                    continue;
                }
                frames += 1;
                for word in &words {
                    if frame.windows(word.len()).any(|part| part == word) {
                        found.push(String::from_utf8_lossy(word).into_owned());
                    }
                }
            }
            Ok((frames, found))
        });
        Self { stop, thread }
    }

    fn cut(self) -> Result<(u64, Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the tap panicked"))?
    }
}

/// In SQL, in WAL and in data files.
const MARKER: &str = "read-me-if-you-can";

/// Writes what the tap looks for.
fn write(cluster: &Cluster, leader: usize) -> Result<String> {
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS secrets (w text); INSERT INTO secrets SELECT '{MARKER}' \
         FROM generate_series(1, 2000)"
    );
    cluster.members[leader].psql(&sql)
}

/// The control: a user's own `ssl: off`, and the tap reads what standbys stream.
#[tokio::test]
async fn without_tls_the_tap_reads_what_standbys_stream() -> Result<()> {
    let Some(net) = Net::or_skip()? else { return Ok(()) };
    let mut cluster = Cluster::in_network("locks-tap", Options::default(), &net)?;
    for member in &mut cluster.members {
        member.parameters = "    ssl: off\n".to_owned();
    }
    cluster.configure()?;
    cluster.start_all().await?;
    let leader = cluster.leader().await?;
    let wire = Wire::tap(&net, vec![MARKER.as_bytes().to_vec()]);
    write(&cluster, leader)?;
    cluster.settle(SETTLE).await?;
    let (frames, found) = wire.cut()?;
    ensure!(found.len() > 5, "of {frames} frames {} could be read", found.len());
    cluster.check_logs()
}

#[tokio::test]
async fn nothing_that_members_say_to_each_other_can_be_read() -> Result<()> {
    let Some(net) = Net::or_skip()? else { return Ok(()) };
    let mut cluster = Cluster::in_network("locks-wire", Options::default(), &net)?;
    // And what a session of PostgreSQL begins with.
    let words = [MARKER, "replicator", "rewinder", "application_name", "SCRAM-SHA-256"];
    let wire = Wire::tap(&net, words.iter().map(|word| word.as_bytes().to_vec()).collect());
    cluster.start_all().await?;
    let first = cluster.leader().await?;
    if cluster.members[first].psql("SHOW ssl_library")?.is_empty() {
        eprintln!("SKIPPED: this PostgreSQL was built without TLS");
        wire.cut()?;
        cluster.passed();
        return Ok(());
    }
    write(&cluster, first)?;
    cluster.settle(SETTLE).await?;
    let sql = "SELECT count(*) FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) \
               WHERE ssl AND client_dn LIKE '%n%'";
    let encrypted = cluster.members[first].psql(sql)?;
    ensure!(encrypted == "2", "{encrypted} standbys stream through TLS");
    // A failover, whose old primary has WAL that nobody got, and is rewound; a hand-over; a copy.
    for index in (0..3).filter(|index| *index != first) {
        cluster.members[index].psql("ALTER SYSTEM SET primary_conninfo = ''")?;
        cluster.members[index].psql("SELECT pg_reload_conf()")?;
    }
    write(&cluster, first)?;
    cluster.members[first].kill_node();
    let second = cluster.other_leader(first, SETTLE).await?;
    cluster.start(first)?;
    cluster.settle(SETTLE).await?;
    ensure!(cluster.members[first].log().contains("rewinds to"), "it was not rewound");
    let third = (second + 1) % 3;
    cluster.switchover(&cluster.members[third].name.clone()).await?;
    cluster.settle(SETTLE).await?;
    cluster.reinit(&cluster.members[second].name.clone()).await?;
    cluster.settle(SETTLE).await?;
    write(&cluster, third)?;
    cluster.settle(SETTLE).await?;
    let (frames, found) = wire.cut()?;
    ensure!(frames > 1000, "only {frames} frames were seen");
    ensure!(found.is_empty(), "read on the wire: {:?}", &found[..found.len().min(5)]);
    eprintln!("{frames} frames between members, nothing to read");
    cluster.check_logs()
}
