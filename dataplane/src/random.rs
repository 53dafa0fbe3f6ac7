//! Random octets, from the kernel.

/// The kernel gives none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel gives no random numbers ({0})")]
pub struct RandomError(String);

/// As many as the caller's array holds.
///
/// # Errors
/// [`RandomError`].
pub(crate) fn octets<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(|error| RandomError(error.to_string()))?;
    Ok(octets)
}
