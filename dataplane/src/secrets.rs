//! The secrets of environments: sealed in the store, made when a database first needs them, opened where a container
//! is made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use tracing::info;

use crate::clock::unix;
use crate::credentials;
use crate::model::{
    Credentials, EnvironmentKey, EnvironmentSpec, KeptCredentials, Kind, RegistryLogin, ServiceKey, ServiceSpec,
};
use crate::random::RandomError;
use crate::store::schema::{self, Subject, Versioned};
use crate::store::seal::{ClusterKey, ClusterKeyError, SealedError};
use crate::store::{Compare, Outcome, Revision, Store, StoreError, Txn};

mod files;

/// The secrets of a store.
pub struct Secrets {
    store: Arc<dyn Store>,
    key: ClusterKey,
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What it holds.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// Two at once.
    #[error("the credentials of {service} were changed by somebody else at the same moment: try again")]
    Changed {
        /// Whose.
        service: ServiceKey,
    },
    /// A file's content was never kept, or is lost.
    #[error("what a file of {environment} holds is not in the store: run `skepctl up` with the compose file again")]
    NoContent {
        /// Whose file.
        environment: EnvironmentKey,
    },
    /// Nothing can be generated.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl Secrets {
    /// Those of this store, with the key of the state directory.
    ///
    /// # Errors
    /// [`ClusterKeyError`] when there is no key that opens them.
    pub async fn open(store: Arc<dyn Store>, state_dir: &Path) -> Result<Self, ClusterKeyError> {
        let key = ClusterKey::of_store(state_dir, store.as_ref()).await?;
        Ok(Self { store, key })
    }

    /// What an environment's databases were made with, by service.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn kept(
        &self,
        environment: &EnvironmentKey,
    ) -> Result<BTreeMap<String, Versioned<KeptCredentials>>, SecretsError> {
        let mut kept = BTreeMap::new();
        for entry in self.store.range(schema::secrets_of(environment).as_str()).await?.entries {
            let Some(Subject::Secret(service)) = Subject::of(&entry.key) else { continue };
            let Versioned { value: sealed, revision } = schema::decode(&entry)?;
            let value = self.key.unseal(&schema::secret(&service), &sealed)?;
            kept.insert(service.service, Versioned { value, revision });
        }
        Ok(kept)
    }

    /// Generates what the databases of an environment lack. Services that are `begun` have data already. `leads` must
    /// hold when it is written.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn complete(
        &self,
        environment: &EnvironmentSpec,
        begun: &BTreeSet<String>,
        leads: Compare,
    ) -> Result<(), SecretsError> {
        if !environment.services.values().any(|service| Kind::of_service(service).is_some()) {
            return Ok(());
        }
        let kept = self.kept(&environment.key).await?;
        let known = kept.iter().map(|(name, kept)| (name.clone(), kept.value.clone())).collect();
        let missing = credentials::missing(environment, &known, begun, unix() / 1000)?;
        let mut txn = Txn { compare: vec![leads], ..Txn::default() };
        for (service, record) in &missing {
            let name = ServiceKey { environment: environment.key.clone(), service: service.clone() };
            let key = schema::secret(&name);
            let sealed = self.key.seal(&key, record)?;
            txn = txn.when(&key, kept.get(service).map(|kept| kept.revision)).put(&key, &sealed)?;
        }
        if !missing.is_empty() && self.store.txn(txn).await? != Outcome::Conflict {
            let services: Vec<&str> = missing.keys().map(String::as_str).collect();
            info!(environment = %environment.key, ?services, "Made credentials.");
        }
        Ok(())
    }

    /// Writes a record over the one of this revision; the revision that it has then.
    ///
    /// # Errors
    /// [`SecretsError`]; [`SecretsError::Changed`] when there is another one by now.
    pub async fn write(
        &self,
        service: &ServiceKey,
        record: &KeptCredentials,
        before: Option<Revision>,
    ) -> Result<Revision, SecretsError> {
        let key = schema::secret(service);
        let txn = Txn::default().when(&key, before).put(&key, &self.key.seal(&key, record)?)?;
        match self.store.txn(txn).await? {
            Outcome::Committed(revision) => Ok(revision),
            Outcome::Conflict => Err(SecretsError::Changed { service: service.clone() }),
        }
    }

    /// Whom a registry knows us as, if it does.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn login(&self, registry: &str) -> Result<Option<RegistryLogin>, SecretsError> {
        let key = schema::login(registry);
        let kept = schema::get_json(self.store.as_ref(), &key).await?;
        Ok(kept.map(|kept| self.key.unseal(&key, &kept.value)).transpose()?)
    }

    /// The same of all registries.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn logins(&self) -> Result<BTreeMap<String, RegistryLogin>, SecretsError> {
        let mut logins = BTreeMap::new();
        for entry in self.store.range(schema::secrets().as_str()).await?.entries {
            let Some(Subject::Login(registry)) = Subject::of(&entry.key) else { continue };
            let login = self.key.unseal(&schema::login(&registry), &schema::decode(&entry)?.value)?;
            logins.insert(registry, login);
        }
        Ok(logins)
    }

    /// Keeps a login, in the place of the one before.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn log_in(&self, registry: &str, login: &RegistryLogin) -> Result<(), SecretsError> {
        let key = schema::login(registry);
        self.store.txn(Txn::default().put(&key, &self.key.seal(&key, login)?)?).await?;
        Ok(())
    }

    /// Forgets a login; gives what it was.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn log_out(&self, registry: &str) -> Result<Option<RegistryLogin>, SecretsError> {
        let login = self.login(registry).await?;
        if login.is_some() {
            self.store.txn(Txn::default().delete(&schema::login(registry))).await?;
        }
        Ok(login)
    }

    /// A service as it is to be started: with the variables that its user did not write.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn complete_service(
        &self,
        environment: &EnvironmentSpec,
        name: &str,
        mut service: ServiceSpec,
    ) -> Result<ServiceSpec, SecretsError> {
        let kept = self.kept(&environment.key).await?;
        let made: BTreeMap<String, Credentials> =
            kept.into_iter().map(|(name, kept)| (name, kept.value.credentials)).collect();
        let injected = credentials::variables(environment, &made).remove(name).unwrap_or_default();
        if let Some(command) = credentials::command(&service) {
            service.command = Some(command);
        }
        let injected = injected.into_iter().map(|(variable, injected)| (variable, injected.value.expose().to_owned()));
        service.environment.extend(injected);
        Ok(service)
    }
}
