//! What a service says of others, and asks of its clients.

use super::Check;
use crate::model::kind::Kind;
use crate::model::spec::ServiceSpec;

impl Check<'_> {
    pub(super) fn relations(&mut self, name: &str, path: &str, service: &ServiceSpec) {
        for (alias, target) in &service.links {
            self.link(name, &format!("{path}.links.{alias}"), service, alias, target);
        }
        if service.password {
            self.password(&format!("{path}.x-skep.password"), service);
        }
    }

    fn link(&mut self, name: &str, path: &str, service: &ServiceSpec, alias: &str, target: &str) {
        self.normalised(path, alias);
        match self.spec.services.get(target) {
            None => self.problem(path, format!("there is no service {target}"), "add it, or remove the link"),
            Some(_) if target == name => self.problem(path, "it is linked to itself", "remove the link"),
            Some(other) if !service.shares_network(other) => {
                let remedy = format!("name a network of {target} under networks, or remove the link");
                self.problem(path, format!("it shares no network with {target}"), remedy);
            }
            Some(_) => {}
        }
    }

    fn password(&mut self, path: &str, service: &ServiceSpec) {
        match Kind::of_service(service).and_then(Kind::cache_server) {
            None => {
                let what = "it is for caches, of the images redis and valkey; databases have a password anyway";
                self.problem(path, what, "remove it");
            }
            Some(server) if !service.starts(server) => {
                let what = format!("the password cannot be handed to it: what it starts is not {server}");
                self.problem(path, what, "remove entrypoint or command, or give --requirepass there and remove this");
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::EnvironmentKey;
    use crate::model::spec::{EnvironmentSpec, NetworkAttachment, NetworkSpec, ServiceType};

    /// What is wrong with a service `a` beside a `b` in the network `back` alone.
    fn problems(change: impl FnOnce(&mut ServiceSpec)) -> Vec<String> {
        let within = |networks: &[&str]| {
            let networks = networks.iter().map(|name| ((*name).to_owned(), NetworkAttachment::default())).collect();
            ServiceSpec { networks, ..ServiceSpec::of_image("redis") }
        };
        let (mut a, b) = (within(&["front", "back"]), within(&["back"]));
        change(&mut a);
        let spec = EnvironmentSpec {
            key: EnvironmentKey { project: "shop".to_owned(), environment: "production".to_owned() },
            services: [("a".to_owned(), a), ("b".to_owned(), b)].into(),
            networks: ["front", "back"].map(|name| (name.to_owned(), NetworkSpec::default())).into(),
            volumes: [].into(),
        };
        spec.check().iter().map(ToString::to_string).collect()
    }

    fn only(expected: &str, problems: &[String]) {
        assert!(matches!(problems, [one] if one.starts_with(&format!("services.a.{expected}"))), "{problems:?}");
    }

    #[test]
    fn a_link_is_to_another_service_that_can_be_reached() {
        let linked = |alias: &'static str, target: &str| {
            let links: BTreeMap<_, _> = [(alias.to_owned(), target.to_owned())].into();
            move |service: &mut ServiceSpec| service.links = links
        };
        assert_eq!(problems(linked("api", "b")), [""; 0]);
        only("links.api: there is no service c; ", &problems(linked("api", "c")));
        only("links.api: it is linked to itself; ", &problems(linked("api", "a")));
        only("links.My Api: the name \"My Api\" is not normalised; ", &problems(linked("My Api", "b")));
        let apart = |service: &mut ServiceSpec| {
            linked("api", "b")(service);
            service.networks.remove("back");
        };
        only("links.api: it shares no network with b; ", &problems(apart));
    }

    #[test]
    fn a_password_is_asked_of_a_cache_that_can_be_handed_one() {
        let cache = |words: &'static [&str]| {
            move |service: &mut ServiceSpec| {
                (service.kind, service.password) = (ServiceType::Cache, true);
                service.command = Some(words.iter().map(|word| (*word).to_owned()).collect());
            }
        };
        for words in [&["redis-server"][..], &["--save", "60"], &["redis-server", "/etc/redis.conf"], &[]] {
            assert_eq!(problems(cache(words)), [""; 0], "{words:?}");
        }
        only("x-skep.password: the password cannot be handed to it: ", &problems(cache(&["sh", "-c", "redis-server"])));
        let other = |image: &'static str, kind| {
            problems(move |service| {
                (service.image, service.kind, service.password) = (image.to_owned(), kind, true);
            })
        };
        only("x-skep.password: it is for caches", &other("postgres", ServiceType::Database));
        only("x-skep.password: it is for caches", &other("redis", ServiceType::Service));
        only("x-skep.password: it is for caches", &other("memcached", ServiceType::Cache));
    }
}
