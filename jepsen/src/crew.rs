//! The clients of a run: one set of them beside each member, in its network, so that a primary that is
//! cut off is cut off together with clients; one that finds whichever is writable; one that goes through the
//! members' doors; and one that a load balancer leads there. Or all of them go through the doors.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_tests::dice::Dice;
use howdah_tests::net;
use howdah_tests::wait_for;
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;

use crate::check::append::{Step, Txn};
use crate::check::bank::BankOp;
use crate::check::set::SetOp;
use crate::client::{Failed, connect};
use crate::history::{History, Kind, Process};
use crate::record::{Note, Recorder};
use crate::workload::{Append, Bank, Counter, Place, Registers, Set, Shared, Workload, work};

/// Pause of a client between two operations.
const PACE: Duration = Duration::from_millis(60);
/// Limit of the last reads.
const LAST_READS: Duration = Duration::from_secs(60);

/// The clients, at work until [`Crew::finish`].
pub struct Crew {
    /// When it began: histories count from then.
    pub began: Instant,
    numbers: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    anywhere: Config,
    set: (Set, Arc<Recorder>),
    append: (Append, Arc<Recorder>),
    register: (Registers, Arc<Recorder>),
    bank: (Bank, Arc<Recorder>),
    counter: (Counter, Arc<Recorder>),
}

/// What the clients wrote down.
pub struct Histories {
    /// Of the set.
    pub set: History,
    /// Of the lists.
    pub append: History,
    /// Of the registers.
    pub register: History,
    /// Of the bank.
    pub bank: History,
    /// Of the counters.
    pub counter: History,
}

impl Histories {
    /// Of a run that was written into `dir`.
    ///
    /// # Errors
    /// Which file cannot be read, and why.
    pub fn read(dir: &Path) -> Result<Self> {
        let read = |name: &str| -> Result<History> {
            let path = dir.join(format!("{name}.jsonl"));
            let text = std::fs::read_to_string(&path);
            let text = text.with_context(|| format!("read {}", path.display()))?;
            History::parse(&text).with_context(|| path.display().to_string())
        };
        Ok(Self {
            set: read("set")?,
            append: read("append")?,
            register: read("register")?,
            bank: read("bank")?,
            counter: read("counter")?,
        })
    }

    /// How many operations were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let acked = |history: &History| {
            history.events.iter().filter(|event| event.kind == Kind::Ok).count()
        };
        self.all().iter().map(|(_, history)| acked(history)).sum()
    }

    /// All of them, by name.
    pub fn all(&self) -> [(&'static str, &History); 5] {
        [
            ("set", &self.set),
            ("append", &self.append),
            ("register", &self.register),
            ("bank", &self.bank),
            ("counter", &self.counter),
        ]
    }
}

/// What the tables of all workloads are made with, by the superuser.
pub fn tables() -> String {
    let tables =
        [Set::TABLES, Append::TABLES, Registers::TABLES, Bank::TABLES, Counter::TABLES].join("; ");
    format!("{tables}; GRANT ALL ON ALL TABLES IN SCHEMA public TO tester")
}

/// A member as clients see it.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its name.
    pub name: String,
    /// Where its PostgreSQL listens.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Its door for writes, where it has one.
    pub door: Option<u16>,
    /// The network that its clients share with it.
    pub netns: Option<String>,
}

impl Seat {
    fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    fn door(&self) -> Option<(&str, u16)> {
        Some((&self.host, self.door?))
    }
}

/// All members.
#[derive(Clone, Debug)]
pub struct Seats {
    /// By number.
    pub members: Vec<Seat>,
    /// The network of clients that belong to no member.
    pub clients: Option<String>,
    /// Port on 127.0.0.1, in that network, of a load balancer that leads to who can be written to.
    pub balancer: Option<u16>,
    /// All clients go through the members' doors, those beside a member through its own.
    pub through_doors: bool,
}

fn config_of<'a>(places: impl IntoIterator<Item = (&'a str, u16)>) -> Config {
    let mut config = Config::new();
    for (host, port) in places {
        config.host(host).port(port);
    }
    config
        .user("tester")
        .password(howdah_tests::cluster::PASSWORD)
        .dbname("postgres")
        .application_name("howdah storm")
        .connect_timeout(Duration::from_millis(500));
    config
}

impl Crew {
    /// Begins. Histories are written into `dir`.
    ///
    /// # Errors
    /// If a file or a thread cannot be made.
    pub fn start(seats: &Seats, dir: &Path, seed: u64) -> Result<Self> {
        let began = Instant::now();
        let recorder = |name: &str| -> Result<Arc<Recorder>> {
            let path = dir.join(format!("{name}.jsonl"));
            let recorder = Recorder::create(&path, began);
            Ok(Arc::new(recorder.with_context(|| format!("create {}", path.display()))?))
        };
        let doors: Vec<_> = seats.members.iter().filter_map(Seat::door).collect();
        let mut anywhere = config_of(seats.members.iter().map(Seat::place));
        anywhere.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if seats.through_doors {
            ensure!(doors.len() == seats.members.len(), "not every member has a door");
            anywhere = config_of(doors.clone());
        }
        let by_port = |seat: &Seat| (seat.port.to_string(), seat.name.clone());
        let mut names: BTreeMap<_, _> = seats.members.iter().map(by_port).collect();
        if names.len() < seats.members.len() {
            names.clear();
        }
        let names = Arc::new(names);
        let somewhere =
            |config: Config| Place { config, node: None, names: names.clone(), pace: PACE };
        let mut crew = Self {
            began,
            numbers: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
            anywhere,
            set: (Set::default(), recorder("set")?),
            append: (Append::default(), recorder("append")?),
            register: (Registers::default(), recorder("register")?),
            bank: (Bank, recorder("bank")?),
            counter: (Counter::default(), recorder("counter")?),
        };
        for (seat, number) in seats.members.iter().zip(1..) {
            let place = match seat.door().filter(|_| seats.through_doors) {
                Some(door) => somewhere(config_of([door])),
                None => {
                    Place { node: Some(seat.name.clone()), ..somewhere(config_of([seat.place()])) }
                }
            };
            crew.spawn(place, seat.netns.clone(), Dice(seed ^ number))?;
        }
        let place = somewhere(crew.anywhere.clone());
        crew.spawn(place, seats.clients.clone(), Dice(seed))?;
        if !doors.is_empty() && !seats.through_doors {
            crew.spawn(somewhere(config_of(doors)), seats.clients.clone(), Dice(seed ^ 100))?;
        }
        if let Some(port) = seats.balancer {
            let place = somewhere(config_of([("127.0.0.1", port)]));
            crew.spawn(place, seats.clients.clone(), Dice(!seed))?;
        }
        Ok(crew)
    }

