use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use tracing::warn;

use crate::controller::State;
use crate::model::{EnvironmentKey, ServiceKey};
use crate::store::schema::ASSIGNMENTS;
use crate::store::{Store, StoreError, WatchStream};

/// The store's names, read again when one is wanted and something has changed.
pub(super) struct Names {
    store: Arc<dyn Store>,
    known: Known,
    /// `None`: not read yet, or in vain.
    changes: Option<WatchStream>,
}

/// What ids and addresses are called.
#[derive(Debug, Default)]
pub(super) struct Known {
    environments: HashMap<u32, EnvironmentKey>,
    services: HashMap<u32, ServiceKey>,
    addresses: HashMap<IpAddr, ServiceKey>,
}

impl Names {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, known: Known::default(), changes: None }
    }

    /// As of now. Addresses are given to others after a while, so what is known may be wrong, not only incomplete.
    pub(super) async fn current(&mut self) -> &Known {
        if self.have_changed()
            && let Err(error) = self.read().await
        {
            // Names are a help: ids and addresses have to do.
            warn!(%error, "Names for a monitor cannot be read.");
        }
        &self.known
    }

    fn have_changed(&mut self) -> bool {
        // A watch that has ended, or lost its place, is a change as well.
        self.changes.as_mut().is_none_or(|changes| changes.next().now_or_never().is_some())
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        self.changes = None;
        let state = State::load(self.store.as_ref()).await?;
        self.changes = Some(self.store.watch(ASSIGNMENTS, state.revision).await?);
        self.known = Known::from(&state);
        Ok(())
    }
}

impl Known {
    pub(super) fn environment(&self, id: u32) -> Option<&EnvironmentKey> {
        self.environments.get(&id)
    }

    pub(super) fn service(&self, id: u32) -> Option<&ServiceKey> {
        self.services.get(&id)
    }

    /// The service that has the address: a virtual one, or a replica's.
    pub(super) fn at(&self, address: IpAddr) -> Option<&ServiceKey> {
        self.addresses.get(&address)
    }

    /// An environment and two services, one of them elsewhere.
    #[cfg(test)]
    pub(super) fn sample() -> Self {
        let environment = |name: &str| EnvironmentKey { project: "shop".to_owned(), environment: name.to_owned() };
        let service =
            |name: &str, service: &str| ServiceKey { environment: environment(name), service: service.to_owned() };
        Self {
            environments: [(1, environment("production"))].into(),
            services: [(10, service("production", "web"))].into(),
            addresses: [(IpAddr::from([10, 208, 0, 9]), service("staging", "postgres"))].into(),
        }
    }
}

impl From<&State> for Known {
    fn from(state: &State) -> Self {
        let mut known = Self::default();
        for (key, environment) in &state.environments {
            known.environments.insert(environment.value.id, key.clone());
        }
        for (key, service) in &state.services {
            let service = &service.value;
            known.services.insert(service.id, key.clone());
            for vip in [service.vip4.into(), service.vip6.into()] {
                known.addresses.insert(vip, key.clone());
            }
        }
        for (key, replica) in &state.replicas {
            for address in [replica.value.address4.into(), replica.value.address6.into()] {
                known.addresses.insert(address, key.service.clone());
            }
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::EnvironmentAssignment;
    use crate::store::{Embedded, Txn, schema};

    async fn assign(store: &dyn Store, environment: &str, id: u32) {
        let key = EnvironmentKey { project: "shop".to_owned(), environment: environment.to_owned() };
        let (at, networks, resting) = (schema::environment(&key), BTreeMap::new(), BTreeMap::new());
        let assignment = EnvironmentAssignment { key, id, networks, resting };
        store.txn(Txn::default().put(&at, &assignment).unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_assigned_since_has_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&dir.path().join("store.redb")).unwrap());
        assign(store.as_ref(), "production", 1).await;
        let mut names = Names::new(Arc::clone(&store));
        for _ in 0..2 {
            let known = names.current().await;
            assert_eq!(known.environment(1).map(EnvironmentKey::to_string).as_deref(), Some("shop/production"));
            assert_eq!(known.environment(2), None);
        }
        assert!(!names.have_changed(), "nothing has, so nothing is read");
        assign(store.as_ref(), "staging", 2).await;
        let known = names.current().await;
        assert_eq!(known.environment(2).map(EnvironmentKey::to_string).as_deref(), Some("shop/staging"));
    }
}
