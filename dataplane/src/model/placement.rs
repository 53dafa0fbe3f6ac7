//! Where replicas may be: what services ask for, and what nodes have.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::node::{NodeIntent, Role};

/// Longest name or value of a node's label.
const LABEL_MAX: usize = 128;

/// Which nodes the replicas of a service may be on: Compose's `deploy.placement`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Placement {
    /// All of them must hold.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub constraints: Vec<Constraint>,
    /// So many of one deployment at most on each node.
    #[serde(default)]
    pub max_per_node: Option<u32>,
}

impl Placement {
    /// Whether any node will do.
    pub fn is_anywhere(&self) -> bool {
        *self == Self::default()
    }
}

/// What must hold of a node, in Swarm's syntax: `node.labels.disk==ssd`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    /// Of what.
    pub attribute: Attribute,
    /// `==`, not `!=`.
    pub equal: bool,
    /// Compared without regard to case, as Swarm does.
    pub value: String,
}

/// Something of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// `node.hostname`: its name.
    Hostname,
    /// `node.role`: one of those that it has.
    Role,
    /// `node.labels.<name>`. A label that is not there has the empty value.
    Label(String),
}

/// Why a text is no constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct ConstraintError {
    /// What is wrong.
    pub what: String,
    /// The way out.
    pub remedy: String,
}

impl Constraint {
    /// Whether it holds of a node of this name.
    pub fn holds(&self, node: &str, intent: &NodeIntent) -> bool {
        let is = |value: &str| value.eq_ignore_ascii_case(&self.value);
        let found = match &self.attribute {
            Attribute::Hostname => is(node),
            Attribute::Role => intent.roles.iter().any(|role| is(role.name())),
            Attribute::Label(name) => is(intent.labels.get(name).map_or("", String::as_str)),
        };
        found == self.equal
    }
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |what: String, remedy: &str| ConstraintError { what, remedy: remedy.to_owned() };
        let (left, right, equal) = match (text.split_once("=="), text.split_once("!=")) {
            (Some((left, right)), None) => (left.trim(), right.trim(), true),
            (None, Some((left, right))) => (left.trim(), right.trim(), false),
            _ => return Err(refused(format!("{text:?} is no constraint"), "write one as node.labels.disk==ssd")),
        };
        let lower = left.to_ascii_lowercase();
        let attribute = match lower.as_str() {
            "node.hostname" => Attribute::Hostname,
            "node.role" => Attribute::Role,
            // The name of a label has its case.
            _ => match lower.strip_prefix("node.labels.").map(|name| &left[left.len() - name.len()..]) {
                Some(name) => {
                    check_label(name)?;
                    Attribute::Label(name.to_owned())
                }
                None => {
                    let remedy = "use node.hostname, node.role, or node.labels.NAME with a label that \
                        `skepctl nodes label NODE NAME=VALUE` gives";
                    return Err(refused(format!("nodes have no {left:?} to be placed by"), remedy));
                }
            },
        };
        match attribute {
            Attribute::Role => {
                right.parse::<Role>()?;
            }
            _ => check_value(right)?,
        }
        Ok(Self { attribute, equal, value: right.to_owned() })
    }
}

impl TryFrom<String> for Constraint {
    type Error = ConstraintError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Constraint> for String {
    fn from(constraint: Constraint) -> Self {
        constraint.to_string()
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.equal { "==" } else { "!=" };
        match &self.attribute {
            Attribute::Hostname => write!(f, "node.hostname{operator}{}", self.value),
            Attribute::Role => write!(f, "node.role{operator}{}", self.value),
            Attribute::Label(name) => write!(f, "node.labels.{name}{operator}{}", self.value),
        }
    }
}

impl FromStr for Role {
    type Err = ConstraintError;

    /// Swarm's roles are none of ours, which is said.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let remedy = match text.to_ascii_lowercase().as_str() {
            "control" => return Ok(Self::Control),
            "build" => return Ok(Self::Build),
            "compute" => return Ok(Self::Compute),
            "manager" => "Swarm's managers are nodes of the role control here: write control, or a label of your own",
            "worker" => {
                "Swarm's workers are nodes of the role compute here, the only ones that get replicas: remove it, or \
                write a label of your own"
            }
            _ => "write control, build or compute",
        };
        Err(ConstraintError { what: format!("{text:?} is no role of a node"), remedy: remedy.to_owned() })
    }
}

/// Checks a label's name.
///
/// # Errors
/// [`ConstraintError`] when no constraint could name it.
pub fn check_label(name: &str) -> Result<(), ConstraintError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    if name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && !name.ends_with('-')
        && name.chars().all(fits)
        && name.len() <= LABEL_MAX
    {
        return Ok(());
    }
    let remedy = "write letters, digits and _ - . / in it, a letter or digit first, no hyphen last";
    Err(ConstraintError { what: format!("{name:?} is no name of a label"), remedy: remedy.to_owned() })
}

/// Checks a label's value, or what one is compared with.
///
/// # Errors
/// [`ConstraintError`] when it is empty, as that of a label that is not there is, or no single word or line.
pub fn check_value(value: &str) -> Result<(), ConstraintError> {
    let remedy = match value {
        "" => "write one, or `skepctl nodes label NODE NAME-` to take a label away".to_owned(),
        _ if value.trim() != value
            || value.contains(char::is_control)
            || value.contains("==")
            || value.contains("!=") =>
        {
            "write it without control characters, ==, !=, and spaces around it".to_owned()
        }
        _ if value.len() > LABEL_MAX => format!("write {LABEL_MAX} octets or fewer"),
        _ => return Ok(()),
    };
    Err(ConstraintError { what: format!("{value:?} is no value of a label or a name"), remedy })
}

