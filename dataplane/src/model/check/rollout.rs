//! What a service says about its life: how it is known to be well, when it runs, how it changes and stops.

use std::str::FromStr;

use nix::sys::signal::Signal;

use super::Check;
use crate::model::rollout::{FailureAction, HealthCheck, Millis, Probe};
use crate::model::schedule::Schedule;
use crate::model::spec::{RestartPolicy, ServiceSpec, ServiceType};

/// Longest time that anything is waited for.
const DAY: Millis = 24 * 60 * 60 * 1000;

impl Check<'_> {
    pub(super) fn rollout(&mut self, path: &str, service: &ServiceSpec) {
        if service.port == Some(0) {
            self.problem(format!("{path}.x-skep.port"), "0 is no port", "write one from 1 to 65535");
        }
        if let Some(probe) = &service.probe {
            self.probe(path, service, probe);
        }
        if let Some(check) = &service.healthcheck
            && !is_test(check)
        {
            let what = format!("{:?} is no test", check.test);
            let remedy = "write a string, a list of CMD or CMD-SHELL and the command, or [NONE]";
            self.problem(format!("{path}.healthcheck.test"), what, remedy);
        }
        if let Some(schedule) = &service.schedule {
            self.schedule(path, service, schedule);
        }
        if let Some(release) = &service.release
            && release.first().is_none_or(String::is_empty)
        {
            self.problem(format!("{path}.x-skep.release"), "it names no program", "write a command, or remove it");
        }
        if let Some(signal) = &service.stop_signal
            && !is_signal(signal)
        {
            let what = format!("{signal:?} is no signal");
            self.problem(format!("{path}.stop_signal"), what, "write its name, as SIGTERM, or its number from 1 to 64");
        }
        if service.rollback.failure_action == FailureAction::Rollback {
            let what = "a rollback that failed can't be rolled back";
            self.problem(format!("{path}.deploy.rollback_config.failure_action"), what, "use pause or continue");
        }
        self.durations(path, service);
    }

    fn probe(&mut self, path: &str, service: &ServiceSpec, probe: &Probe) {
        let path = format!("{path}.x-skep.health");
        if service.schedule.is_some() {
            self.problem(&path, "a service with a schedule runs and ends: nobody asks it", "remove it");
        } else if service.port.is_none() {
            self.problem(&path, "there is no port to ask", "add x-skep.port: with the one that the service listens on");
        }
        if let Some(get) = &probe.path
            && (!get.starts_with('/') || get.contains(|c: char| !c.is_ascii_graphic()))
        {
            let remedy = "write one as /healthz, with everything but ASCII escaped, or none";
            self.problem(&path, format!("{get:?} is no path"), remedy);
        }
        if probe.retries == 0 {
            let what = "0 failures would make every replica unhealthy";
            self.problem(format!("{path}.retries"), what, "write 1 or more");
        }
    }

    fn schedule(&mut self, path: &str, service: &ServiceSpec, schedule: &str) {
        if let Err(error) = Schedule::from_str(schedule) {
            let what = format!("{schedule:?} is no schedule: {error}");
            let remedy = "write minute, hour, day, month and weekday, as in \"30 4 * * *\"";
            self.problem(format!("{path}.x-skep.schedule"), what, remedy);
        }
        if matches!(service.restart, RestartPolicy::Always | RestartPolicy::UnlessStopped) {
            let what = "a service with a schedule ends, and this would start it again at once";
            self.problem(format!("{path}.restart"), what, "remove it, or use \"no\" or on-failure");
        }
        if service.kind == ServiceType::Web {
            let what = "a service with a schedule runs and ends: it can't serve the web";
            self.problem(format!("{path}.x-skep.type"), what, "use service, or remove the schedule");
        }
        if service.replicas > 1 {
            let what = "a service with a schedule never runs twice at once";
            self.problem(format!("{path}.deploy.replicas"), what, "remove it; with 0, no run is begun");
        }
    }

    fn durations(&mut self, path: &str, service: &ServiceSpec) {
        let ServiceSpec { update, rollback, .. } = service;
        let timeouts =
            [("x-skep.start_timeout", service.start_timeout), ("x-skep.drain_timeout", service.drain_timeout)];
        let probe = service.probe.as_ref();
        let probe = probe.map(|p| [("x-skep.health.interval", p.interval), ("x-skep.health.timeout", p.timeout)]);
        let check = service.healthcheck.as_ref().map(|check| {
            [
                ("healthcheck.interval", check.interval.unwrap_or(0)),
                ("healthcheck.timeout", check.timeout.unwrap_or(0)),
                ("healthcheck.start_period", check.start_period.unwrap_or(0)),
                ("healthcheck.start_interval", check.start_interval.unwrap_or(0)),
            ]
        });
        let may_be_none = [
            ("stop_grace_period", service.stop_grace_period),
            ("deploy.update_config.monitor", update.monitor),
            ("deploy.update_config.delay", update.delay),
            ("deploy.rollback_config.monitor", rollback.monitor),
            ("deploy.rollback_config.delay", rollback.delay),
        ];
        let some = timeouts.into_iter().chain(probe.into_iter().flatten());
        for (key, _) in some.clone().filter(|(_, millis)| *millis == 0) {
            self.problem(format!("{path}.{key}"), "0 is no time at all", "write a longer one, as 10s");
        }
        let all = some.chain(may_be_none).chain(check.into_iter().flatten());
        for (key, millis) in all.filter(|(_, millis)| *millis > DAY) {
            let what = format!("{} s are more than a day", millis / 1000);
            self.problem(format!("{path}.{key}"), what, "write 24h or less");
        }
    }
}

