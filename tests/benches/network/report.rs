//! Samples → medians and ratios → a table and `target/bench/results.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// One figure of one subject in one round.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// What is measured together (`same-node`, `dns`, `size`).
    pub(crate) group: &'static str,
    /// How it is measured (`tcp-rr` …).
    pub(crate) case: &'static str,
    /// What is measured.
    pub(crate) subject: &'static str,
    /// What the figure is.
    pub(crate) metric: Metric,
    /// The figure.
    pub(crate) value: f64,
}

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metric {
    /// Name.
    pub(crate) name: &'static str,
    /// Unit.
    pub(crate) unit: &'static str,
}

/// A subject's figures of all rounds, summed up.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    group: &'static str,
    case: &'static str,
    subject: &'static str,
    metric: &'static str,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    /// Baseline → this subject's median over that baseline's.
    ratio: BTreeMap<&'static str, f64>,
}

/// Sums samples up, in the order in which group, case and subject first came.
pub(crate) fn rows(samples: &[Sample], baselines: &[&'static str]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for sample in samples {
        if rows.iter().any(|row| (row.group, row.case, row.subject) == (sample.group, sample.case, sample.subject)) {
            continue;
        }
        let mut values: Vec<f64> = samples
            .iter()
            .filter(|s| (s.group, s.case, s.subject) == (sample.group, sample.case, sample.subject))
            .map(|s| s.value)
            .collect();
        values.sort_by(f64::total_cmp);
        rows.push(Row {
            group: sample.group,
            case: sample.case,
            subject: sample.subject,
            metric: sample.metric.name,
            unit: sample.metric.unit,
            median: values[values.len() / 2],
            min: values[0],
            max: values[values.len() - 1],
            ratio: BTreeMap::new(),
        });
    }
    let medians: Vec<_> = rows.iter().map(|row| (row.group, row.case, row.subject, row.median)).collect();
    for row in &mut rows {
        row.ratio = medians
            .iter()
            .filter(|(group, case, subject, _)| {
                (*group, *case) == (row.group, row.case) && *subject != row.subject && baselines.contains(subject)
            })
            .map(|(_, _, subject, median)| (*subject, row.median / median))
            .collect();
    }
    rows
}

/// Prints the table: ratios first, since they hold elsewhere too; figures after.
pub(crate) fn print(rows: &[Row]) {
    println!("{:<10} {:<18} {:<14} {:<58} {:>14} {:>30}", "GROUP", "CASE", "SUBJECT", "RATIO", "MEDIAN", "MIN … MAX");
    for row in rows {
        let ratios: Vec<_> = row.ratio.iter().map(|(name, ratio)| format!("{ratio:.2} × {name}")).collect();
        println!(
            "{:<10} {:<18} {:<14} {:<58} {:>14} {:>30}",
            row.group,
            row.case,
            row.subject,
            ratios.join(", "),
            format!("{} {}", short(row.median), row.unit),
            format!("{} … {}", short(row.min), short(row.max)),
        );
    }
}

/// Writes the rows to `path`.
pub(crate) fn write(rows: &[Row], path: &Path) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    }
    fs::write(path, serde_json::to_vec_pretty(rows)?).with_context(|| format!("writing {}", path.display()))
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} G", v / 1e9),
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.2} "),
    }
}
