//! Reads the certificates anew while the agent runs, renews this member's own where it has the CA's key, and says in
//! time what ends.
//!
//! Place: a task of its own, where `tls` is configured; and a moment of the start, before they are read first: a member
//! that was off for months has one that ended. State: when a renewal failed, in memory. Failure: files that do not fit
//! together are told of, and the last good ones stay in force; nothing is dropped for a reload. Killed half way: the
//! old pair or the new one lies there whole.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use howdah_locks::look::{Look, in_file, today};
use howdah_locks::{Identity, Keyring, Renewal, Role};

use crate::config::Config;
use crate::shell::Context;
use crate::troubles::Kind;

/// The files are looked at so often: whoever replaces them needs to tell nobody.
const LOOK: Duration = Duration::from_secs(5);
/// A CA's end takes longer to prepare.
const CA_NOTICE: Duration = Duration::from_secs(60 * 24 * 3600);
/// A renewal that failed is tried again after this; at once when its files have changed.
const AGAIN: Duration = Duration::from_secs(600);

/// Renews the own certificate if that is due, before it is read. What is wrong with the files is told by whoever reads
/// them next.
pub fn renew_at_start(config: &Config) {
    let Some(renewal) = config.renewal() else { return };
    let looks = in_file(&renewal.paths.cert).unwrap_or_default();
    let own = Identity::new(&config.scope, Role::Member, &config.name.0);
    // Another's, put there by mistake, is refused, and not made anew.
    let Some(cert) = looks.first().filter(|cert| cert.identity == own) else { return };
    if !cert.is_due(today()) {
        return;
    }
    match renewal.renew(cert) {
        Ok(()) => tracing::info!("renewed this member's certificate"),
        Err(why) => tracing::warn!(%why, "this member's certificate is due, and is not renewed"),
    }
}

/// Keeps looking, as long as the agent lives.
pub async fn keep(keyring: Keyring, context: Arc<Context>) {
    let renewal = context.config.renewal();
    let mut keeper = Keeper { keyring, context, renewal, failed: false, tried: None };
    loop {
        let trouble = match keeper.read_anew().await {
            Ok(()) => keeper.see_to().await,
            Err(told) => Some(told),
        };
        keeper.context.elephant.troubles.set(Kind::Certificates, trouble);
        tokio::time::sleep(LOOK).await;
    }
}

struct Keeper {
    keyring: Keyring,
    context: Arc<Context>,
    renewal: Option<Renewal>,
    /// What lay there at the last look did not fit.
    failed: bool,
    tried: Option<Tried>,
}

/// The last attempt to renew.
#[derive(Debug)]
struct Tried {
    at: SystemTime,
    /// Why it came to nothing.
    why: String,
    files: Stamps,
}

/// What shows that somebody changed a file: inode, and the time of its last change.
type Stamps = Vec<Option<(u64, i64, i64)>>;

impl Keeper {
    /// Takes up what lies there; the error is for people.
    async fn read_anew(&mut self) -> Result<(), String> {
        let (own, with) = (self.keyring.clone(), self.renewal.clone());
        // Small files, and yet a disk may hang.
        let read = move || (own.reload(), with.as_ref().map(stamps).unwrap_or_default());
        let read = tokio::task::spawn_blocking(read).await;
        let was_wrong = std::mem::replace(&mut self.failed, !matches!(read, Ok((Ok(_), _))));
        let (read, files) = read.map_err(|why| why.to_string())?;
        // Somebody mended something: what was in a renewal's way may be there no more.
        self.tried = self.tried.take().filter(|tried| tried.files == files);
        match read {
            Ok(true) => {
                let loaded = self.keyring.now();
                tracing::info!(ends = %day(loaded.cert.not_after), "took up new certificates");
                // PostgreSQL shows the same ones.
                if let Err(why) = self.context.elephant.reload().await {
                    tracing::debug!(%why, "PostgreSQL reads them when it starts");
                }
            }
            Ok(false) => {}
            // Whoever replaces them writes one after the other.
            Err(why) if !was_wrong => tracing::debug!(%why, "the certificates do not fit yet"),
            Err(why) => {
                return Err(format!("the certificates that lie there are not taken up: {why}"));
            }
        }
        Ok(())
    }

