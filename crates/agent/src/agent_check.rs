//! The agent check: a port that tells HAProxy at once who may be gone to.
//!
//! Place: a task of its own, where `proxy.agent_check` is written. HAProxy connects, says which of its
//! lists it asks for (`primary` or `replica`, by `agent-send`), and reads one line. State: none.
//! Source: HAProxy's documentation, "agent-check". The answer is pure.

use std::sync::Arc;
use std::time::Duration;

use howdah_core::MemberName;
use howdah_proxy::route::{Picture, Unfit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Checks at once; HAProxy has one under way for each of its servers.
const AT_ONCE: usize = 64;
/// How long a check may take to say what it asks.
const ASKING: Duration = Duration::from_secs(1);

/// Answers, as long as the agent lives.
pub async fn serve(listener: TcpListener, me: MemberName, pictures: watch::Receiver<Picture>) {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = at_once.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (me, pictures) = (me.clone(), pictures.clone());
                tokio::spawn(async move {
                    // A check that breaks off is asked again.
                    let _ = tokio::time::timeout(ASKING * 2, check(stream, &me, pictures)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "an agent check could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn check(
    mut stream: TcpStream,
    me: &MemberName,
    pictures: watch::Receiver<Picture>,
) -> std::io::Result<()> {
    let mut asked = Vec::new();
    let read = async {
        while !asked.contains(&b'\n') && asked.len() < 64 {
            if stream.read_buf(&mut asked).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    // One that asks nothing means the primary.
    if let Ok(read) = tokio::time::timeout(ASKING, read).await {
        read?;
    }
    let replica = asked.starts_with(b"replica");
    let answer = answer(&pictures.borrow().clone(), me, replica);
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// HAProxy's words for a server, and why behind the `#`: one line, whatever members said.
pub(crate) fn answer(picture: &Picture, me: &MemberName, replica: bool) -> String {
    format!("{}\n", words(picture, me, replica).replace(char::is_control, " "))
}

fn words(picture: &Picture, me: &MemberName, replica: bool) -> String {
    if replica {
        let own = picture.members.iter().find(|place| place.name == *me);
        return match own.map_or(Some(Unfit::Down), |own| own.unfit) {
            None => "up ready".to_owned(),
            // Its readers may stay.
            Some(why @ (Unfit::Behind | Unfit::NotStreaming)) => format!("up drain #{why}"),
            Some(why) => format!("down #{why}"),
        };
    }
    match &picture.leader {
        None => format!("down #{}", picture.why_none),
        Some(leader) if leader.name != *me => format!("down #{} leads", leader.name),
        Some(leader) if leader.closing => "up drain #hands over".to_owned(),
        Some(leader) if !leader.open => format!("down #{}", leader.why_not),
        Some(_) => "up ready".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use howdah_core::Epoch;
    use howdah_proxy::route::{Leader, Place, PrimaryReads};

    use super::*;

    #[test]
    fn each_list_is_told_of_this_member_in_haproxys_words() {
        let place = |name: &str, unfit| Place {
            name: name.into(),
            address: String::new(),
            zone: String::new(),
            serves: true,
            unfit,
        };
        let leader = Leader {
            name: "n1".into(),
            address: String::new(),
            epoch: Epoch(1),
            until: None,
            open: true,
            why_not: String::new(),
            closing: false,
            behind: Vec::new(),
        };
        let mut picture = Picture {
            leader: Some(leader),
            why_none: "an election is open for epoch 2".into(),
            members: vec![place("n1", Some(Unfit::Leads)), place("n2", None)],
            primary_reads: PrimaryReads::Never,
            zone: String::new(),
        };
        let told = |picture: &Picture, name: &str, replica| answer(picture, &name.into(), replica);
        assert_eq!(told(&picture, "n1", false), "up ready\n");
        assert_eq!(told(&picture, "n1", true), "down #leads\n");
        assert_eq!(told(&picture, "n2", false), "down #n1 leads\n");
        assert_eq!(told(&picture, "n2", true), "up ready\n");
        picture.leader.as_mut().unwrap().closing = true;
        picture.members[1].unfit = Some(Unfit::Behind);
        assert_eq!(told(&picture, "n1", false), "up drain #hands over\n");
        assert_eq!(told(&picture, "n2", true), "up drain #lies too far behind\n");
        picture.leader = None;
        assert_eq!(told(&picture, "n1", false), "down #an election is open for epoch 2\n");
        picture.why_none = "nobody\nup ready".into();
        assert_eq!(told(&picture, "n1", false), "down #nobody up ready\n");
    }
}
