//! Orders that people give to this very member, on their way to the loop.

use tokio::sync::{mpsc, oneshot};

use crate::reload::Reloaded;

/// What is wanted.
#[derive(Debug)]
pub enum Order {
    /// Replace the data by a fresh copy.
    Reinit,
    /// Restart PostgreSQL.
    Restart,
    /// Read the configuration again; what came of it goes here.
    Reload(oneshot::Sender<Result<Reloaded, String>>),
}

/// An order and where its answer goes: accepted, or why not.
pub type Ordered = (Order, oneshot::Sender<Result<(), String>>);

/// The way to the loop.
#[derive(Clone, Debug)]
pub struct Orders(mpsc::Sender<Ordered>);

impl Orders {
    /// A way, and its end at the loop.
    pub fn channel() -> (Self, mpsc::Receiver<Ordered>) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(sender), receiver)
    }

    /// Gives an order and waits until the loop took it or refused it.
    ///
    /// # Errors
    /// Why it was refused, for people.
    pub async fn give(&self, order: Order) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        self.0.send((order, answer)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }

    /// Has the configuration read again, and waits for what came of it.
    ///
    /// # Errors
    /// Why it was not taken, for people; then nothing was changed.
    pub async fn reload(&self) -> Result<Reloaded, String> {
        let (answer, answered) = oneshot::channel();
        self.give(Order::Reload(answer)).await?;
        answered.await.map_err(|_| stopping())?
    }
}

fn stopping() -> String {
    "this member is stopping".to_owned()
}
