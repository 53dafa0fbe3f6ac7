//! What is declared, and what follows from it.

/// A service as somebody would declare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) project: &'static str,
    pub(crate) environment: &'static str,
    pub(crate) name: &'static str,
    pub(crate) networks: &'static [&'static str],
}

/// Two projects with two environments each, the same names in all: a service in one network, one in another, one in both.
pub(crate) fn services() -> Vec<Service> {
    let shapes: [(&str, &[&str]); 3] = [("web", &["front"]), ("db", &["back"]), ("api", &["front", "back"])];
    let mut services = Vec::new();
    for project in ["shop", "blog"] {
        for environment in ["production", "staging"] {
            services.extend(shapes.map(|(name, networks)| Service { project, environment, name, networks }));
        }
    }
    services
}

impl Service {
    pub(crate) fn same_environment(&self, other: &Self) -> bool {
        (self.project, self.environment) == (other.project, other.environment)
    }

    /// The whole policy: the same environment, and a network in common.
    pub(crate) fn reaches(&self, other: &Self) -> bool {
        self.same_environment(other) && self.networks.iter().any(|network| other.networks.contains(network))
    }

    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}.{}.internal", self.name, self.environment, self.project)
    }

    /// By which names `asker` may ask for this service without meaning another.
    pub(crate) fn names_for(&self, asker: &Self) -> Vec<String> {
        let mut names = vec![self.full_name()];
        if self.same_environment(asker) {
            names.extend([self.name.to_owned(), format!("{}.internal", self.name)]);
        }
        names
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.project, self.environment, self.name)
    }
}
