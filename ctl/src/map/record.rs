use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::cell::{Cell, Tone};

/// An entry of a map, decoded: its key as `map get` takes it, then one field after the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    key: String,
    /// With ids where `key` has names.
    raw_key: String,
    fields: Vec<(&'static str, Value)>,
}

impl Record {
    pub(crate) fn new(key: impl Into<String>) -> Self {
        let key = key.into();
        Self { raw_key: key.clone(), key, fields: Vec::new() }
    }

    /// The key with ids in it, which `map get` takes as well.
    pub(crate) fn raw_key(self, raw_key: impl Into<String>) -> Self {
        Self { raw_key: raw_key.into(), ..self }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.key.eq_ignore_ascii_case(key) || self.raw_key == key
    }

    pub(crate) fn header(&self) -> Vec<String> {
        std::iter::once("key").chain(self.fields.iter().map(|(name, _)| *name)).map(title).collect()
    }

    pub(crate) fn cells(&self) -> Vec<Cell> {
        std::iter::once(Cell::new(&self.key)).chain(self.fields.iter().map(|(_, value)| cell(value))).collect()
    }

    /// A line a field, for one entry alone.
    pub(crate) fn lines(&self) -> Vec<String> {
        let width = self.fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max("key".len());
        let line = |name: &str, text: &str| format!("{name:width$}  {text}").trim_end().to_owned();
        let fields = self.fields.iter().map(|(name, value)| line(name, &cell(value).text));
        std::iter::once(line("key", &self.key)).chain(fields).collect()
    }
}

/// `service_id` → `SERVICE ID`.
fn title(name: &str) -> String {
    name.replace('_', " ").to_uppercase()
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::new("-").tone(Tone::Dim),
        Value::Bool(true) => Cell::new("yes"),
        Value::Bool(false) => Cell::new("no"),
        Value::String(text) => Cell::new(text),
        Value::Array(items) => Cell::new(items.iter().map(|item| cell(item).text).collect::<Vec<_>>().join(",")),
        other => Cell::new(other),
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len() + 1))?;
        map.serialize_entry("key", &self.key)?;
        self.fields.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order() {
        let record = Record::new("7").with("service", "shop/production/api").with("networks", vec![0, 3]);
        assert_eq!(record.header(), ["KEY", "SERVICE", "NETWORKS"]);
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"key":"7","service":"shop/production/api","networks":[0,3]}"#
        );
        assert_eq!(record.lines(), ["key       7", "service   shop/production/api", "networks  0,3"]);
    }
}