    /// Does what is to be done about those in force; what is left of it, for people.
    async fn see_to(&mut self) -> Option<String> {
        let loaded = self.keyring.now();
        self.context.counters.certificates_end(loaded.cert.not_after, loaded.ca.not_after);
        match todo(&loaded.cert, &loaded.ca, self.renewal.is_some(), self.tried.as_ref(), today()) {
            Todo::Nothing => None,
            Todo::Tell(text) => Some(text),
            // Somebody is at it.
            Todo::Renew if self.failed => None,
            Todo::Renew => self.renew(&loaded.cert).await,
        }
    }

    async fn renew(&mut self, cert: &Look) -> Option<String> {
        let (renewal, old) = (self.renewal.clone()?, cert.clone());
        let renew = move || (renewal.renew(&old), stamps(&renewal));
        let (renewed, files) = match tokio::task::spawn_blocking(renew).await {
            Ok((renewed, files)) => (renewed.map_err(|why| why.to_string()), files),
            Err(why) => (Err(why.to_string()), Stamps::new()),
        };
        let told = renewed.as_ref().err().map(|why| not_renewed(cert, why, today()));
        if renewed.is_ok() {
            tracing::info!("renewed this member's certificate");
        }
        // Should the next look not take it up, it is not made again and again.
        let why = renewed.err().unwrap_or_else(|| "the new one is not taken up".to_owned());
        self.tried = Some(Tried { at: today(), why, files });
        told
    }
}

fn stamps(renewal: &Renewal) -> Stamps {
    let Renewal { paths, ca_key } = renewal;
    let files = [&paths.ca, &paths.cert, &paths.key, ca_key].map(|path| path.as_path());
    let stamp = |path: &Path| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.ino(), meta.ctime(), meta.ctime_nsec()))
    };
    // Of a directory too: it may have been one that nobody could write to.
    files.into_iter().chain(files.iter().filter_map(|path| path.parent())).map(stamp).collect()
}

/// What is to be done about the certificates in force.
#[derive(Debug, PartialEq, Eq)]
enum Todo {
    Nothing,
    /// Issue the member's own anew.
    Renew,
    /// A person must do something.
    Tell(String),
}

/// Pure. `renews`: this member has a CA's key; `tried`: since when nothing has changed that was in its way.
fn todo(cert: &Look, ca: &Look, renews: bool, tried: Option<&Tried>, now: SystemTime) -> Todo {
    let waits = |tried: &&Tried| now.duration_since(tried.at).is_ok_and(|since| since < AGAIN);
    match tried.filter(waits) {
        _ if !cert.is_due(now) => {}
        _ if !renews => {
            return Todo::Tell(format!(
                "this member's certificate {}; renew it with `howdah pki renew`, it is taken up by itself",
                counts(cert, now)
            ));
        }
        Some(tried) => return Todo::Tell(not_renewed(cert, &tried.why, now)),
        None => return Todo::Renew,
    }
    if ca.left(now) < CA_NOTICE.min(ca.lifetime() / 3) {
        return Todo::Tell(format!(
            "the CA {} ends on {}; put its successor beside it in tls.ca on every member, then issue anew",
            ca.subject,
            day(ca.not_after)
        ));
    }
    Todo::Nothing
}

/// What is wrong with its time.
fn counts(cert: &Look, now: SystemTime) -> String {
    match cert.not_before > now {
        true => format!("counts from {} on only", day(cert.not_before)),
        false => format!("ends on {}", day(cert.not_after)),
    }
}

