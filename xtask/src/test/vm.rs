//! placeholder
pub(super) fn run(_yes: bool) -> anyhow::Result<()> {
    Ok(())
}