    fn shared(&self, recorder: &Arc<Recorder>) -> Shared {
        Shared {
            recorder: Arc::clone(recorder),
            numbers: Arc::clone(&self.numbers),
            stop: Arc::clone(&self.stop),
        }
    }

    /// One client of each workload, on a thread of their own.
    fn spawn(&mut self, place: Place, netns: Option<String>, mut dice: Dice) -> Result<()> {
        let mut dice = || Dice(dice.throw(1 << 30) as u64);
        let (set, append) = (self.set.0.clone(), self.append.0.clone());
        let (register, bank, counter) =
            (self.register.0.clone(), self.bank.0.clone(), self.counter.0.clone());
        let shared = [&self.set.1, &self.append.1, &self.register.1, &self.bank.1, &self.counter.1]
            .map(|recorder| self.shared(recorder));
        let dice = [dice(), dice(), dice(), dice(), dice()];
        let thread = std::thread::Builder::new().name("clients".into()).spawn(move || {
            if let Some(name) = netns
                && net::enter(&name).is_err()
            {
                return;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            let [s1, s2, s3, s4, s5] = shared;
            runtime.block_on(async {
                tokio::join!(
                    work(set, place.clone(), s1, dice[0]),
                    work(append, place.clone(), s2, dice[1]),
                    work(register, place.clone(), s3, dice[2]),
                    work(bank, place.clone(), s4, dice[3]),
                    work(counter, place.clone(), s5, dice[4]),
                );
            });
        })?;
        self.threads.push(thread);
        Ok(())
    }

    fn recorders(&self) -> [&Recorder; 5] {
        [&self.set.1, &self.append.1, &self.register.1, &self.bank.1, &self.counter.1]
            .map(Arc::as_ref)
    }

    /// How many operations were acknowledged so far.
    pub fn acks(&self) -> usize {
        self.recorders().iter().map(|recorder| recorder.acks()).sum()
    }

    /// Times of all acknowledgements since `from`, sorted, nanoseconds, and some before it.
    pub fn acked_since(&self, from: u64) -> Vec<u64> {
        let all = self.recorders().map(|recorder| recorder.acked_since(from));
        let mut all = all.concat();
        all.sort_unstable();
        all
    }

    /// Ends the clients, reads everything once more, and gives what was written down. What is not `whole` may
    /// serve all the same; where it does not, nobody has read last.
    ///
    /// # Errors
    /// If a whole system does not let itself be read, or a history could not be written.
    pub async fn finish(mut self, whole: bool) -> Result<Histories> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // A panic of a client is told by its message; its history ends there.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        if let Err(why) = self.last_reads().await
            && whole
        {
            return Err(why);
        }
        Ok(Histories {
            set: self.set.1.history()?,
            append: self.append.1.history()?,
            register: self.register.1.history()?,
            bank: self.bank.1.history()?,
            counter: self.counter.1.history()?,
        })
    }

    async fn last_reads(&self) -> Result<()> {
        let (set, recorder) = self.set.clone();
        self.last_read(set, &recorder, SetOp::Read(Vec::new())).await?;
        let (bank, recorder) = self.bank.clone();
        self.last_read(bank, &recorder, BankOp::Read(Vec::new())).await?;
        let (append, recorder) = self.append.clone();
        for list in append.lists() {
            let read = Txn(vec![Step::Read(list, None)]);
            self.last_read(append.clone(), &recorder, read).await?;
        }
        Ok(())
    }

    async fn last_read<W: Workload + Clone>(
        &self,
        workload: W,
        recorder: &Recorder,
        op: W::Op,
    ) -> Result<()> {
        wait_for("a last read", LAST_READS, || async {
            let session = connect(&self.anywhere).await.map_err(anyhow::Error::msg)?;
            let process = Process::Client(self.numbers.fetch_add(1, Ordering::SeqCst));
            recorder.write(process, Kind::Invoke, &op, Note::default());
            let done = workload.clone().run(&session, &op).await;
            let (kind, value, why) = match done {
                Ok((value, _)) => (Kind::Ok, value, None),
                // A read takes no effect, whatever became of it.
                Err(Failed::Certain(why) | Failed::Unknown(why)) => {
                    (Kind::Fail, op.clone(), Some(why))
                }
            };
            let note = Note { error: why.clone(), ..Note::default() };
            recorder.write(process, kind, &value, note);
            why.map_or(Ok(()), |why| Err(anyhow::Error::msg(why)))
        })
        .await
    }
}
