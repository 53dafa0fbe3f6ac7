use std::process::ExitCode;

use dataplane::api::types::{Accepted, Kept, WatchEvent};

use crate::cli::{ConfigArgs, DownArgs, Global, UpArgs, WaitArgs};
use crate::client::Client;
use crate::error::CtlError;
use crate::output::Output;
use crate::progress::Progress;
use crate::scope;

/// `up`.
pub(crate) async fn up(global: &Global, args: &UpArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let manifest = scope::load(global, &args.file)?;
    for note in &manifest.notes {
        output.note(&format!("note: {note}"));
    }
    let client = Client::new(global);
    let path = scope::with(scope::path(&manifest.spec.key), &[("dry_run", args.wait.dry_run)]);
    let accepted: Accepted = client.put(&path, &manifest.wanted()).await?;
    follow(&client, &accepted, &args.wait, output).await
}

/// `config`; with `-o json`, what skepd is sent, but for what files hold.
pub(crate) fn config(global: &Global, args: &ConfigArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let (manifest, text) = scope::resolve(global, &args.file)?;
    for note in &manifest.notes {
        output.note(&format!("note: {note}"));
    }
    match (args.quiet, args.services) {
        (true, _) => {}
        (false, true) => manifest.spec.services.keys().try_for_each(|service| output.line(service))?,
        (false, false) if output.is_json() => output.json(&manifest.spec)?,
        (false, false) => output.line(text.trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `down`.
pub(crate) async fn down(global: &Global, args: &DownArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let key = scope::key(global, &args.file)?;
    let client = Client::new(global);
    let options = [("dry_run", args.wait.dry_run), ("volumes", args.volumes)];
    let path = scope::with(scope::path(&key), &options);
    let accepted: Accepted = client.delete(&path).await?;
    let code = follow(&client, &accepted, &args.wait, output).await?;
    if let Some(kept) = accepted.kept.as_ref().filter(|_| !args.wait.dry_run) {
        output.note(&line(kept));
    }
    Ok(code)
}

/// What stays, in one line.
fn line(kept: &Kept) -> String {
    let volumes = format!("volumes: {}", kept.volumes.join(", "));
    let credentials = format!("credentials: {}", kept.credentials.join(", "));
    let parts = [(&kept.volumes, volumes), (&kept.credentials, credentials)];
    let parts: Vec<String> = parts.into_iter().filter(|(of, _)| !of.is_empty()).map(|(_, text)| text).collect();
    format!("kept {}; remove with --volumes", parts.join("; kept "))
}

/// Prints the plan, or waits until what was accepted is done.
pub(crate) async fn follow(
    client: &Client,
    accepted: &Accepted,
    wait: &WaitArgs,
    output: &mut Output,
) -> Result<ExitCode, CtlError> {
    if wait.dry_run {
        print_plan(accepted, output)?;
    } else if wait.no_wait {
        if output.is_json() { output.json(accepted) } else { output.line(&format!("{} accepted", accepted.key)) }?;
    } else {
        let watched = tokio::time::timeout(wait.timeout, watch(client, accepted, output)).await;
        watched.unwrap_or(Err(CtlError::Timeout { seconds: wait.timeout.as_secs() }))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_plan(accepted: &Accepted, output: &mut Output) -> Result<(), CtlError> {
    if output.is_json() {
        return output.json(accepted);
    }
    let plan = accepted.plan.as_deref().unwrap_or_default();
    if plan.is_empty() {
        output.note("Nothing to do.");
    }
    plan.iter().try_for_each(|op| output.line(op))
}

async fn watch(client: &Client, accepted: &Accepted, output: &mut Output) -> Result<(), CtlError> {
    let path = format!("{}/watch", scope::path(&accepted.key));
    let mut lines = client.stream(&path).await?;
    let mut progress = Progress::default();
    while let Some(event) = lines.next::<WatchEvent>().await? {
        progress.show(&event, output)?;
        if let WatchEvent::Done { failed } = event {
            return if failed.is_empty() { Ok(()) } else { Err(CtlError::NotServing) };
        }
    }
    Err(CtlError::Cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_one_line() {
        let kept = |volumes: &[&str], credentials: &[&str]| {
            let [volumes, credentials] =
                [volumes, credentials].map(|names| names.iter().map(ToString::to_string).collect());
            line(&Kept { volumes, credentials })
        };
        assert_eq!(kept(&["data", "cache"], &[]), "kept volumes: data, cache; remove with --volumes");
        assert_eq!(kept(&["data"], &["db"]), "kept volumes: data; kept credentials: db; remove with --volumes");
    }
}
