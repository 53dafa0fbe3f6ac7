//! Isolation, shown packet by packet: network namespaces plumbed by the product's own code, its programs and maps, and
//! nothing else. No Docker is needed, so the same binary runs on every kernel in a virtual machine.
//!
//! What should reach what is computed from the declared services by a few lines of this test ([`model`]), never by the
//! code under test.

mod asked;
mod bed;
mod hostile;
mod matrix;
mod model;
mod outside;
