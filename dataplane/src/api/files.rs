//! What files of environments hold: named, and removed when nothing names it.

use std::collections::{BTreeMap, BTreeSet};

use super::Api;
use super::error::Refusal;
use crate::controller::State as Assignments;
use crate::model::EnvironmentKey;
use crate::model::file::{FILE_MAX, FILES_MAX, Wanted};
use crate::store::schema::{self, Subject};

impl Api {
    /// What is asked for, with contents named as they are kept.
    pub(super) fn named(&self, wanted: Wanted) -> Result<Wanted, Refusal> {
        let Wanted { mut spec, contents } = wanted;
        let total: usize = contents.values().map(|content| content.expose().len()).sum();
        if total > FILES_MAX || contents.values().any(|content| content.expose().len() > FILE_MAX) {
            let error = format!("a file has more than {FILE_MAX} octets, or all of them have more than {FILES_MAX}");
            return Err(Refusal::bad(error, "put large files into an image or a named volume"));
        }
        let names: BTreeMap<String, String> = contents
            .iter()
            .map(|(name, content)| (name.clone(), self.secrets.content_name(&spec.key, content)))
            .collect();
        for (service, of) in &mut spec.services {
            for (target, file) in &mut of.files {
                let name = names.get(&file.content).ok_or_else(|| {
                    let error = format!("services.{service}.files: nothing is said of what {target} holds");
                    Refusal::bad(error, "add it to contents")
                })?;
                file.content.clone_from(name);
            }
        }
        let contents = contents.into_iter().filter_map(|(name, content)| Some((names.get(&name)?.clone(), content)));
        Ok(Wanted { spec, contents: contents.collect() })
    }

    /// Removes what no file of any environment, or of one, holds any more: neither of what is wanted nor of a version that
    /// is remembered or runs.
    pub(super) async fn sweep(&self, only: Option<&EnvironmentKey>) -> Result<(), Refusal> {
        let prefix = only.map_or_else(schema::contents, schema::contents_of);
        let kept = self.store.range(prefix.as_str()).await?.entries;
        let environments: BTreeSet<EnvironmentKey> = kept
            .iter()
            .filter_map(|entry| match Subject::of(&entry.key)? {
                Subject::Content(environment, _) => Some(environment),
                _ => None,
            })
            .collect();
        if environments.is_empty() {
            return Ok(());
        }
        let state = Assignments::load(self.store.as_ref()).await?;
        for key in &environments {
            let intent = state.intents.get(key);
            let wanted = intent.into_iter().flat_map(|intent| intent.value.services.values());
            let versions = state.deployments.values().map(|of| &of.value);
            let versions = versions.filter(|of| of.key.service.environment == *key).map(|of| &of.spec);
            let replicas = state.replicas_of(key).map(|of| &of.value.spec);
            let files = wanted.chain(versions).chain(replicas).flat_map(|spec| spec.files.values());
            let named = files.map(|file| file.content.clone()).collect();
            self.secrets.sweep_contents(key, intent.map(|intent| intent.revision), &named).await?;
        }
        Ok(())
    }
}
