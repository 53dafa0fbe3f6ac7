//! What an exported function returns, which can only be a number: an action, or a reason to drop.

use dataplane_ebpf::abi::Reason;

/// As a number: actions are not negative, reasons are.
#[inline(always)]
pub(crate) fn number(result: Result<i32, Reason>) -> i32 {
    match result {
        Ok(action) => action,
        Err(reason) => -(reason as i32),
    }
}

/// What [`number`] was made of.
#[inline(always)]
pub(crate) fn result(number: i32) -> Result<i32, Reason> {
    if number >= 0 { Ok(number) } else { Err(Reason::from_number(number.unsigned_abs()).unwrap_or(Reason::NoConfig)) }
}
