//! How a service is known to be well, changes and stops, as files say it.

use super::*;
use crate::model::rollout::{FailureAction, HealthCheck, Order, Probe, Rollout};

pub(super) const FULL: &str = r#"
services:
  web:
    image: shop:1
    stop_signal: SIGQUIT
    stop_grace_period: 1m30s
    healthcheck:
      test: ["CMD", "curl", "-f", "http://localhost:${PORT:-9090}"]
      interval: 30s
      timeout: 500ms
      retries: 4
      start_period: 1.5s
      start_interval: 100000us
    deploy:
      update_config:
        parallelism: 2
        order: stop-first
        failure_action: pause
        monitor: 5s
        delay: 1s
        max_failure_ratio: 0.3
      rollback_config: { parallelism: 1, order: stop-first, failure_action: continue, monitor: 0s, delay: 2h }
    x-skep:
      type: web
      port: ${PORT:-9090}
      health: { path: /healthz, interval: 1s, timeout: 3s, retries: 5 }
      start_timeout: 2m
      drain_timeout: 45s
      release: bin/migrate --to "new version"
  nightly:
    image: shop:1
    x-skep: { schedule: "30 4 * * *" }
"#;

/// A file whose only service is `a` with these lines.
pub(super) fn file(body: &str) -> String {
    format!("services:\n  a:\n    image: i\n{body}\nvolumes: {{ d: }}\n")
}

pub(super) fn service(body: &str) -> ServiceSpec {
    spec(&file(body)).services.remove("a").unwrap()
}

/// Its notes.
fn notes(body: &str) -> Vec<String> {
    let dir = directory(&[("compose.yaml", &file(body))]);
    lines(&dir, &load_in(&dir, &[]).unwrap_or_else(|error| panic!("{error}")).notes)
}

fn check(test: &[&str]) -> HealthCheck {
    HealthCheck { test: test.iter().map(|word| (*word).to_owned()).collect(), ..HealthCheck::default() }
}

#[test]
fn every_key_about_the_life_of_a_service_is_read() {
    let dir = directory(&[("compose.yaml", FULL)]);
    let Manifest { spec, notes, .. } = load_in(&dir, &[]).unwrap_or_else(|error| panic!("{error}"));
    let web = &spec.services["web"];
    assert_eq!((web.stop_signal.as_deref(), web.stop_grace_period), (Some("SIGQUIT"), 90_000));
    let healthcheck = HealthCheck {
        interval: Some(30_000),
        timeout: Some(500),
        retries: Some(4),
        start_period: Some(1_500),
        start_interval: Some(100),
        ..check(&["CMD", "curl", "-f", "http://localhost:9090"])
    };
    assert_eq!(web.healthcheck, Some(healthcheck));
    let update = Rollout {
        parallelism: 2,
        order: Order::StopFirst,
        failure_action: FailureAction::Pause,
        monitor: 5_000,
        delay: 1_000,
    };
    assert_eq!(web.update, update);
    let rollback = Rollout {
        parallelism: 1,
        order: Order::StopFirst,
        failure_action: FailureAction::Continue,
        monitor: 0,
        delay: 7_200_000,
    };
    assert_eq!(web.rollback, rollback);
    assert_eq!((web.kind, web.port), (ServiceType::Web, Some(9090)));
    let probe = Probe { path: Some("/healthz".to_owned()), interval: 1_000, timeout: 3_000, retries: 5 };
    assert_eq!(web.probe, Some(probe));
    assert_eq!((web.start_timeout, web.drain_timeout), (120_000, 45_000));
    assert_eq!(web.release.as_ref().unwrap(), &["bin/migrate", "--to", "new version"]);
    let nightly = &spec.services["nightly"];
    assert_eq!((nightly.schedule.as_deref(), nightly.restart), (Some("30 4 * * *"), RestartPolicy::No));
    let expected = "21:9: services.web.deploy.update_config.max_failure_ratio: has no effect: one replica that is not well ends it";
    assert_eq!(lines(&dir, &notes), [expected]);
}

#[test]
fn what_is_not_said_is_as_the_table_of_keys_says() {
    let a = service("    restart: always");
    assert_eq!((a.healthcheck, a.probe, a.port, a.stop_signal), (None, None, None, None));
    assert_eq!((a.start_timeout, a.drain_timeout, a.stop_grace_period), (60_000, 30_000, 10_000));
    assert_eq!((a.update, a.release, a.schedule), (Rollout::default(), None, None));
    assert_eq!(a.rollback, Rollout { failure_action: FailureAction::Pause, ..Rollout::default() });
    // What says nothing asks for nothing.
    let empty = "    healthcheck: { test: , interval: 0s, retries: 0 }\n    stop_grace_period:\n    stop_signal: ''\n    \
                 deploy: { update_config: { order: , monitor: }, rollback_config: }\n    \
                 x-skep: { port: , health: , start_timeout: , release: , schedule: }";
    assert_eq!(service(empty), ServiceSpec { restart: RestartPolicy::UnlessStopped, ..service("    restart:") });
}