fn not_renewed(cert: &Look, why: &str, now: SystemTime) -> String {
    format!(
        "this member's certificate {} and is not renewed: {why}; it is tried again when a file changes, and every \
         {} min",
        counts(cert, now),
        AGAIN.as_secs() / 60
    )
}

fn day(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(day: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * day
    }

    fn look(from_day: u32, to_day: u32) -> Look {
        Look {
            identity: Identity::new("demo", Role::Member, "n1"),
            hosts: Vec::new(),
            subject: "CN=ca".into(),
            issuer: "CN=ca".into(),
            not_before: at(from_day),
            not_after: at(to_day),
            is_ca: false,
        }
    }

    #[test]
    fn what_is_to_be_done_follows_from_the_calendar_and_the_last_attempt() {
        let (fresh, ca) = (look(0, 90), look(0, 3650));
        let tried = |before: Duration, now: SystemTime| Tried {
            at: now - before,
            why: "the disk is full".into(),
            files: Stamps::new(),
        };
        let soon = Duration::from_secs(30);
        // Day, whether it has the CA's key, how long ago it tried; `renew`, or what is told.
        let table = [
            (60, false, None, ""),
            (60, true, None, ""),
            (60, true, Some(soon), ""),
            (61, false, None, "1970-04-01; renew it with `howdah pki renew`"),
            (61, true, None, "renew"),
            (61, true, Some(soon), "not renewed: the disk is full; it is tried again"),
            (61, true, Some(AGAIN - Duration::from_secs(1)), "the disk is full"),
            (61, true, Some(AGAIN), "renew"),
            (200, false, None, "ends on 1970-04-01"),
            (200, true, None, "renew"),
            (200, true, Some(soon), "the disk is full"),
        ];
        for (day, renews, ago, wanted) in table {
            let now = at(day);
            let tried = ago.map(|ago| tried(ago, now));
            let found = todo(&fresh, &ca, renews, tried.as_ref(), now);
            let told = match &found {
                Todo::Nothing => "",
                Todo::Renew => "renew",
                Todo::Tell(text) => text,
            };
            let fits = if wanted.is_empty() { told.is_empty() } else { told.contains(wanted) };
            assert!(fits, "day {day}, renews {renews}, tried {ago:?}: {found:?}");
        }
        // Made while the clock was ahead: nobody believes it yet.
        let early = look(100, 190);
        assert_eq!(todo(&early, &ca, true, None, at(60)), Todo::Renew);
        let told = todo(&early, &ca, false, None, at(60));
        assert!(
            matches!(&told, Todo::Tell(text) if text.contains("from 1970-04-11 on only; renew")),
            "{told:?}"
        );
        // A calendar that went back keeps it from trying no longer.
        let later = Tried { at: at(62), ..tried(soon, at(61)) };
        assert_eq!(todo(&fresh, &ca, true, Some(&later), at(61)), Todo::Renew);
    }

    #[test]
    fn a_cas_end_is_told_whoever_renews() {
        for renews in [false, true] {
            let (cert, ca) = (look(3580, 3700), look(0, 3650));
            let found = todo(&cert, &ca, renews, None, at(3600));
            assert!(matches!(&found, Todo::Tell(text) if text.contains("successor")), "{found:?}");
            assert_eq!(todo(&cert, &look(0, 3900), renews, None, at(3600)), Todo::Nothing);
        }
    }

    #[test]
    fn a_file_that_was_mended_shows() {
        let dir = tempfile::tempdir().unwrap();
        let renewal = Renewal {
            paths: howdah_locks::Paths::in_dir(dir.path()),
            ca_key: dir.path().join("ca.key"),
        };
        let before = stamps(&renewal);
        assert_eq!(stamps(&renewal), before);
        fs::write(&renewal.ca_key, "x").unwrap();
        let written = stamps(&renewal);
        assert_ne!(written, before);
        fs::rename(&renewal.ca_key, dir.path().join("away")).unwrap();
        assert_ne!(stamps(&renewal), written);
    }
}
