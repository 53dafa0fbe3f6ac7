use std::process::ExitCode;

use dataplane::api::types::{CheckRow, Level};

use crate::cell::{Cell, Tone};
use crate::cli::Global;
use crate::client::Client;
use crate::error::CtlError;
use crate::output::Output;

const HEADER: [&str; 3] = ["LEVEL", "FINDING", "REMEDY"];

/// `check`, as the daemon sees its machine; without a daemon, `skepd check` says the same.
pub(crate) async fn run(global: &Global, output: &mut Output) -> Result<ExitCode, CtlError> {
    let answer = Client::new(global).get("/v1/check").await;
    if answer.as_ref().is_err_and(CtlError::is_unreachable) {
        output.note("`sudo skepd check` looks at this machine without a running daemon.");
    }
    let rows: Vec<CheckRow> = answer?;
    output.list(&HEADER, &rows, row)?;
    match rows.iter().filter(|finding| finding.level == Level::Error).count() {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(CtlError::Check { count }),
    }
}

fn row(finding: &CheckRow) -> Vec<Cell> {
    let level = match finding.level {
        Level::Ok => Cell::new("ok").tone(Tone::Good),
        Level::Warn => Cell::new("warning").tone(Tone::Warn),
        Level::Error => Cell::new("error").tone(Tone::Bad),
    };
    vec![level, Cell::new(&finding.what), Cell::new(&finding.remedy)]
}