#[test]
fn a_healthcheck_is_what_it_is_to_docker() {
    let cases = [
        ("test: curl -f http://localhost", Some(check(&["CMD-SHELL", "curl -f http://localhost"]))),
        ("test: 'echo $$HOME'", Some(check(&["CMD-SHELL", "echo $HOME"]))),
        ("test: [CMD-SHELL, 'true || false']", Some(check(&["CMD-SHELL", "true || false"]))),
        ("test: [NONE]", Some(check(&["NONE"]))),
        ("disable: true", Some(check(&["NONE"]))),
        ("{ test: [CMD, x], interval: 3s, disable: true }", Some(check(&["NONE"]))),
        ("disable: false", None),
        ("test: []", None),
        ("interval: 3s", Some(HealthCheck { interval: Some(3_000), ..HealthCheck::default() })),
    ];
    for (text, expected) in cases {
        let text = if text.starts_with('{') { text.to_owned() } else { format!("{{ {text} }}") };
        assert_eq!(service(&format!("    healthcheck: {text}")).healthcheck, expected, "{text}");
    }
}

#[test]
fn a_port_is_asked_unless_something_better_is_said() {
    let accepts = Some(Probe::default());
    let get = |path: &str| Some(Probe { path: Some(path.to_owned()), ..Probe::default() });
    let slow = Some(Probe { interval: 60_000, ..Probe::default() });
    let cases = [
        ("    x-skep: { type: web }", Some(8080), accepts.clone()),
        ("    x-skep: { type: web, port: 80 }", Some(80), accepts.clone()),
        ("    x-skep: { port: 5432 }", Some(5432), accepts.clone()),
        ("    x-skep: { type: service }", None, None),
        ("    x-skep: { type: web, health: none }", Some(8080), None),
        ("    x-skep: { type: web, health: /up }", Some(8080), get("/up")),
        ("    x-skep: { port: 80, health: { interval: 1m } }", Some(80), slow),
        ("    x-skep: { port: 80, health: { } }", Some(80), accepts.clone()),
        ("    x-skep: { port: 80 }\n    healthcheck: { test: x }", Some(80), None),
        ("    x-skep: { port: 80, health: /up }\n    healthcheck: { test: x }", Some(80), get("/up")),
        ("    x-skep: { port: 80 }\n    healthcheck: { interval: 9s }", Some(80), None),
        // The image's check is off, which leaves the port.
        ("    x-skep: { port: 80 }\n    healthcheck: { disable: true }", Some(80), accepts),
        ("    x-skep: { port: 80, schedule: '@daily' }", Some(80), None),
    ];
    for (body, port, probe) in cases {
        let read = service(body);
        assert_eq!((read.port, read.probe), (port, probe), "{body}");
    }
}

#[test]
fn what_has_a_schedule_is_not_started_again_by_docker() {
    let schedule = "    x-skep: { schedule: '*/5 * * * *' }";
    assert_eq!(service(schedule).restart, RestartPolicy::No);
    assert_eq!(service(&format!("    restart: 'no'\n{schedule}")).restart, RestartPolicy::No);
    assert_eq!(service(&format!("    restart: on-failure:2\n{schedule}")).restart, RestartPolicy::OnFailure(2));
}

#[test]
fn an_order_that_two_writers_would_need_is_noted() {
    let start_first = "    deploy:\n      update_config:\n        order: start-first\n";
    let noted = notes(&format!("{start_first}    volumes: ['d:/data']"));
    assert_eq!(noted.len(), 1, "{noted:?}");
    let expected = "6:9: services.a.deploy.update_config.order: has no effect: two replicas must never write to the volume d, \
                    so the old one stops first; mount it with :ro";
    assert!(noted[0].starts_with(expected), "{noted:?}");
    let back = "    deploy: { rollback_config: { order: start-first } }\n    volumes: ['d:/data']";
    assert!(notes(back)[0].starts_with("4:34: services.a.deploy.rollback_config.order: has no effect: "));
    let fine = [
        "    volumes: ['d:/data']".to_owned(),
        "    deploy: { update_config: { order: stop-first } }\n    volumes: ['d:/data']".to_owned(),
        format!("{start_first}    volumes: ['d:/data:ro']"),
        start_first.to_owned(),
    ];
    for body in fine {
        assert_eq!(notes(&body), [""; 0], "{body}");
    }
    assert_eq!(service(&format!("{start_first}    volumes: ['d:/data']")).order(), Order::StopFirst);
}

