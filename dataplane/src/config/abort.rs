//! Where the daemon ends by itself, for tests of what it leaves.

use std::fmt;
use std::str::FromStr;

/// Right before or right after a step; steps are counted from the daemon's start, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortAt {
    /// The step is not begun.
    Before(u64),
    /// The step is done, and nobody has been told.
    After(u64),
}

impl FromStr for AbortAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is neither before:N nor after:N");
        let (when, number) = text.split_once(':').ok_or_else(wrong)?;
        let number = number.parse().map_err(|_| wrong())?;
        match when {
            "before" => Ok(Self::Before(number)),
            "after" => Ok(Self::After(number)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for AbortAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(number) => write!(f, "before:{number}"),
            Self::After(number) => write!(f, "after:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AbortAt;

    #[test]
    fn what_is_shown_is_what_is_read() {
        for at in [AbortAt::Before(3), AbortAt::After(41)] {
            assert_eq!(at.to_string().parse(), Ok(at));
        }
        for wrong in ["before", "after:x", "during:3"] {
            assert!(wrong.parse::<AbortAt>().is_err(), "{wrong}");
        }
    }
}
