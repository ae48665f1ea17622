//! What clients meet first: the doors, the poolers, HAProxy's check, and the virtual address. Opened before anything is promised to
//! anybody, begun with the other tasks.

use std::sync::Arc;
use std::time::Duration;

use howdah_proxy::Doors;
use howdah_proxy::route::Picture;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bouncers::Bouncers;
use crate::config::Config;
use crate::shell::Context;
use crate::{agent_check, doors, vip};

/// How long sessions with other members may go on when this one stops.
const DRAIN: Duration = Duration::from_secs(10);

/// What clients meet first.
pub struct Front {
    doors: Option<Arc<Doors>>,
    check: Option<TcpListener>,
}

impl Front {
    /// Opens what is configured; the threads that doors need are not made for none.
    ///
    /// # Errors
    /// Which port cannot be listened on, and why.
    pub async fn open(config: &Config) -> Result<Self, String> {
        let check = match config.proxy.agent_check {
            None => None,
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                let why = |error| {
                    format!("listen on {address} (proxy.agent_check): {error}; is it taken?")
                };
                Some(bound.map_err(why)?)
            }
        };
        let doors = match config.proxy.listen.is_empty() {
            true => None,
            false => {
                let doors = Doors::open(&config.proxy.options());
                Some(Arc::new(doors.map_err(|why| why.to_string())?))
            }
        };
        Ok(Self { doors, check })
    }

    /// Begins to keep it right.
    pub fn begin(&mut self, context: &Arc<Context>) -> Vec<JoinHandle<()>> {
        let bouncers = Bouncers::start(&context.config.pgbouncer);
        let check = self.check.take();
        let moves = context.config.vip.is_some();
        if self.doors.is_none() && bouncers.is_none() && check.is_none() && !moves {
            return Vec::new();
        }
        if let Some(doors) = &self.doors {
            context.counters.count_doors(doors.clone());
        }
        let (pictures, seen) = watch::channel(Picture::default());
        let kept = doors::keep(context.clone(), self.doors.clone(), bouncers, pictures);
        let mut tasks = vec![tokio::spawn(kept)];
        if moves {
            tasks.push(tokio::spawn(vip::keep(context.clone(), seen.clone())));
        }
        if let Some(check) = check {
            tasks.push(tokio::spawn(agent_check::serve(check, context.me.clone(), seen)));
        }
        tasks
    }

    /// Sessions with other members end, or are ended.
    pub async fn drain(&self) {
        if let Some(doors) = &self.doors {
            doors.drain(DRAIN).await;
        }
    }
}