#[test]
fn every_error_has_its_line_and_a_remedy() {
    let cases = [
        (
            "    stop_grace_period: 10",
            "4:24: services.a.stop_grace_period: \"10\" has no unit; write it with units (us,",
        ),
        (
            "    stop_grace_period: soon",
            "4:24: services.a.stop_grace_period: \"soon\" is no duration; write it with units",
        ),
        (
            "    stop_grace_period: 25h",
            "4:5: services.a.stop_grace_period: 90000 s are more than a day; write 24h or less",
        ),
        ("    stop_signal: HALT", "4:5: services.a.stop_signal: \"HALT\" is no signal; write its name, as SIGTERM"),
        (
            "    healthcheck: { test: [x] }",
            "4:20: services.a.healthcheck.test: [\"x\"] is no test; write a string, a list",
        ),
        (
            "    healthcheck: { test: NONE }",
            "4:26: services.a.healthcheck.test: as a string, NONE is a command; write dis",
        ),
        ("    healthcheck: { interval: 5 }", "4:30: services.a.healthcheck.interval: \"5\" has no unit; write"),
        (
            "    healthcheck: { timeout: 25h }",
            "4:20: services.a.healthcheck.timeout: 90000 s are more than a day; write",
        ),
        ("    healthcheck: { retries: x }", "4:29: services.a.healthcheck.retries: \"x\" is no number from 0 to"),
        (
            "    healthcheck: { intervall: 5s }",
            "4:20: services.a.healthcheck.intervall: is not a known key; did you mean",
        ),
        (
            "    deploy: { update_config: { parallelism: -1 } }",
            "4:45: services.a.deploy.update_config.parallelism: \"-1\" is no",
        ),
        (
            "    deploy: { update_config: { order: first } }",
            "4:39: services.a.deploy.update_config.order: \"first\" is no order; use",
        ),
        (
            "    deploy: { update_config: { failure_action: stop } }",
            "4:48: services.a.deploy.update_config.failure_action: \"stop\" is nothing to do after a failure; use rollback",
        ),
        (
            "    deploy: { rollback_config: { failure_action: rollback } }",
            "4:34: services.a.deploy.rollback_config.failure_action: a rollback that failed can't be rolled back; use pause",
        ),
        (
            "    deploy: { rollback_config: { monitor: 48h } }",
            "4:34: services.a.deploy.rollback_config.monitor: 172800 s are more than a day; write 24h",
        ),
        (
            "    deploy: { update_config: { delay: 5 } }",
            "4:39: services.a.deploy.update_config.delay: \"5\" has no unit; write",
        ),
        ("    x-skep: { port: 0 }", "4:15: services.a.x-skep.port: 0 is no port; write one from 1 to 65535"),
        (
            "    x-skep: { port: 65536 }",
            "4:21: services.a.x-skep.port: \"65536\" is no port; write one from 1 to 65535",
        ),
        ("    x-skep: { port: http }", "4:21: services.a.x-skep.port: \"http\" is no port; write one from 1 to 65535"),
        (
            "    x-skep: { health: /up }",
            "4:15: services.a.x-skep.health: there is no port to ask; add x-skep.port: with",
        ),
        (
            "    x-skep: { port: 1, health: up }",
            "4:24: services.a.x-skep.health: \"up\" is no path; write one as /healthz",
        ),
        ("    x-skep: { port: 1, health: [/up] }", "4:32: services.a.x-skep.health: is a list; write a single value"),
        (
            "    x-skep: { port: 1, health: { retries: 0 } }",
            "4:34: services.a.x-skep.health.retries: 0 failures would make every replica unhealthy; write 1",
        ),
        (
            "    x-skep: { port: 1, health: { timeout: 0s } }",
            "4:34: services.a.x-skep.health.timeout: 0 is no time at all; write a longer one",
        ),
        ("    x-skep: { start_timeout: 0 }", "4:15: services.a.x-skep.start_timeout: 0 is no time at all; write"),
        ("    x-skep: { drain_timeout: 30 }", "4:30: services.a.x-skep.drain_timeout: \"30\" has no unit; write"),
        ("    x-skep: { release: [] }", "4:15: services.a.x-skep.release: it names no program; write a command"),
        ("    x-skep: { release: \"'x\" }", "4:24: services.a.x-skep.release: a single quote is not closed; close it"),
        ("    x-skep: { schedule: 61 * * * * }", "4:15: services.a.x-skep.schedule: \"61 * * * *\" is no schedule: "),
        (
            "    x-skep: { schedule: '${CRON-}' }",
            "4:15: services.a.x-skep.schedule: \"\" is no schedule: it has 0 of cron's five fields; write minute, hour,",
        ),
        (
            "    restart: always\n    x-skep: { schedule: '@daily' }",
            "4:5: services.a.restart: a service with a schedule ends, and this would start it again at once; remove it",
        ),
        (
            "    x-skep: { schedule: '@daily', type: web }",
            "4:35: services.a.x-skep.type: a service with a schedule runs and ends: it can't serve the web; use service",
        ),
        (
            "    x-skep: { schedule: '@daily', port: 80, health: /up }",
            "4:45: services.a.x-skep.health: a service with a schedule runs and ends: nobody asks it; remove it",
        ),
        ("    x-skep: { type: nope }", "4:21: services.a.x-skep.type: \"nope\" is no type of service; use web"),
        ("    x-skep: { prot: 80 }", "4:15: services.a.x-skep.prot: is not a known key; did you mean port?"),
    ];
    for (body, expected) in cases {
        let error = service_error(body);
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}
