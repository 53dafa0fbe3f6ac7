//! Does what a plan says: one match per kind of op.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane_ebpf::abi::{Addr, Identity, flags};
use tokio::sync::{Mutex, mpsc};
use tracing::{info, warn};

use super::desired::{Desired, Node};
use super::drain::End;
use super::error::{AgentError, in_one_line};
use super::observe::{Observer, netns};
use super::observed::{Observed, Sandbox, SandboxState};
use super::op::{Op, Step};
use super::plan::veth_spec;
use super::status::Progress;
use super::tables::Registration;
use crate::bpf::{self, Generations, ServiceVips};
use crate::docker::{Role, sandbox_name, workload_name};
use crate::failpoint::Failpoint;
use crate::model::{ReplicaAssignment, ReplicaKey, ReplicaState};
use crate::netlink::{Netlink, Netns, veth_name};
use crate::secrets::Secrets;
use crate::store::Store;

mod discard;
mod make;
mod pull;

pub(super) use pull::Pulls;

/// Who acts.
pub(super) struct Hands {
    pub(super) eyes: Arc<Observer>,
    pub(super) generations: Mutex<Generations>,
    pub(super) progress: mpsc::UnboundedSender<(ReplicaKey, Progress)>,
    pub(super) pulls: Pulls,
    pub(super) secrets: Arc<Secrets>,
    pub(super) store: Arc<dyn Store>,
    pub(super) failpoint: Failpoint,
}

/// What the steps of one replica know of each other.
struct Chain {
    key: ReplicaKey,
    desired: Arc<Desired>,
    node: Node,
    mtu: u32,
    networks: BTreeMap<String, u8>,
    sandbox: Option<Sandbox>,
    workload: Option<String>,
    drained: Option<Drained>,
}

/// A replica that has had its time to end.
struct Drained {
    netns: PathBuf,
    /// Of the workload's main process.
    pid: u32,
    replica: Arc<ReplicaAssignment>,
}

impl Drained {
    fn of(key: &ReplicaKey, desired: &Desired, observed: &Observed) -> Option<Self> {
        let replica = desired.replicas.get(key).filter(|replica| replica.ending)?;
        let pid = observed.workloads.get(key)?.pid?;
        Some(Self { netns: netns(key, observed)?, pid, replica: Arc::clone(replica) })
    }
}

