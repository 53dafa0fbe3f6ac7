//! The part of the daemon that makes this node what the controller assigned, and writes what came of it.

pub mod desired;
pub mod observed;
pub mod op;
mod plan;
pub mod predict;
pub mod tables;

pub use desired::Desired;
pub use observed::Observed;
pub use op::Op;
pub use plan::plan;
