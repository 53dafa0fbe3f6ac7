//! What nothing needs: pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::controller::State as Assignments;
use crate::model::{Deployment, DeploymentKey, EnvironmentKey, Pulled, ServiceKey};

/// Deployments that are over, beyond the last so many of each service. One to go back to always stays.
pub(super) fn deployments(state: &Assignments, keep: usize) -> Vec<&Deployment> {
    let mut services: BTreeMap<&ServiceKey, Vec<&Deployment>> = BTreeMap::new();
    for deployment in state.deployments.values().map(|deployment| &deployment.value) {
        services.entry(&deployment.key.service).or_default().push(deployment);
    }
    services.into_iter().flat_map(|(key, all)| of_service(state, key, &all, keep)).collect()
}

/// The same of one service: all of its deployments, the oldest first.
fn of_service<'a>(state: &Assignments, key: &ServiceKey, all: &[&'a Deployment], keep: usize) -> Vec<&'a Deployment> {
    // The last one gives the next its number.
    let old = all.len().saturating_sub(keep.max(1));
    let serving = state.services.get(key).map(|service| &service.value);
    let current = serving.map_or(0, |service| service.deployment);
    let back = all.iter().rfind(|d| d.served && d.key.deployment < current).map(|d| d.key.deployment);
    let next = serving.and_then(|service| service.next).map(|next| next.deployment);
    let used: BTreeSet<u32> = state.replicas_of_service(key).map(|r| r.value.key.deployment).collect();
    let is_needed = |deployment: &&&Deployment| {
        let number = deployment.key.deployment;
        let is_current = number == current || Some(number) == next || Some(number) == back;
        is_current || deployment.is_open() || used.contains(&number)
    };
    all.iter().take(old).filter(|deployment| !is_needed(deployment)).copied().collect()
}

/// Images that skepd has pulled and nothing is made of, once the deployments `without` are gone.
pub(super) fn images<'a>(state: &Assignments, pulled: &'a Pulled, without: &BTreeSet<DeploymentKey>) -> Vec<&'a str> {
    let wanted = state.intents.values().flat_map(|intent| intent.value.services.values()).map(|spec| &spec.image);
    let stay = state.deployments.values().map(|d| &d.value).filter(|d| !without.contains(&d.key));
    let stay = stay.flat_map(|deployment| [Some(&deployment.spec.image), deployment.image.as_ref()]).flatten();
    let running = state.replicas.values().map(|replica| &replica.value);
    let running = running.flat_map(|replica| [Some(&replica.spec.image), replica.image.as_ref()]).flatten();
    let used: BTreeSet<&String> = wanted.chain(stay).chain(running).collect();
    let unused = pulled.images.iter().filter(|(name, digest)| !used.contains(name) && !used.contains(digest));
    unused.map(|(name, _)| name.as_str()).collect()
}

/// Whether nobody wants the environment, and nothing of it is there.
pub(super) fn is_gone(state: &Assignments, key: &EnvironmentKey) -> bool {
    !state.intents.contains_key(key) && !state.environments.contains_key(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeploymentState, ServiceAssignment, ServiceSpec};
    use crate::store::schema::Versioned;

    fn key() -> ServiceKey {
        EnvironmentKey { project: "shop".into(), environment: "production".into() }.service("web")
    }

    /// Deployments 1 to `last`, each of an image of its own; `serving` serves, and those in `failed` never did.
    fn state(last: u32, serving: u32, failed: &[u32]) -> Assignments {
        let mut state = Assignments::default();
        for number in 1..=last {
            let spec = ServiceSpec::of_image(&format!("web:{number}"));
            let mut deployment = Deployment::new(key().deployment(number), spec, 0);
            let failed = failed.contains(&number);
            deployment.served = !failed;
            deployment.end(if failed { DeploymentState::Failed } else { DeploymentState::Superseded }, 1);
            state.deployments.insert(deployment.key.clone(), Versioned { value: deployment, revision: 1 });
        }
        let value = ServiceAssignment {
            key: key(),
            env: 1,
            id: 1,
            vip4: [10, 224, 0, 1].into(),
            vip6: [0xfd53, 0, 0, 0, 0, 0, 0, 1].into(),
            networks: 1,
            aliases: BTreeMap::new(),
            deployment: serving,
            next: None,
            spec: ServiceSpec::of_image("web"),
            leaving: false,
        };
        state.services.insert(key(), Versioned { value, revision: 1 });
        state
    }

    fn numbers(state: &Assignments, keep: usize) -> Vec<u32> {
        deployments(state, keep).into_iter().map(|deployment| deployment.key.deployment).collect()
    }

    #[test]
    fn the_last_ones_stay_and_what_serves_and_what_it_goes_back_to() {
        assert_eq!(numbers(&state(12, 12, &[]), 10), [1, 2]);
        assert_eq!(numbers(&state(5, 5, &[]), 10), [0; 0]);
        assert_eq!(numbers(&state(5, 5, &[]), 0), [1, 2, 3], "5 serves, 4 is the way back");
        assert_eq!(numbers(&state(12, 3, &[4, 5, 6, 7, 8, 9, 10, 11, 12]), 2), [1, 4, 5, 6, 7, 8, 9, 10]);
        let mut open = state(4, 4, &[]);
        open.deployments.get_mut(&key().deployment(1)).unwrap().value.state = DeploymentState::Queued;
        assert_eq!(numbers(&open, 1), [2]);
    }

    #[test]
    fn an_image_goes_with_the_last_that_needs_it_and_only_if_skepd_brought_it() {
        let state = state(4, 4, &[]);
        let images_of = |names: &[&str]| Pulled {
            images: names.iter().map(|name| ((*name).to_owned(), format!("{name}@sha256:0"))).collect(),
        };
        let pulled = images_of(&["web:1", "web:3", "web:4", "other:1"]);
        let without = |numbers: &[u32]| numbers.iter().map(|number| key().deployment(*number)).collect();
        assert_eq!(images(&state, &pulled, &without(&[])), ["other:1"]);
        // Nobody has pulled web:2.
        assert_eq!(images(&state, &pulled, &without(&[1, 2])), ["other:1", "web:1"]);
        // What a deployment is pinned to counts as its name does.
        let mut pinned = state.clone();
        pinned.deployments.get_mut(&key().deployment(4)).unwrap().value.image = Some("web:1@sha256:0".into());
        assert_eq!(images(&pinned, &pulled, &without(&[1, 2])), ["other:1"]);
    }
}
