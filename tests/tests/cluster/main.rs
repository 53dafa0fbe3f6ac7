//! Several nodes, one etcd, one private network.

mod away;
mod elsewhere;
mod isolation;
mod joining;
mod paths;
mod placement;
mod rotation;
mod scene;
mod size;
mod stale;
mod steps;
mod stored;
mod survival;
mod underlay;
