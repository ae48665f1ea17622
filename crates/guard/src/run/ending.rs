//! How the guard ends: asked by a signal, or because the agent ended for good.

use std::time::Duration;

use howdah_core::BootInstant;
use nix::sys::signal::Signal;

use super::Guard;
use super::kill::{Why, send};
use crate::clock::boottime_now;
use crate::log::log;
use crate::wire::Event;

/// The agent was called wrongly.
const USAGE: i32 = 64;
/// The agent could not make something durable.
const INTERNAL: i32 = 70;
/// The agent found a foreign or damaged directory.
const FOREIGN: i32 = 78;
/// Everything had to be killed because the agent did not end in time.
const KILLED: i32 = 1;

/// How far the end has come.
#[derive(Debug)]
pub(super) enum Ending {
    No,
    /// The agent was told, and has until then.
    Asked {
        until: BootInstant,
        fast: bool,
        shut_down: bool,
    },
    /// The agent is gone or being killed; PostgreSQL stops, and is killed then.
    Finishing {
        code: i32,
        until: BootInstant,
        killed: bool,
    },
}

impl Ending {
    pub fn due(&self) -> Option<BootInstant> {
        match self {
            Self::No | Self::Finishing { killed: true, .. } => None,
            Self::Asked { until, .. } | Self::Finishing { until, .. } => Some(*until),
        }
    }

    /// Whether nothing new is begun any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Finishing { .. })
    }
}

impl Guard {
    /// SIGTERM, or SIGINT or a second SIGTERM for a fast one.
    pub(super) fn asked_to_end(&mut self, fast: bool) {
        let until = boottime_now() + self.options.stop_grace;
        let (until, fast, shut_down) = match self.ending {
            Ending::No => (until, fast, false),
            Ending::Asked { until, shut_down, .. } => (until, true, shut_down),
            Ending::Finishing { .. } => return,
        };
        log!("asked to end{}", if fast { " fast" } else { "" });
        if self.agent.pid().is_none() {
            return self.finish(0, false);
        }
        self.ending = Ending::Asked { until, fast, shut_down };
        self.tell(Event::Terminate { fast });
    }

    /// The agent says that everything is stopped.
    pub(super) fn agent_shuts_down(&mut self) {
        let until = boottime_now() + self.options.stop_grace;
        self.ending = match self.ending {
            Ending::No => Ending::Asked { until, fast: false, shut_down: true },
            Ending::Asked { until, fast, .. } => Ending::Asked { until, fast, shut_down: true },
            Ending::Finishing { code, until, killed } => Ending::Finishing { code, until, killed },
        };
    }

    /// Whether the guard ends since the agent ended like this.
    pub(super) fn ends_with_agent(&mut self, code: Option<i32>) -> bool {
        match (code, &self.ending) {
            (_, Ending::Finishing { .. }) => {}
            (Some(INTERNAL), _) => {
                log!("the agent could not go on (exit code 70); PostgreSQL is killed");
                self.finish(INTERNAL, true);
            }
            (Some(code @ (USAGE | FOREIGN)), _) => {
                log!("the agent must not be started again (exit code {code}); PostgreSQL stops");
                self.finish(code, false);
            }
            (_, Ending::Asked { .. }) => self.finish(0, false),
            (_, Ending::No) => return false,
        }
        true
    }

    /// From here on only towards the end.
    fn finish(&mut self, code: i32, kill: bool) {
        let now = boottime_now();
        let grace = if kill { Duration::ZERO } else { self.options.stop_grace };
        self.ending = Ending::Finishing { code, until: now + grace, killed: kill };
        self.agent.no_more();
        self.let_vip_go();
        if kill {
            self.kill_postgres(Why::Ending, now);
        } else if let Some(postmaster) = &self.postmaster {
            send(postmaster.pid, Signal::SIGINT);
        }
    }

    /// The exit code once everything is gone.
    pub(super) fn carry_on_ending(&mut self) -> Option<i32> {
        let now = boottime_now();
        match self.ending {
            Ending::Asked { until, .. } if now >= until => {
                log!("the agent did not end in time; everything is killed");
                self.finish(KILLED, true);
                self.kill_agent();
            }
            Ending::Finishing { code, until, killed: false } if now >= until => {
                log!("PostgreSQL did not stop in time; it is killed");
                self.ending = Ending::Finishing { code, until, killed: true };
                self.kill_postgres(Why::Ending, now);
            }
            _ => {}
        }
        let Ending::Finishing { code, .. } = self.ending else { return None };
        let over = self.agent.all_gone() && self.postmaster.is_none() && self.killing.is_none();
        over.then_some(code)
    }
}
