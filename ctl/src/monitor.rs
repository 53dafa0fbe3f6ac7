use std::process::ExitCode;

use dataplane::api::types::{Dropped, MonitorEvent, Traffic};
use tokio::signal::unix::{SignalKind, signal};

use crate::cell::{self, Cell, Tone};
use crate::cli::{Global, MonitorArgs};
use crate::client::Client;
use crate::drops;
use crate::error::CtlError;
use crate::output::Output;
use crate::scope::Scope;

/// Time, kind, whose, packet, and for a drop why.
const COLUMNS: usize = 5;

/// `monitor`.
pub(crate) async fn follow(global: &Global, args: &MonitorArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let kind = match (args.connects, args.drops) {
        (true, _) => Some("connect"),
        (_, true) => Some("drop"),
        _ => None,
    };
    let path = Scope::new(global)?.query_of("/v1/monitor", kind.map(|kind| ("kind", kind)));
    // Asked for first, so that Ctrl-C is an ordinary end from here on.
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(ExitCode::SUCCESS),
        ended = show_all(global, &path, output) => ended,
    }
}

/// Until the stream ends, which it does not by itself.
async fn show_all(global: &Global, path: &str, output: &mut Output) -> Result<ExitCode, CtlError> {
    let client = Client::new(global);
    let mut lines = match client.stream(path).await {
        Err(error) if error.is_unreachable() => {
            output.note("What was dropped so far, `skepctl drops` shows without skepd.");
            return Err(error);
        }
        lines => lines?,
    };
    output.note("Following from now on; Ctrl-C ends it.");
    let mut widths = [0; COLUMNS];
    loop {
        match lines.next::<MonitorEvent>().await {
            Ok(Some(event)) => show(&event, &mut widths, output)?,
            // However skepd ends, in the middle of a line or not.
            Ok(None) | Err(CtlError::Http { .. }) => return Err(CtlError::Left { socket: client.socket().to_owned() }),
            Err(error) => return Err(error),
        }
    }
}

fn show(event: &MonitorEvent, widths: &mut [usize; COLUMNS], output: &mut Output) -> Result<(), CtlError> {
    if output.is_json() {
        return output.json_line(event);
    }
    let row = row(event);
    // What has scrolled by stays as it is; from here on, columns are as wide as the widest cell so far.
    for (width, cell) in widths.iter_mut().zip(&row) {
        *width = (*width).max(cell.text.chars().count());
    }
    output.line(&cell::line(&row, widths, output.is_colored()))?;
    output.flush()
}

fn row(event: &MonitorEvent) -> Vec<Cell> {
    let about = |kind: Cell, traffic: &Traffic| {
        vec![Cell::new(local_time(traffic.time_ms)).tone(Tone::Dim), kind, Cell::new(who(traffic)), packet(traffic)]
    };
    match event {
        MonitorEvent::Connect(traffic) => about(Cell::new("connect").tone(Tone::Good), traffic),
        MonitorEvent::Drop(Dropped { traffic, reason }) => {
            let mut row = about(Cell::new("drop").tone(Tone::Warn), traffic);
            row.push(Cell::new(format!("{}: {}", reason.reason, reason.remedy)));
            row
        }
        MonitorEvent::Missed { events } => vec![
            Cell::or_dash(None::<String>),
            Cell::new("missed").tone(Tone::Bad),
            Cell::new(format!("{events} events; ask for less with -p, -e, --drops or --connects")).tone(Tone::Bad),
        ],
    }
}

/// `shop/production/web`, with ids for names that are gone.
fn who(traffic: &Traffic) -> String {
    let environment = traffic.environment_key();
    let environment = environment.map_or_else(|| traffic.env_id.to_string(), |key| key.to_string());
    match &traffic.service {
        Some(service) => format!("{environment}/{service}"),
        None if (traffic.env_id, traffic.service_id) == (0, 0) => "outside".to_owned(),
        None => format!("{environment}/{}", traffic.service_id),
    }
}

/// `tcp 10.208.0.5 > 10.208.0.9:5432 (postgres)`; a service of another environment with its whole name.
fn packet(traffic: &Traffic) -> Cell {
    let own = traffic.environment_key().map(|key| format!("{key}/")).unwrap_or_default();
    let service = traffic.destination_service.as_ref();
    let service = service.map(|name| format!(" ({})", name.strip_prefix(own.as_str()).unwrap_or(name)));
    Cell::or_dash(drops::packet(&traffic.tuple()).map(|tuple| tuple + &service.unwrap_or_default()))
}

/// `14:03:12.125` where the user is.
pub(crate) fn local_time(time_ms: u64) -> String {
    let seconds = (time_ms / 1_000).cast_signed();
    // SAFETY: integers and a pointer that may be null.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both live until after the call; what the kernel's clock says fits a `tm`, else it stays zero.
    unsafe { libc::localtime_r(&raw const seconds, &raw mut local) };
    format!("{:02}:{:02}:{:02}.{:03}", local.tm_hour, local.tm_min, local.tm_sec, time_ms % 1_000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(line: serde_json::Value) -> MonitorEvent {
        let mut whole = json!({
            "event": "connect", "time_ms": 1_700_000_000_125_u64,
            "project": "shop", "environment": "production", "service": "web", "env_id": 1, "service_id": 10,
            "protocol": 6, "source": "10.208.0.5", "source_port": 0, "destination": "10.208.0.9",
            "destination_port": 5432, "destination_service": "shop/production/postgres",
        });
        whole.as_object_mut().unwrap().extend(line.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    /// Everything but the time, which is where the test runs.
    fn texts(event: &MonitorEvent) -> Vec<String> {
        row(event).into_iter().skip(1).map(|cell| cell.text).collect()
    }

    #[test]
    fn a_connect_names_both_sides() {
        let own = event(json!({}));
        assert_eq!(texts(&own), ["connect", "shop/production/web", "tcp 10.208.0.5 > 10.208.0.9:5432 (postgres)"]);
        let other = event(json!({ "destination_service": "shop/staging/postgres", "source_port": 9, "protocol": 17 }));
        assert_eq!(texts(&other)[2], "udp 10.208.0.5:9 > 10.208.0.9:5432 (shop/staging/postgres)");
        let outside = event(json!({ "destination_service": null, "destination": "2606:4700::1111" }));
        assert_eq!(texts(&outside)[2], "tcp 10.208.0.5 > [2606:4700::1111]:5432");
    }

    #[test]
    fn a_drop_says_why_and_what_to_do() {
        let words =
            json!({ "event": "drop", "reason": "egress-off", "explanation": "It may not.", "remedy": "let it" });
        assert_eq!(texts(&event(words))[3], "egress-off: let it");
        let unreadable = json!({
            "event": "drop", "reason": "ether-type", "explanation": "", "remedy": "", "destination_service": null,
            "protocol": 0, "source": "::", "destination": "::", "destination_port": 0,
        });
        assert_eq!(texts(&event(unreadable))[2], "-");
    }

    #[test]
    fn ids_stand_for_names_that_are_gone() {
        let who = |line| texts(&event(line)).swap_remove(1);
        assert_eq!(who(json!({ "service": null })), "shop/production/10");
        assert_eq!(who(json!({ "service": null, "project": null, "environment": null })), "1/10");
        assert_eq!(who(json!({ "service": null, "project": null, "env_id": 0, "service_id": 0 })), "outside");
    }

    #[test]
    fn times_are_of_the_clock_on_the_wall() {
        let time = local_time(1_700_000_000_125);
        // Zones differ by quarters of an hour.
        assert!(time.len() == 12 && time.ends_with(":20.125"), "{time}");
    }
}
