//! HTTP/JSON over a Unix socket: how people's intent gets in and how what happens gets out.

pub mod types;
