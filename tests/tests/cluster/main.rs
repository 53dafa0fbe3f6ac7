//! Several nodes, one etcd, one private network.

mod away;
mod isolation;
mod joining;
mod placement;
mod scene;
mod survival;
mod underlay;
