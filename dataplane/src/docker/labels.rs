/// Which half of a replica a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Owns the network namespace.
    Sandbox,
    /// Runs the user's image.
    Workload,
}