impl Hands {
    /// An op on the node's maps.
    ///
    /// # Errors
    /// [`AgentError`].
    pub(super) async fn apply(&self, op: &Op, desired: &Desired, observed: &Observed) -> Result<(), AgentError> {
        let maps = &self.eyes.maps;
        let number = self.failpoint.before(op);
        match op {
            Op::ConfigureNode(config) => maps.set_node(config)?,
            Op::SetEgress(rules) => {
                let rules: Vec<_> = rules.iter().map(|(key, rule)| (*key, *rule)).collect();
                maps.set_egress(&rules)?;
            }
            Op::SetLists(lists) => maps.set_egress_lists(lists)?,
            Op::Register(replica) => {
                if let Some(registration) = super::tables::registration(replica, desired, observed) {
                    self.register(&registration)?;
                }
            }
            Op::MakeTunnel(_) => drop(self.eyes.tunnel.ensure().await?),
            Op::AttachTunnel(ifindex) => self.eyes.programs.attach_tunnel(*ifindex)?,
            Op::ChangeTunnel(change) => self.eyes.tunnel.apply(change).await?,
            Op::RemoveTunnel => crate::wireguard::remove(&self.eyes.config).await?,
            Op::MakeNextKey => self.eyes.tunnel.make_next_key()?,
            Op::SwitchKey => self.eyes.tunnel.switch_key()?,
            Op::PutNode(_, id, node) => maps.nodes.put(id, *node)?,
            Op::DropNode(id) => drop(maps.nodes.delete(id)?),
            Op::PutEndpoint(address, endpoint) => maps.endpoints.put(address, *endpoint)?,
            Op::AttachSockets => self.eyes.programs.attach_sockets()?,
            Op::RestorePin(pin) => self.eyes.programs.restore_pin(pin)?,
            Op::Unpin(ifindex) => self.eyes.programs.detach(*ifindex, "")?,
            Op::Retire(version) => self.eyes.programs.retire(*version)?,
            Op::PutName(_, key, name) => maps.names.put(key, *name)?,
            Op::DropName(_, key) => drop(maps.names.delete(key)?),
            Op::PutPtr(_, key, ptr) => maps.ptrs.put(key, **ptr)?,
            Op::DropPtr(_, key) => drop(maps.ptrs.delete(key)?),
            Op::SwitchBackends { keys, set, .. } => {
                let service = ServiceVips {
                    env: keys.first().map(|key| key.env).unwrap_or_default(),
                    service: set.service,
                    vips: keys.iter().map(|key| key.vip).collect(),
                    networks: set.networks,
                    flags: if set.affinity { flags::AFFINITY } else { 0 },
                };
                let backends: Vec<_> = set.backends.iter().map(|b| backend(b, desired.node.id)).collect();
                self.generations.lock().await.switch(maps, &service, &backends, Instant::now())?;
            }
            Op::DropService(_, key) => self.generations.lock().await.remove(maps, key, Instant::now())?,
            Op::DropDevice(ifindex) => self.forget_device(*ifindex)?,
            Op::DropNetns(cookie) => drop(maps.netns.delete(cookie)?),
            Op::DropEndpoint(addr) => drop(maps.endpoints.delete(addr)?),
            Op::DropGrant(key) => drop(maps.grants.delete(key)?),
            Op::DropBackend(key) => drop(maps.backends.delete(key)?),
            Op::DropCounters(identity) => self.forget_counters(*identity)?,
            Op::RemoveStray(id) => self.eyes.docker.remove(id).await?,
            Op::Discard(key) => self.discard(key).await?,
            Op::RemoveStrayVeth(name) => self.eyes.netlink.delete_link(name).await?,
            // Done by `replica`, with the others of the same replica.
            Op::Replica(..) => {}
        }
        self.failpoint.after(number, op);
        Ok(())
    }

    /// The steps of one replica, in order; ends at the first that fails.
    ///
    /// # Errors
    /// [`AgentError`] of that step, with its line.
    pub(super) async fn replica(
        &self,
        key: ReplicaKey,
        steps: Vec<Step>,
        desired: &Arc<Desired>,
        observed: &Observed,
    ) -> Result<(), (String, AgentError)> {
        let networks = desired.environments.get(&key.service.environment);
        let mut chain = Chain {
            desired: Arc::clone(desired),
            node: desired.node.clone(),
            mtu: observed.mtu,
            networks: networks.map(|environment| environment.networks.clone()).unwrap_or_default(),
            sandbox: observed.sandboxes.get(&key).cloned(),
            workload: observed.workloads.get(&key).map(|workload| workload.id.clone()),
            drained: Drained::of(&key, desired, observed),
            key,
        };
        for step in steps {
            let op = Op::Replica(chain.key.clone(), step);
            let Op::Replica(_, step) = &op else { continue };
            let state = match step {
                Step::Pull(_) => ReplicaState::Pulling,
                Step::StopWorkload | Step::RemoveWorkload | Step::RemoveSandbox => ReplicaState::Stopping,
                _ => ReplicaState::Starting,
            };
            let _gone = self.progress.send((chain.key.clone(), Progress { state, message: None, cut: 0 }));
            let begun = Instant::now();
            let number = self.failpoint.before(&op);
            let known = chain.containers();
            let done = self.step(step, &mut chain).await;
            self.eyes.look_again(known.into_iter().chain(chain.containers()).flatten(), &chain.key);
            match done {
                Ok(()) => info!(ms = begun.elapsed().as_millis(), "{op}"),
                Err(error) => return Err((op.to_string(), error)),
            }
            self.failpoint.after(number, &op);
        }
        Ok(())
    }

