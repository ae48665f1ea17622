//! A fault of the network that comes beside another one: two troubles are seldom asked whether they would
//! like to come one after the other.

use std::time::Duration;

use anyhow::Result;
use howdah_tests::dice::Dice;
use howdah_tests::net::{Net, Silence};

use super::{Nemesis, Ports, cut};

/// Of that many faults one has company.
const ONE_IN: usize = 3;

/// Kinds that may come beside another.
const KINDS: [Nemesis; 5] =
    [Nemesis::Deaf, Nemesis::Mute, Nemesis::Apart, Nemesis::PeersCut, Nemesis::PostgresCut];

/// The second fault.
pub struct Company {
    /// Which, and whom it befalls.
    pub name: String,
    silence: Silence,
    /// From the first fault's begin to its own.
    after: Duration,
    length: Duration,
}

impl Company {
    /// Now and then one: any kind, of any member; it begins within the first fault's length.
    ///
    /// # Errors
    /// If the member has no number in the network.
    pub fn perhaps(
        ports: &Ports,
        names: &[String],
        net: &Net,
        length: Duration,
        dice: &mut Dice,
    ) -> Result<Option<Self>> {
        if dice.throw(ONE_IN) != 0 {
            return Ok(None);
        }
        let (kind, index) = (KINDS[dice.throw(KINDS.len())], dice.throw(names.len()));
        Ok(Some(Self {
            name: format!("{} of {}", kind.name(), names[index]),
            silence: cut::silence(kind, net, ports, index)?,
            after: dice.between(Duration::ZERO, length.min(Duration::from_secs(4))),
            length,
        }))
    }

    /// Comes and goes.
    ///
    /// # Errors
    /// If it cannot be done or undone.
    pub async fn come(&self, net: &Net) -> Result<()> {
        tokio::time::sleep(self.after).await;
        net.cut(&self.silence)?;
        tokio::time::sleep(self.length).await;
        net.mend(&self.silence)
    }
}
