//! What the kernel programs, the daemon and the command line agree on: the ABI of the maps
//! ([`abi`]) and the decisions themselves ([`decide`], [`dns`]), pure functions over the look-ups of
//! [`tables::Tables`]. The programs call them over maps, `skepctl why` over the pins, the tests
//! over plain collections, so that none of them can disagree.
#![cfg_attr(not(any(test, feature = "test-support")), no_std)]

pub mod abi;
pub mod checksum;
pub mod decide;
pub mod dns;
pub mod packet;
pub mod tables;
