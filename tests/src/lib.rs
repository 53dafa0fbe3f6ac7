//! Fixtures of the integration tests, shared with the demo and the benchmark.

pub mod load;
pub mod netns;
pub mod probe;
pub mod raw;