/// What Docker takes.
fn is_test(check: &HealthCheck) -> bool {
    match check.test.as_slice() {
        [] => true,
        [none] => none == "NONE",
        [by, ..] => by == "CMD" || by == "CMD-SHELL",
    }
}

/// What Docker takes: a name in any case, with SIG or without, or a number.
fn is_signal(signal: &str) -> bool {
    if let Ok(number) = signal.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = (1..=15).any(|n| name == format!("RTMIN+{n}") || n < 15 && name == format!("RTMAX-{n}"));
    real_time || name == "RTMIN" || name == "RTMAX" || Signal::from_str(&format!("SIG{name}")).is_ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::EnvironmentKey;
    use crate::model::rollout::Rollout;
    use crate::model::spec::{EnvironmentSpec, NetworkAttachment, NetworkSpec};

    /// What is wrong with a service that is otherwise well.
    pub(in crate::model::check) fn problems(change: impl FnOnce(&mut ServiceSpec)) -> Vec<String> {
        let mut service = ServiceSpec::of_image("i");
        service.networks = [("default".to_owned(), NetworkAttachment::default())].into();
        change(&mut service);
        let spec = EnvironmentSpec {
            key: EnvironmentKey { project: "shop".to_owned(), environment: "production".to_owned() },
            services: [("a".to_owned(), service)].into(),
            networks: [("default".to_owned(), NetworkSpec::default())].into(),
            volumes: [].into(),
        };
        spec.check().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_api_sends_is_held_to_the_same_rules() {
        let ask = |probe: Probe| move |s: &mut ServiceSpec| (s.port, s.probe) = (Some(80), Some(probe));
        let test = |words: &[&str]| {
            let test = words.iter().map(|word| (*word).to_owned()).collect();
            move |s: &mut ServiceSpec| s.healthcheck = Some(HealthCheck { test, ..HealthCheck::default() })
        };
        let path = |path: &str| Probe { path: Some(path.to_owned()), ..Probe::default() };
        let cases: [(&str, Vec<String>); 19] = [
            ("x-skep.port: 0 is no port; ", problems(|s| s.port = Some(0))),
            ("x-skep.health: there is no port to ask; ", problems(|s| s.probe = Some(Probe::default()))),
            ("x-skep.health: \"healthz\" is no path; ", problems(ask(path("healthz")))),
            ("x-skep.health: \"/a b\" is no path; ", problems(ask(path("/a b")))),
            ("x-skep.health: \"/\\r\\nX: y\" is no path; ", problems(ask(path("/\r\nX: y")))),
            ("x-skep.health.retries: 0 failures", problems(ask(Probe { retries: 0, ..Probe::default() }))),
            ("x-skep.health.interval: 0 is no time", problems(ask(Probe { interval: 0, ..Probe::default() }))),
            ("x-skep.health.timeout: 86401 s are", problems(ask(Probe { timeout: DAY + 1000, ..Probe::default() }))),
            ("healthcheck.test: [\"CMD\"] is no test; ", problems(test(&["CMD"]))),
            ("healthcheck.test: [\"NONE\", \"x\"] is no test; ", problems(test(&["NONE", "x"]))),
            ("healthcheck.test: [\"curl\", \"x\"] is no test; ", problems(test(&["curl", "x"]))),
            ("x-skep.release: it names no program; ", problems(|s| s.release = Some(Vec::new()))),
            ("x-skep.release: it names no program; ", problems(|s| s.release = Some(vec![String::new()]))),
            ("stop_signal: \"SIGNOPE\" is no signal; ", problems(|s| s.stop_signal = Some("SIGNOPE".to_owned()))),
            ("stop_signal: \"65\" is no signal; ", problems(|s| s.stop_signal = Some("65".to_owned()))),
            ("deploy.rollback_config.failure_action: a rollback", problems(|s| s.rollback = Rollout::default())),
            ("x-skep.start_timeout: 0 is no time", problems(|s| s.start_timeout = 0)),
            ("x-skep.drain_timeout: 0 is no time", problems(|s| s.drain_timeout = 0)),
            ("stop_grace_period: 18446744073709551 s are more", problems(|s| s.stop_grace_period = u64::MAX)),
        ];
        for (expected, problems) in cases {
            assert_eq!(problems.len(), 1, "{expected}: {problems:?}");
            assert!(problems[0].starts_with(&format!("services.a.{expected}")), "{expected}: {problems:?}");
        }
    }

    #[test]
    fn what_may_be_said_is_not_refused() {
        let test = |words: &[&str]| {
            let test = words.iter().map(|word| (*word).to_owned()).collect();
            problems(|s| s.healthcheck = Some(HealthCheck { test, ..HealthCheck::default() }))
        };
        for words in [&["CMD", "true"][..], &["CMD-SHELL", "true"], &["NONE"], &[]] {
            assert_eq!(test(words), [""; 0], "{words:?}");
        }
        for signal in ["SIGTERM", "term", "15", "SIGUSR1", "RTMIN+3", "SIGRTMAX-14", "rtmin", "64"] {
            assert_eq!(problems(|s| s.stop_signal = Some(signal.to_owned())), [""; 0], "{signal}");
        }
        for signal in ["", "0", "-1", "SIG", "RTMIN+16", "RTMAX-15", "RTMIN+03", "SIGSIGTERM"] {
            assert_eq!(problems(|s| s.stop_signal = Some(signal.to_owned())).len(), 1, "{signal}");
        }
        let day = |s: &mut ServiceSpec| (s.start_timeout, s.drain_timeout, s.stop_grace_period) = (DAY, 1, 0);
        assert_eq!(problems(day), [""; 0]);
    }

    #[test]
    fn what_runs_by_a_schedule_runs_and_ends() {
        let scheduled = |change: fn(&mut ServiceSpec)| {
            problems(|s| {
                (s.schedule, s.restart) = (Some("30 4 * * *".to_owned()), RestartPolicy::No);
                change(s);
            })
        };
        assert_eq!(scheduled(|_| ()), [""; 0]);
        assert_eq!(scheduled(|s| s.restart = RestartPolicy::OnFailure(3)), [""; 0]);
        let cases = [
            ("restart: ", scheduled(|s| s.restart = RestartPolicy::Always)),
            ("restart: ", scheduled(|s| s.restart = RestartPolicy::UnlessStopped)),
            ("x-skep.type: ", scheduled(|s| s.kind = ServiceType::Web)),
            ("deploy.replicas: a service with a schedule", scheduled(|s| s.replicas = 2)),
            ("x-skep.health: a service with a schedule", scheduled(|s| s.probe = Some(Probe::default()))),
            ("x-skep.schedule: \"\" is no schedule: ", scheduled(|s| s.schedule = Some(String::new()))),
            ("x-skep.schedule: \"61 * * * *\" is", scheduled(|s| s.schedule = Some("61 * * * *".to_owned()))),
            ("x-skep.schedule: \"0 0 30 2 *\" is", scheduled(|s| s.schedule = Some("0 0 30 2 *".to_owned()))),
        ];
        for (expected, problems) in cases {
            assert_eq!(problems.len(), 1, "{expected}: {problems:?}");
            assert!(problems[0].starts_with(&format!("services.a.{expected}")), "{expected}: {problems:?}");
        }
    }
}
