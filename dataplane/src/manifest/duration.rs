//! Durations as Compose writes them: numbers, each with its unit, as in `1m30s`.

use super::reader::Reader;
use super::yaml::Node;
use crate::model::rollout::Millis;

/// Compose's units, in microseconds.
const UNITS: [(&str, u64); 5] = [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];

const REMEDY: &str = "write it with units (us, ms, s, m, h), as in 10s, 1m30s or 500ms";

const ODD: &str = "is no duration";

/// Digits behind the point that are looked at; more than Go's own reader tells apart.
const FRACTION_MAX: usize = 18;

/// Reads a duration into `millis`, which stays as it is if nothing is given.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, path: &str, millis: &mut Millis) {
    if let Some(given) = optional(reader, node, path) {
        *millis = given;
    }
}

/// A duration, or nothing.
pub(super) fn optional(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<Millis> {
    let text = reader.optional(node, path)?;
    match parse(&text) {
        Ok(millis) => Some(millis),
        Err(what) => {
            reader.error(node.at, path, format!("{text:?} {what}"), REMEDY);
            None
        }
    }
}

/// Rounds up, so that what is not zero stays so; else what is wrong. Zero needs no unit.
fn parse(text: &str) -> Result<Millis, &'static str> {
    match text {
        "0" => return Ok(0),
        "" => return Err(ODD),
        _ => {}
    }
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
        let (unit, behind) = behind.split_at(behind.find(is_number).unwrap_or(behind.len()));
        let value = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, micros)) => scaled(number, *micros),
            None if unit.is_empty() && scaled(number, 1).is_some() => return Err("has no unit"),
            None => None,
        };
        total = value.and_then(|value| total.checked_add(value)).ok_or(ODD)?;
        rest = behind;
    }
    Ok(total.div_ceil(1_000))
}

fn is_number(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

/// A decimal number times `scale`, rounded up; [`None`] if it is none, or too large.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let digits = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok() };
    let fraction = fraction.get(..FRACTION_MAX).unwrap_or(fraction);
    let parts = u128::from(digits(fraction)?) * u128::from(scale);
    let behind = parts.div_ceil(10_u128.pow(u32::try_from(fraction.len()).ok()?));
    digits(whole)?.checked_mul(scale)?.checked_add(u64::try_from(behind).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_mean_what_compose_means() {
        let cases = [
            ("1m30s", 90_000),
            ("10s", 10_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            (".5s", 500),
            ("1.s", 1_000),
            ("2h", 7_200_000),
            ("1h5m30s20ms", 3_930_020),
            ("30s1m", 90_000),
            ("3000us", 3),
            ("0", 0),
            ("0s", 0),
            ("0h0m", 0),
            // A part of a millisecond is a whole one: nothing becomes zero.
            ("1us", 1),
            ("0.0000000001s", 1),
            ("1.0000000000000000000000001s", 1_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn a_number_alone_is_no_duration() {
        for text in ["10", "1m30", "1.5", "00"] {
            assert_eq!(parse(text), Err("has no unit"), "{text}");
        }
        let odd = [
            "",
            " ",
            "s",
            "1 s",
            "10 s",
            "-1s",
            "+1s",
            "1d",
            "1S",
            "1mm",
            "1.5.5s",
            ".",
            ".s",
            "1.2.3",
            "s1",
            "é1s",
            "1é",
            "١s",
            "99999999999999999999s",
            "9999999999999h",
            "1e3s",
            "1m 30s",
        ];
        for text in odd {
            assert_eq!(parse(text), Err("is no duration"), "{text}");
        }
    }
}
