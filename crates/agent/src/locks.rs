//! Reads the certificates anew while the agent runs, and says in time when they end.
//!
//! Place: a task of its own, where `tls` is configured. State: none beside the keyring's. Failure: files that do not fit
//! together are told of, and the last good ones stay in force; nothing is dropped for a reload.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use howdah_locks::Keyring;
use howdah_locks::look::{Look, today};

use crate::elephant::Elephant;
use crate::troubles::Kind;

/// The files are looked at so often: whoever replaces them needs to tell nobody.
const LOOK: Duration = Duration::from_secs(5);
/// A CA's end takes longer to prepare.
const CA_NOTICE: Duration = Duration::from_secs(60 * 24 * 3600);

/// Keeps looking, as long as the agent lives.
pub async fn keep(keyring: Keyring, elephant: Arc<Elephant>) {
    let mut failed = false;
    loop {
        let own = keyring.clone();
        // Small files, and yet a disk may hang.
        let read = tokio::task::spawn_blocking(move || own.reload()).await;
        let was_wrong = failed;
        failed = !matches!(read, Ok(Ok(_)));
        let trouble = match read {
            Ok(Ok(true)) => {
                let loaded = keyring.now();
                tracing::info!(ends = %day(loaded.cert.not_after), "took up new certificates");
                // PostgreSQL shows the same ones.
                if let Err(why) = elephant.reload().await {
                    tracing::debug!(%why, "PostgreSQL reads them when it starts");
                }
                ends(&keyring)
            }
            Ok(Ok(false)) => ends(&keyring),
            // Whoever replaces them writes one after the other.
            Ok(Err(why)) if !was_wrong => {
                tracing::debug!(%why, "the certificates do not fit yet");
                ends(&keyring)
            }
            Ok(Err(why)) => {
                Some(format!("the certificates that lie there are not taken up: {why}"))
            }
            Err(why) => Some(why.to_string()),
        };
        elephant.troubles.set(Kind::Certificates, trouble);
        tokio::time::sleep(LOOK).await;
    }
}

fn ends(keyring: &Keyring) -> Option<String> {
    let (loaded, now) = (keyring.now(), today());
    ending(&loaded.cert, &loaded.ca, now)
}

/// What ends soon, and what to do. Pure.
fn ending(cert: &Look, ca: &Look, now: SystemTime) -> Option<String> {
    if cert.is_due(now) {
        return Some(format!(
            "this member's certificate ends on {}; renew it with `howdah pki renew`, it is taken up by itself",
            day(cert.not_after)
        ));
    }
    (ca.left(now) < CA_NOTICE.min(ca.lifetime() / 3)).then(|| {
        format!(
            "the CA {} ends on {}; put its successor beside it in tls.ca on every member, then issue anew",
            ca.subject,
            day(ca.not_after)
        )
    })
}

fn day(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(from_day: u64, to_day: u64) -> Look {
        let at = |day| SystemTime::UNIX_EPOCH + Duration::from_secs(day * 24 * 3600);
        Look {
            identity: howdah_locks::Identity::new("demo", howdah_locks::Role::Member, "n1"),
            hosts: Vec::new(),
            subject: "CN=ca".into(),
            issuer: "CN=ca".into(),
            not_before: at(from_day),
            not_after: at(to_day),
            is_ca: false,
        }
    }

    #[test]
    fn an_end_is_told_a_third_of_its_life_before() {
        let (cert, ca) = (look(0, 90), look(0, 3650));
        let told = |day: u64| {
            ending(&cert, &ca, SystemTime::UNIX_EPOCH + Duration::from_secs(day * 24 * 3600))
        };
        assert_eq!(told(60), None);
        assert!(told(61).unwrap().contains("1970-04-01"), "{:?}", told(61));
        let ca_ends = ending(
            &look(3580, 3700),
            &ca,
            SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * 24 * 3600),
        );
        assert!(ca_ends.unwrap().contains("successor"));
    }
}
