//! What goes wrong, and how it comes back.

use howdah_core::rails::rails;
use howdah_core::{Command, Epoch, WallTime};
use howdah_testkit::wal::Wal;

use crate::act::Act;
use crate::world::{Agent, Id, World, name};

impl World {
    pub(crate) fn fault(&mut self, act: &Act) -> Option<()> {
        match act {
            Act::Deafen(id) => {
                self.left.deaf -= 1;
                self.member(*id).deaf = true;
            }
            Act::Deadline(id) => {
                self.left.deadline -= 1;
                self.down(*id);
                let member = self.member(*id);
                member.guard.incarnation.0 += 1;
                member.guard.armed = None;
                if let Some(agent) = &mut member.agent {
                    (agent.armed, agent.own_renewal, agent.doing) = (None, false, None);
                }
            }
            Act::Crash(id) => {
                self.left.crash -= 1;
                self.down(*id);
            }
            Act::KillAgent(id) => {
                self.left.agent -= 1;
                let member = self.member(*id);
                member.agent = None;
                if let Some(server) = &mut member.server {
                    // What it had proven, nobody knows any more.
                    server.in_force_at = None;
                }
            }
            Act::KillMachine(id) => {
                self.left.machine -= 1;
                self.lose_machine(*id);
            }
            Act::Wipe(id) => {
                self.left.wipe -= 1;
                self.lose_machine(*id);
                let disk = &mut self.member(*id).disk;
                (disk.whole, disk.half_done, disk.promise) = (false, false, Epoch(0));
                disk.wal = Wal::default();
                if rails().data_id {
                    disk.draw(*id);
                }
            }
            Act::Switchover(to) => {
                self.left.switchover -= 1;
                let record = self.log.state.held()?;
                let (epoch, from) = (record.epoch, record.holder.clone());
                let (to, at) = (name(*to), WallTime(0));
                self.commit(&Command::RequestSwitchover { epoch, from, to, at });
            }
            Act::Fence(id) => {
                self.left.fence -= 1;
                let (member, at) = (name(*id), WallTime(0));
                self.commit(&Command::SetFence { member, fenced: true, at });
            }
            _ => return None,
        }
        Some(())
    }

    fn lose_machine(&mut self, id: Id) {
        self.down(id);
        let member = self.member(id);
        (member.agent, member.up) = (None, false);
        member.guard.incarnation.0 += 1;
        member.guard.armed = None;
    }

    pub(crate) fn restart(&mut self, id: Id) {
        let newest = self.log.clone();
        let member = self.member(id);
        member.up = true;
        member.lives += 1;
        member.agent = Some(Agent { life: (member.lives, 0), ..Agent::default() });
        if !member.deaf {
            member.applied = newest;
        }
        self.take_in(id);
    }
}