    async fn step(&self, step: &Step, chain: &mut Chain) -> Result<(), AgentError> {
        let Observer { docker, netlink, programs, .. } = self.eyes.as_ref();
        match step {
            Step::Pull(replica) => self.pull(replica).await?,
            Step::CreateSandbox(replica) => {
                // Somebody may have pruned it away.
                docker.import_pause().await?;
                let id = docker.create_sandbox(&make::sandbox_spec(replica, &chain.node)).await?;
                let state = SandboxState::Created;
                chain.sandbox = Some(Sandbox { id, state, digest: String::new(), paused: false, renamed: false });
            }
            Step::StartSandbox => docker.start(chain.sandbox_id()?).await?,
            Step::Plumb(replica) => {
                let netns = self.netns(chain).await?;
                let spec = veth_spec(replica, &chain.key, &chain.desired, chain.mtu);
                netlink.create_veth(&spec, &netns).await?;
                Netlink::plumb_container(&netns, &spec).await?;
            }
            Step::Register(replica) => {
                let cookie = self.netns(chain).await?.cookie().await?;
                let ifindex = self.ifindex(replica).await?;
                self.register(&Registration::new(replica, chain.node.id, ifindex, cookie))?;
            }
            Step::Attach(replica) => programs.attach(self.ifindex(replica).await?, &veth_name(replica.address4))?,
            Step::Open(replica) => {
                let spec = veth_spec(replica, &chain.key, &chain.desired, chain.mtu);
                netlink.ensure_host_side(&spec).await?;
                netlink.until_ready(&self.netns(chain).await?, &spec).await?;
            }
            Step::CreateWorkload(replica) => chain.workload = Some(self.create_workload(replica, chain).await?),
            Step::StartWorkload => {
                let id = chain.workload_id()?;
                self.put_files(id, chain).await?;
                docker.start(id).await?;
            }
            Step::Resume(role) => docker.unpause(chain.id(*role)?).await?,
            Step::Rename(role) => {
                let name = match role {
                    Role::Sandbox => sandbox_name(&chain.node.name, &chain.key),
                    Role::Workload => workload_name(&chain.node.name, &chain.key),
                };
                docker.rename(chain.id(*role)?, &name).await?;
            }
            Step::StopWorkload => {
                if let Some(id) = &chain.workload {
                    let cut = self.stop(id, chain).await?;
                    let progress = Progress { state: ReplicaState::Stopping, message: None, cut };
                    let _gone = self.progress.send((chain.key.clone(), progress));
                }
            }
            Step::RemoveWorkload => {
                if let Some(id) = chain.workload.take() {
                    docker.remove(&id).await?;
                }
            }
            Step::Unplumb(name) => netlink.delete_link(name).await?,
            Step::RemoveSandbox => {
                if let Some(sandbox) = chain.sandbox.take() {
                    docker.remove(&sandbox.id).await?;
                }
            }
            Step::Forget { devices, netns, endpoints } => self.forget(devices, netns, endpoints)?,
        }
        Ok(())
    }

    /// Stops a workload; how many connections that cut, of one that was drained.
    async fn stop(&self, id: &str, chain: &Chain) -> Result<u32, AgentError> {
        let docker = &self.eyes.docker;
        let Some(Drained { netns, pid, replica }) = &chain.drained else {
            docker.stop(id).await?;
            return Ok(0);
        };
        let count = self.eyes.drains.last_count(&chain.key, netns.clone(), *pid).await;
        let begun = Instant::now();
        docker.stop(id).await?;
        let took = begun.elapsed();
        let status = docker.inspect(id).await?.and_then(|container| container.exit_code).unwrap_or_default();
        let (signal, grace) = (replica.spec.stop_signal.as_deref(), replica.spec.stop_grace_period);
        let end = End { status, signal, took, grace: Duration::from_millis(grace) };
        match count {
            Ok(count) => Ok(count.cut(&end)),
            Err(error) => {
                let error = in_one_line(&error);
                warn!(replica = %chain.key, error, "Cannot count the connections that its end cuts.");
                Ok(0)
            }
        }
    }

