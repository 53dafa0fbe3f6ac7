use dataplane_ebpf::abi::Reason;
use serde::{Deserialize, Serialize};

/// Why something was dropped, in words; also for a number that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReasonText {
    /// The name that people look up, kebab-case; or the number.
    pub reason: String,
    /// What happened, in a sentence.
    pub explanation: String,
    /// What to do about it.
    pub remedy: String,
}

impl ReasonText {
    /// [`Reason::is_routine`], by name.
    pub fn is_routine(&self) -> bool {
        Reason::ALL.iter().any(|reason| Reason::is_routine(*reason as u32) && reason.name() == self.reason)
    }
}

impl From<Reason> for ReasonText {
    fn from(reason: Reason) -> Self {
        Self {
            reason: reason.name().to_owned(),
            explanation: reason.explanation().to_owned(),
            remedy: reason.remedy().to_owned(),
        }
    }
}

/// From the number in a map.
impl From<u32> for ReasonText {
    fn from(number: u32) -> Self {
        Reason::from_number(number).map_or_else(
            || Self {
                reason: number.to_string(),
                explanation: "A reason that this version does not know.".to_owned(),
                remedy: "use skepctl and skepd of one version".to_owned(),
            },
            Self::from,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_words() {
        assert_eq!(ReasonText::from(Reason::EgressOff as u32), ReasonText::from(Reason::EgressOff));
        let unknown = ReasonText::from(u32::MAX);
        assert_eq!(unknown.reason, "4294967295");
        assert!(unknown.remedy.contains("one version"), "{unknown:?}");
    }
}
