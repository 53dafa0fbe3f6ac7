//! Carries out what a plan says of the node, and sorts what it says of replicas.

use std::collections::BTreeMap;

use tracing::info;

use super::Agent;
use super::desired::Desired;
use super::observed::Observed;
use super::op::{Op, Step, Subject};
use crate::model::ReplicaKey;
use crate::wireguard::Change;

/// What of a plan has been carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carried {
    /// All that concerns the node: no entry in the maps and no device is left over from anybody.
    pub(super) out: bool,
    /// The device knows the other nodes as their records say.
    pub(super) tunnels: bool,
    /// The device has the key that the files have.
    pub(super) keys: bool,
}

impl Agent {
    /// Does what concerns the node; gives the steps of each replica, which are still to be done.
    pub(super) async fn carry_out(
        &mut self,
        ops: Vec<Op>,
        desired: &Desired,
        observed: &Observed,
    ) -> (BTreeMap<ReplicaKey, Vec<Step>>, Carried) {
        let mut steps: BTreeMap<ReplicaKey, Vec<Step>> = BTreeMap::new();
        let mut done = Carried { out: true, tunnels: true, keys: true };
        for op in ops {
            match (op.subject(), op) {
                (Subject::Replica(_), Op::Replica(key, step)) => steps.entry(key).or_default().push(step),
                (_, op) if self.waits(&op) => done.out = false,
                (_, op) => {
                    let applied = self.apply(&op, desired, observed).await;
                    done.out &= applied;
                    done.keys &= applied || !matches!(op, Op::SwitchKey | Op::ChangeTunnel(Change::SetPrivateKey));
                    // A new device learns of its peers by the next look.
                    done.tunnels &= applied && !matches!(op, Op::MakeTunnel(_));
                }
            }
        }
        (steps, done)
    }

    /// Whether an op would meddle with a replica that is being worked on, whose parts come and go meanwhile.
    fn waits(&self, op: &Op) -> bool {
        match op {
            Op::Register(replica) => self.records.is_busy(&replica.key),
            Op::Unpin(_)
            | Op::DropCounters(_)
            | Op::DropDevice(_)
            | Op::DropNetns(_)
            | Op::DropEndpoint(_)
            | Op::RemoveStray(_)
            | Op::RemoveStrayVeth(_) => self.records.any_busy(),
            _ => false,
        }
    }

    async fn apply(&mut self, op: &Op, desired: &Desired, observed: &Observed) -> bool {
        match self.hands.apply(op, desired, observed).await {
            Ok(()) => info!("{op}"),
            Err(error) => {
                self.records.note(&op.to_string(), &error);
                return false;
            }
        }
        true
    }
}
