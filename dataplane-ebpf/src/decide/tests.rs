//! Each test states a rule of the decision, over plain collections.

mod boundaries;
mod icmp;
mod inside;
mod outside;
mod properties;
mod setting;
mod tunnel;