    fn register(&self, registration: &Registration) -> Result<(), AgentError> {
        let maps = &self.eyes.maps;
        maps.devices.put(&registration.device.0, registration.device.1)?;
        maps.netns.put(&registration.netns.0, registration.netns.1)?;
        self.eyes.own.note(registration.device.0, registration.netns.0);
        for (address, endpoint) in registration.endpoints {
            maps.endpoints.put(&address, endpoint)?;
        }
        Ok(())
    }

    fn forget(&self, devices: &[u32], netns: &[u64], endpoints: &[Addr]) -> Result<(), AgentError> {
        for address in endpoints {
            self.eyes.maps.endpoints.delete(address)?;
        }
        for cookie in netns {
            self.eyes.maps.netns.delete(cookie)?;
        }
        for ifindex in devices {
            self.forget_device(*ifindex)?;
            self.eyes.programs.detach(*ifindex, "")?;
        }
        Ok(())
    }

    fn forget_counters(&self, identity: Identity) -> Result<(), AgentError> {
        let maps = &self.eyes.maps;
        maps.counters.delete(&identity)?;
        for (key, _) in maps.drops.entries()? {
            if key.identity == identity {
                maps.drops.delete(&key)?;
            }
        }
        Ok(())
    }

    fn forget_device(&self, ifindex: u32) -> Result<(), AgentError> {
        self.eyes.maps.devices.delete(&ifindex)?;
        self.eyes.maps.budgets.delete(&ifindex)?;
        Ok(())
    }

    /// The network namespace of the chain's sandbox.
    async fn netns(&self, chain: &Chain) -> Result<Netns, AgentError> {
        if let Some(Sandbox { state: SandboxState::Running { pid, cookie }, .. }) = &chain.sandbox {
            let netns = Netns::of_pid(*pid)?;
            // Another process may have the number by now.
            return if netns.cookie().await? == *cookie {
                Ok(netns)
            } else {
                Err(AgentError::Gone { what: "sandbox" })
            };
        }
        let container = self.eyes.docker.inspect(chain.sandbox_id()?).await?;
        let pid = container.and_then(|container| container.pid).ok_or(AgentError::Gone { what: "sandbox" })?;
        Ok(Netns::of_pid(pid)?)
    }

    async fn ifindex(&self, replica: &ReplicaAssignment) -> Result<u32, AgentError> {
        let name = veth_name(replica.address4);
        let found = nix::net::if_::if_nametoindex(name.as_str());
        found.map_err(|_| crate::netlink::NetlinkError::NoLink(name).into())
    }
}

impl Chain {
    /// Ids of its containers, as far as they exist.
    fn containers(&self) -> [Option<String>; 2] {
        [self.sandbox.as_ref().map(|sandbox| sandbox.id.clone()), self.workload.clone()]
    }

    fn sandbox_id(&self) -> Result<&str, AgentError> {
        self.sandbox.as_ref().map(|sandbox| sandbox.id.as_str()).ok_or(AgentError::Gone { what: "sandbox" })
    }

    fn id(&self, role: Role) -> Result<&str, AgentError> {
        match role {
            Role::Sandbox => self.sandbox_id(),
            Role::Workload => self.workload_id(),
        }
    }

    fn workload_id(&self) -> Result<&str, AgentError> {
        self.workload.as_deref().ok_or(AgentError::Gone { what: "container" })
    }
}

fn backend(address: &super::tables::BackendAddress, this_node: u32) -> bpf::BackendAddress {
    bpf::BackendAddress {
        address4: address.address4.into(),
        address6: address.address6.into(),
        node: address.node,
        local: address.node == this_node,
    }
}
