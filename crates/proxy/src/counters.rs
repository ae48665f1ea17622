//! What happens at a door, counted for `/metrics`. Memory only.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counted {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of one door on one thread.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($name: AtomicU64,)*
        }

        /// What was counted at one door.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds what one thread counted.
            pub fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.load(Relaxed);)*
            }
        }
    };
}

counted! {
    /// Connections that came.
    accepted,
    /// Sessions that began.
    begun,
    /// Connections that waited, since there was nowhere to go.
    waited,
    /// Connections that were refused, with an error or without.
    refused,
    /// Sessions that were reset because their primary's time was over.
    cut,
    /// Servers that did not take a client, who was led to one again unseen.
    repeated,
    /// Requests to cancel.
    cancels,
    /// Commits whose wait was cancelled, which became errors.
    traps,
    /// Bytes from clients to servers.
    up,
    /// Bytes from servers to clients.
    down,
}

impl Counters {
    pub(crate) fn accept(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    pub(crate) fn wait(&self) {
        self.waited.fetch_add(1, Relaxed);
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn cut(&self) {
        self.cut.fetch_add(1, Relaxed);
    }

    pub(crate) fn repeat(&self) {
        self.repeated.fetch_add(1, Relaxed);
    }

    pub(crate) fn cancel(&self) {
        self.cancels.fetch_add(1, Relaxed);
    }

    pub(crate) fn trap(&self) {
        self.traps.fetch_add(1, Relaxed);
    }

    pub(crate) fn bytes_up(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn bytes_down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Relaxed);
    }
}
