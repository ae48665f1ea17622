//! Orders that people give to this very member, on their way to the loop.

use tokio::sync::{mpsc, oneshot};

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Replace the data by a fresh copy.
    Reinit,
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
        let stopping = || "this member is stopping".to_owned();
        self.0.send((order, answer)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }
}
