use std::process::ExitCode;

use crate::cli::{Global, WhyArgs};
use crate::error::CtlError;
use crate::output::Output;

pub(crate) async fn explain(_: &Global, _: &WhyArgs, _: &mut Output) -> Result<ExitCode, CtlError> {
    unimplemented!()
}
