//! The words of the system as types: what people want ([`spec`]), what the controller decided
//! ([`assignment`]), what the agent saw ([`status`]). Everything else in the crate speaks these;
//! netlink, Docker and BPF types stay inside their wrappers.

pub mod allocation;
pub mod assignment;
pub mod check;
pub mod deployment;
pub mod file;
pub mod kind;
pub mod limits;
pub mod name;
pub mod node;
pub mod one_off;
pub mod placement;
pub mod record;
pub mod registry;
pub mod rollout;
pub mod run;
pub mod schedule;
pub mod secret;
pub mod settings;
pub mod spec;
pub mod status;
pub mod typo;
pub mod upkeep;

pub use allocation::Pools;
pub use assignment::{EnvironmentAssignment, Next, ReplicaAssignment, ServiceAssignment};
pub use deployment::{Deployment, DeploymentState, Phase};
pub use kind::Kind;
pub use limits::Limits;
pub use name::{DeploymentKey, EnvironmentKey, ReplicaKey, ServiceKey};
pub use node::{
    Admission, DaemonRecord, Invitation, NodeIntent, NodeRecord, Presence, Role, TunnelRecord, VolumeAssignment,
    VolumeKey,
};
pub use one_off::OneOff;
pub use placement::{Capacity, Constraint, Placement, Reserved};
pub use registry::RegistryLogin;
pub use run::{Due, Run, RunState, Runs};
pub use secret::{Credentials, KeptCredentials, Secret};
pub use spec::{EnvironmentSpec, ServiceSpec};
pub use status::{Ack, Condition, ReplicaState, ReplicaStatus};
pub use upkeep::{Discard, Pulled};
