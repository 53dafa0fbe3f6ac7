//! The node daemon of Skep as a library: `skepd` is [`config`] and a handful of calls into it.

pub mod agent;
pub mod api;
pub mod backup;
pub mod bpf;
pub mod capacity;
pub mod clock;
pub mod config;
pub mod controller;
pub mod daemon;
mod descriptors;
pub mod docker;
pub mod egress;
pub mod forwarder;
pub mod host;
pub mod logging;
pub mod manifest;
pub mod memory;
pub mod model;
pub mod monitor;
pub mod netlink;
mod nlmsg;
pub mod object;
pub mod repair;
mod space;
pub mod store;
pub mod uninstall;