/// Checks all labels of a node.
///
/// # Errors
/// [`ConstraintError`] for the first that no constraint could name or compare.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), ConstraintError> {
    labels.iter().try_for_each(|(name, value)| check_label(name).and_then(|()| check_value(value)))
}

/// What is kept free of a node for a replica, or is so already for all that are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reserved {
    /// Octets of memory.
    #[serde(default)]
    pub memory: u64,
    /// Processors, in billionths.
    #[serde(default)]
    pub nano_cpus: u64,
}

impl Reserved {
    /// Whether that is nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            memory: self.memory.saturating_add(other.memory),
            nano_cpus: self.nano_cpus.saturating_add(other.nano_cpus),
        }
    }

    /// Without what was added before.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            memory: self.memory.saturating_sub(other.memory),
            nano_cpus: self.nano_cpus.saturating_sub(other.nano_cpus),
        }
    }
}

/// What a node has for replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Capacity {
    /// Octets of memory.
    pub memory: u64,
    /// Processors, in billionths.
    pub nano_cpus: u64,
}

/// Octets for people: `512 MiB`, `1.5 GiB`.
pub fn octets(octets: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (octets.max(1).ilog2() / 10).min(4);
    let scaled = octets as f64 / f64::from(1_u32 << 10).powi(unit as i32);
    let number = format!("{scaled:.1}");
    format!("{} {}", number.strip_suffix(".0").unwrap_or(&number), UNITS[unit as usize])
}

/// Processors for people: `2`, `0.25`.
pub fn cpus(nano: u64) -> String {
    let number = format!("{:.3}", nano as f64 / 1e9);
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(roles: &[Role], labels: &[(&str, &str)]) -> NodeIntent {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        NodeIntent { labels, roles: roles.iter().copied().collect(), ..NodeIntent::default() }
    }

    #[test]
    fn a_constraint_means_what_it_means_to_swarm() {
        let intent = node(&[Role::Compute, Role::Build], &[("disk", "SSD"), ("Zone", "a")]);
        let cases = [
            ("node.hostname==n1", true),
            ("node.hostname == N1", true),
            ("node.hostname!=n1", false),
            ("node.hostname!=n2", true),
            ("node.role==build", true),
            ("Node.Role==BUILD", true),
            ("node.role==control", false),
            ("node.role!=control", true),
            ("node.labels.disk==ssd", true),
            ("node.labels.disk!=ssd", false),
            ("node.labels.disk!=hdd", true),
            // The names of labels have their case; one that is not there is empty.
            ("node.labels.Zone==a", true),
            ("node.labels.zone==a", false),
            ("node.labels.zone!=a", true),
        ];
        for (text, holds) in cases {
            let constraint: Constraint = text.parse().unwrap();
            assert_eq!(constraint.holds("n1", &intent), holds, "{text}");
            assert_eq!(constraint.to_string().parse(), Ok(constraint), "{text}");
        }
    }

    #[test]
    fn what_is_no_constraint_is_refused_with_the_way_out() {
        let cases = [
            ("node.labels.disk=ssd", "is no constraint; write one as node.labels.disk==ssd"),
            ("node.labels.disk", "is no constraint"),
            ("a==b!=c", "is no constraint"),
            ("node.labels.a==b==c", "is no value of a label or a name; write it without"),
            ("node.labels.a==", "is no value of a label or a name; write one"),
            ("node.labels.==a", "\"\" is no name of a label"),
            ("node.labels.a b==a", "\"a b\" is no name of a label"),
            ("node.labels.a-==a", "\"a-\" is no name of a label"),
            ("node.id==abc", "nodes have no \"node.id\" to be placed by; use node.hostname, node.role"),
            ("engine.labels.a==b", "nodes have no \"engine.labels.a\""),
            ("node.platform.os==linux", "nodes have no \"node.platform.os\""),
            ("node.role==manager", "\"manager\" is no role of a node; Swarm's managers are nodes of the role control"),
            ("node.role!=worker", "\"worker\" is no role of a node; Swarm's workers are nodes of the role compute"),
            ("node.role==x", "\"x\" is no role of a node; write control, build or compute"),
        ];
        for (text, told) in cases {
            let error = text.parse::<Constraint>().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn a_constraint_is_its_text_in_json() {
        let placement = Placement { constraints: vec!["node.role!=build".parse().unwrap()], max_per_node: Some(2) };
        let json = serde_json::to_string(&placement).unwrap();
        assert_eq!(json, r#"{"constraints":["node.role!=build"],"max_per_node":2}"#);
        assert_eq!(serde_json::from_str::<Placement>(&json).unwrap(), placement);
        assert!(serde_json::from_str::<Constraint>(r#""node.role==manager""#).is_err());
    }

    #[test]
    fn sizes_are_for_people() {
        let sizes = [0, 512, 1 << 20, 3 << 29, 2 << 30, 1_500_000].map(octets);
        assert_eq!(sizes, ["0 B", "512 B", "1 MiB", "1.5 GiB", "2 GiB", "1.4 MiB"]);
        assert_eq!([0, 250_000_000, 2_000_000_000, 10_000_000_000].map(cpus), ["0", "0.25", "2", "10"]);
    }
}
