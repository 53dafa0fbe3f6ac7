//! Takes away what an environment stored.

use std::collections::BTreeSet;

use super::super::error::{AgentError, in_one_line};
use super::Hands;
use crate::model::{Discard, EnvironmentKey, VolumeAssignment};
use crate::store::schema::{self, Subject, Versioned};
use crate::store::{StoreError, Txn};

impl Hands {
    /// Removes the volumes of an environment, those of older versions of its file too, then its credentials with the wish:
    /// as long as that is there, it is not done.
    ///
    /// # Errors
    /// [`AgentError`]; what stands in the way is written down for who waits.
    pub(super) async fn discard(&self, key: &EnvironmentKey) -> Result<(), AgentError> {
        let wish = schema::discard(key);
        let Some(before) = schema::get_json(self.store.as_ref(), &wish).await? else { return Ok(()) };
        if let Err(error) = self.remove_volumes(key).await {
            self.complain(before, in_one_line(&error)).await?;
            return Err(error);
        }
        let mut txn = Txn::default().when(&wish, Some(before.revision));
        let mut elsewhere = false;
        for entry in self.store.range(schema::volumes_of(key).as_str()).await?.entries {
            let Some(Subject::Volume(volume)) = Subject::of(&entry.key) else { continue };
            let assigned: Versioned<VolumeAssignment> = schema::decode(&entry)?;
            if assigned.value.node == self.eyes.config.node_name {
                txn = txn.delete(&schema::volume(&volume));
            } else {
                elsewhere = true;
            }
        }
        // The last node that has some takes the credentials with them.
        if !elsewhere {
            self.secrets.sweep_contents(key, None, &BTreeSet::new()).await?;
            txn = txn.delete(&wish);
            for service in self.secrets.kept(key).await?.into_keys() {
                txn = txn.delete(&schema::secret(&key.service(&service)));
            }
        }
        if txn.then.is_empty() {
            return Ok(());
        }
        // A conflict: it was said again meanwhile, and is looked at again.
        self.store.txn(txn).await?;
        Ok(())
    }

    async fn remove_volumes(&self, key: &EnvironmentKey) -> Result<(), AgentError> {
        let docker = &self.eyes.docker;
        for found in docker.volumes().await?.into_iter().filter(|found| found.environment == *key) {
            docker.remove_volume(key, &found.volume).await?;
        }
        Ok(())
    }

    async fn complain(&self, before: Versioned<Discard>, problem: String) -> Result<(), StoreError> {
        let problem = Some(problem);
        if before.value.problem != problem {
            let key = schema::discard(&before.value.key);
            let wish = Discard { problem, ..before.value };
            self.store.txn(Txn::default().when(&key, Some(before.revision)).put(&key, &wish)?).await?;
        }
        Ok(())
    }
}
