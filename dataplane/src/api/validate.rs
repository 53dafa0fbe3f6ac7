//! What a spec must keep to, whoever sent it. The rules are the model's: the reader of compose files has the same.

use super::error::Refusal;
use crate::model::{EnvironmentKey, EnvironmentSpec};

/// Refuses a spec that cannot be.
pub(super) fn validate(key: &EnvironmentKey, spec: &EnvironmentSpec) -> Result<(), Refusal> {
    if spec.key != *key {
        return Err(Refusal::bad(
            format!("the body is of {}, the path of {key}", spec.key),
            "name the same project and environment in both",
        ));
    }
    match spec.check().into_iter().next() {
        Some(problem) => Err(Refusal::bad(format!("{}: {}", problem.path, problem.what), problem.remedy)),
        None => Ok(()),
    }
}
