//! Contents of files: sealed, each under a digest that tells nothing of it to who has the store alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{Secrets, SecretsError};
use crate::model::EnvironmentKey;
use crate::model::file::Content;
use crate::store::schema::{self, Subject};
use crate::store::{Outcome, Revision, Txn};

impl Secrets {
    /// The name of a content in an environment: equal contents have one name, and without the cluster's key none can be
    /// guessed from it.
    pub fn content_name(&self, environment: &EnvironmentKey, content: &Content) -> String {
        let scope = environment.to_string();
        let digest = self.key.digest(&[scope.as_bytes(), &[0], content.expose()].concat());
        digest.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// Keeps contents that are not kept yet. Nobody removes them while the environment's files name them.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn keep_contents(
        &self,
        environment: &EnvironmentKey,
        contents: &BTreeMap<String, Content>,
    ) -> Result<(), SecretsError> {
        for (name, content) in contents {
            let key = schema::content(environment, name);
            if self.store.get(key.as_str()).await?.is_none() {
                // A conflict: somebody has kept the same.
                self.store.txn(Txn::default().when(&key, None).put(&key, &self.key.seal(&key, content)?)?).await?;
            }
        }
        Ok(())
    }

    /// What a file holds.
    ///
    /// # Errors
    /// [`SecretsError::NoContent`] when nobody kept it.
    pub async fn content(&self, environment: &EnvironmentKey, name: &str) -> Result<Content, SecretsError> {
        let key = schema::content(environment, name);
        let kept = schema::get_json(self.store.as_ref(), &key).await?;
        let kept = kept.ok_or_else(|| SecretsError::NoContent { environment: environment.clone() })?;
        Ok(self.key.unseal(&key, &kept.value)?)
    }

    /// Removes contents that no file names, as long as the environment is wanted as in `intent`.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn sweep_contents(
        &self,
        environment: &EnvironmentKey,
        intent: Option<Revision>,
        named: &BTreeSet<String>,
    ) -> Result<(), SecretsError> {
        for entry in self.store.range(schema::contents_of(environment).as_str()).await?.entries {
            let Some(Subject::Content(_, name)) = Subject::of(&entry.key) else { continue };
            if named.contains(&name) {
                continue;
            }
            let key = schema::content(environment, &name);
            let txn = Txn::default().when(&schema::intent(environment), intent);
            let txn = txn.when(&key, Some(entry.revision)).delete(&key);
            if self.store.txn(txn).await? == Outcome::Conflict {
                // Whoever changed it sweeps, too.
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{Embedded, Store};

    #[tokio::test]
    async fn contents_are_kept_sealed_until_nothing_names_them() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&dir.path().join("store.redb")).unwrap());
        let secrets = Secrets::open(Arc::clone(&store), dir.path()).await.unwrap();
        let [production, staging] = ["production", "staging"]
            .map(|environment| EnvironmentKey { project: "shop".into(), environment: environment.into() });
        let content = Content::new("hunter2");
        let name = secrets.content_name(&production, &content);
        assert_ne!(name, secrets.content_name(&staging, &content), "who sees both knows no more");
        let other = secrets.content_name(&production, &Content::new("hunter3"));
        let both = [(name.clone(), content.clone()), (other.clone(), Content::new("hunter3"))].into();
        for _ in 0..2 {
            secrets.keep_contents(&production, &both).await.unwrap();
        }
        let kept = store.range(schema::contents().as_str()).await.unwrap().entries;
        assert_eq!(kept.len(), 2);
        assert!(kept.iter().all(|entry| !String::from_utf8_lossy(&entry.value).contains("aHVudGVy")), "not sealed");
        assert_eq!(secrets.content(&production, &name).await.unwrap(), content);
        let error = secrets.content(&staging, &name).await.unwrap_err();
        assert!(matches!(error, SecretsError::NoContent { .. }), "{error}");

        let named = [name.clone()].into();
        // Wanted in another way meanwhile: whoever did that decides.
        secrets.sweep_contents(&production, Some(1), &named).await.unwrap();
        assert!(secrets.content(&production, &other).await.is_ok());
        secrets.sweep_contents(&production, None, &named).await.unwrap();
        assert!(
            secrets.content(&production, &other).await.is_err() && secrets.content(&production, &name).await.is_ok()
        );
    }
}
