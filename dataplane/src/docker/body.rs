//! A spec in the engine's words.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits,
    RestartPolicy as EnginePolicy, RestartPolicyNameEnum,
};

use super::labels::{IMAGE, Labels, RECORD};
use super::spec::volume_name;
use super::{Role, SandboxSpec, WorkloadSpec, pause};
use crate::model::ReplicaKey;
use crate::model::name::{LABEL_MAX, ZONE};
use crate::model::rollout::{HealthCheck, Millis};
use crate::model::settings::{Logging, Ulimit};
use crate::model::spec::{RestartPolicy, VolumeMount};

/// Bytes; the program needs none, the runtime that starts it does.
const SANDBOX_MEMORY: i64 = 32 << 20;

/// Processes and threads; one, and those of the runtime that starts it.
const SANDBOX_PIDS: i64 = 32;

impl SandboxSpec {
    /// What the engine refuses beside `container:<sandbox>` is set here, and inherited from here:
    /// hostname, hosts, DNS.
    pub(super) fn body(&self) -> ContainerCreateBody {
        let labels =
            Labels { key: self.key.clone(), role: Role::Sandbox, node: self.node.clone(), config: self.config.clone() };
        ContainerCreateBody {
            image: Some(pause::reference()),
            entrypoint: Some(vec![pause::PATH.to_owned()]),
            hostname: Some(self.hostname()),
            domainname: self.identity.domainname.clone(),
            // Nobody: the program needs no right at all.
            user: Some("65534:65534".to_owned()),
            labels: Some(labels.into_map()),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                extra_hosts: Some(self.hosts()),
                dns: Some(vec![self.dns.to_string()]),
                dns_search: Some([&[ZONE.to_owned()], self.identity.search.as_slice()].concat()),
                dns_options: Some(vec!["ndots:1".to_owned()]),
                sysctls: (!self.sysctls.is_empty()).then(|| self.sysctls.clone().into_iter().collect()),
                cap_drop: Some(vec!["ALL".to_owned()]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                readonly_rootfs: Some(true),
                ipc_mode: Some("none".to_owned()),
                memory: Some(SANDBOX_MEMORY),
                memory_swap: Some(SANDBOX_MEMORY),
                pids_limit: Some(SANDBOX_PIDS),
                restart_policy: Some(policy(RestartPolicy::No)),
                log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    fn hostname(&self) -> String {
        self.identity.hostname.clone().unwrap_or_else(|| hostname(&self.key))
    }

    /// The replica by its host name, the service by its own: a server that binds to its own name gets
    /// an address it has, a client gets the VIP. Then what the user says.
    fn hosts(&self) -> Vec<String> {
        let own = self.hostname();
        let service = &self.key.service.service;
        let entries: [(&str, IpAddr); 4] = [
            (&own, self.address4.into()),
            (&own, self.address6.into()),
            (service, self.vip4.into()),
            (service, self.vip6.into()),
        ];
        let said = self.identity.extra_hosts.iter();
        let said = said.flat_map(|(name, addresses)| addresses.iter().map(move |address| (name.as_str(), *address)));
        entries.into_iter().chain(said).map(|(name, address)| format!("{name}:{address}")).collect()
    }
}

impl WorkloadSpec {
    /// A container like it that is no replica's: should it be left over, its digest says so.
    pub(super) fn probe(&self) -> ContainerCreateBody {
        let mut probe = Self { config: String::new(), ..self.clone() };
        // What it shows is the engine's default, whatever this service asks for.
        probe.service.settings.logging = None;
        probe.body(&HostConfigLogConfig::default())
    }

    /// `log_default` is what the engine would do with its output.
    pub(super) fn body(&self, log_default: &HostConfigLogConfig) -> ContainerCreateBody {
        let own = Labels {
            key: self.key.clone(),
            role: Role::Workload,
            node: self.node.clone(),
            config: self.config.clone(),
        };
        let service = &self.service;
        let mut labels: HashMap<String, String> = service.labels.clone().into_iter().collect();
        labels.extend(own.into_map());
        labels.insert(RECORD.to_owned(), self.record.clone());
        labels.extend(self.pinned.clone().map(|pinned| (IMAGE.to_owned(), pinned)));
        ContainerCreateBody {
            image: Some(service.image.clone()),
            cmd: service.command.clone(),
            entrypoint: service.entrypoint.clone(),
            env: Some(service.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            working_dir: service.working_dir.clone(),
            user: service.user.clone(),
            labels: Some(labels),
            healthcheck: service.healthcheck.as_ref().map(health_config),
            stop_signal: service.stop_signal.clone(),
            stop_timeout: Some(i64::try_from(service.stop_grace_period.div_ceil(1000)).unwrap_or(i64::MAX)),
            host_config: Some(self.host_config(log_default)),
            ..ContainerCreateBody::default()
        }
    }

    /// What is not said is left out, for the engine to decide.
    fn host_config(&self, log_default: &HostConfigLogConfig) -> HostConfig {
        let (limits, settings) = (&self.service.limits, &self.service.settings);
        let set = |names: &BTreeSet<String>| (!names.is_empty()).then(|| names.iter().cloned().collect());
        let sysctls: HashMap<String, String> =
            self.service.sysctls(false).map(|(name, value)| (name.clone(), value.clone())).collect();
        HostConfig {
            network_mode: Some(format!("container:{}", self.sandbox)),
            mounts: Some(self.mounts()),
            restart_policy: Some(policy(self.service.restart)),
            log_config: match &settings.logging {
                Some(said) => Some(log_config(said, log_default)),
                None => log_rotation(log_default),
            },
            memory: limits.memory.map(in_engine),
            // Memory and swap together: the engine would add as much swap as there is memory.
            memory_swap: limits.memory.map(in_engine),
            nano_cpus: limits.nano_cpus.map(in_engine),
            pids_limit: limits.pids.map(i64::from),
            init: settings.init.then_some(true),
            cap_add: set(&settings.cap_add),
            cap_drop: set(&settings.cap_drop),
            security_opt: settings.no_new_privileges.then(|| vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: settings.read_only.then_some(true),
            shm_size: settings.shm_size.map(in_engine),
            tmpfs: (!settings.tmpfs.is_empty()).then(|| settings.tmpfs.clone().into_iter().collect()),
            ulimits: (!settings.ulimits.is_empty()).then(|| settings.ulimits.iter().map(ulimit).collect()),
            group_add: (!settings.group_add.is_empty()).then(|| settings.group_add.clone()),
            oom_score_adj: settings.oom_score_adj.map(i64::from),
            sysctls: (!sysctls.is_empty()).then_some(sysctls),
            ..HostConfig::default()
        }
    }

    fn mounts(&self) -> Vec<Mount> {
        let environment = &self.key.service.environment;
        let mount = |volume: &VolumeMount| Mount {
            typ: Some(MountType::VOLUME),
            source: Some(volume_name(environment, &volume.volume)),
            target: Some(volume.target.clone()),
            read_only: Some(volume.read_only),
            ..Mount::default()
        };
        self.service.volumes.iter().map(mount).collect()
    }
}

/// `<service>-<replica>`, `<service>-run-<one-off>`, cut to what a host name may be long.
fn hostname(key: &ReplicaKey) -> String {
    let suffix = format!("-{}", key.ordinal());
    let service = &key.service.service;
    // A normalised name is ASCII, so any byte is a boundary.
    let kept = service.get(..LABEL_MAX - suffix.len()).unwrap_or(service);
    format!("{}{suffix}", kept.trim_end_matches('-'))
}

fn policy(restart: RestartPolicy) -> EnginePolicy {
    let (name, retries) = match restart {
        RestartPolicy::No => (RestartPolicyNameEnum::NO, None),
        RestartPolicy::Always => (RestartPolicyNameEnum::ALWAYS, None),
        RestartPolicy::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
        RestartPolicy::OnFailure(retries) => (RestartPolicyNameEnum::ON_FAILURE, Some(retries.into())),
    };
    EnginePolicy { name: Some(name), maximum_retry_count: retries }
}

/// What is left out is the image's own, or the engine's default. Engines before 25 know no start interval and leave it
/// aside.
fn health_config(check: &HealthCheck) -> HealthConfig {
    let nanoseconds = |millis: Option<Millis>| {
        millis.map(|millis| i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000_000))
    };
    HealthConfig {
        test: Some(check.test.clone()),
        interval: nanoseconds(check.interval),
        timeout: nanoseconds(check.timeout),
        retries: check.retries.map(i64::from),
        start_period: nanoseconds(check.start_period),
        start_interval: nanoseconds(check.start_interval),
    }
}

fn ulimit((name, limit): (&String, &Ulimit)) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

fn in_engine(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A driver's options are of no use to another one: without a driver, they are for the engine's own.
fn log_config(said: &Logging, default: &HostConfigLogConfig) -> HostConfigLogConfig {
    let limited = HostConfigLogConfig {
        typ: said.driver.clone().or_else(|| default.typ.clone()),
        config: Some(said.options.clone().into_iter().collect()),
    };
    log_rotation(&limited).map_or_else(
        || limited.clone(),
        |rotation| {
            let options = rotation.config.into_iter().flatten().chain(limited.config.clone().into_iter().flatten());
            HostConfigLogConfig { typ: rotation.typ, config: Some(options.collect()) }
        },
    )
}

/// The engine's own default writes a file that grows until the disk is full. A limit that a person gave to the engine
/// is left alone, and so is another driver: `local` rotates by itself, the others keep nothing here.
fn log_rotation(default: &HostConfigLogConfig) -> Option<HostConfigLogConfig> {
    let limited = default.config.as_ref().is_some_and(|options| options.contains_key("max-size"));
    let options = [("max-size", "10m"), ("max-file", "3")];
    (default.typ.as_deref() == Some("json-file") && !limited).then(|| HostConfigLogConfig {
        typ: default.typ.clone(),
        config: Some(options.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::labels::example;
    use super::*;
    use std::collections::BTreeMap;

    use crate::model::ServiceSpec;
    use crate::model::settings::Identity;

    fn key(service: &str) -> ReplicaKey {
        let mut key = example(Role::Sandbox).key;
        key.service.service = service.to_owned();
        key
    }

    fn log_default(driver: &str, options: &[(&str, &str)]) -> HostConfigLogConfig {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        HostConfigLogConfig { typ: Some(driver.to_owned()), config: Some(options.collect()) }
    }

    #[test]
    fn a_host_name_is_never_longer_than_a_label() {
        assert_eq!(hostname(&key("api")), "api-2");
        let long = hostname(&key(&"x".repeat(63)));
        assert_eq!(long.len(), 63);
        assert!(long.ends_with("x-2"));
        assert!(!hostname(&key(&format!("{}-{}", "x".repeat(60), "yy"))).contains("--"));
    }

    #[test]
    fn a_sandbox_knows_itself_and_its_service_and_nothing_else() {
        let spec = SandboxSpec {
            key: key("api"),
            node: "n1".to_owned(),
            config: "c".to_owned(),
            address4: [10, 208, 0, 5].into(),
            address6: "fd53::5".parse().unwrap(),
            vip4: [10, 224, 0, 9].into(),
            vip6: "fd54::9".parse().unwrap(),
            dns: [10, 224, 0, 53].into(),
            identity: Identity::default(),
            sysctls: BTreeMap::new(),
        };
        assert_eq!(spec.hosts(), ["api-2:10.208.0.5", "api-2:fd53::5", "api:10.224.0.9", "api:fd54::9"]);
        let host = spec.body().host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.dns, Some(vec!["10.224.0.53".to_owned()]));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    }

    fn workload(service: ServiceSpec) -> WorkloadSpec {
        WorkloadSpec {
            key: key("api"),
            node: "n1".to_owned(),
            config: "c".to_owned(),
            record: "{}".to_owned(),
            sandbox: "s1".to_owned(),
            pinned: Some("redis@sha256:00".to_owned()),
            service,
        }
    }

    #[test]
    fn skeps_labels_win_over_the_users() {
        let user = [("skep.role".to_owned(), "sandbox".to_owned()), ("team".to_owned(), "a".to_owned())];
        let spec = workload(ServiceSpec {
            environment: [("A".to_owned(), "1=2".to_owned())].into(),
            restart: RestartPolicy::OnFailure(3),
            labels: user.into(),
            ..ServiceSpec::of_image("redis")
        });
        let body = spec.body(&log_default("journald", &[]));
        let labels = body.labels.unwrap();
        assert_eq!((labels["skep.role"].as_str(), labels["team"].as_str()), ("workload", "a"));
        assert_eq!(body.env, Some(vec!["A=1=2".to_owned()]));
        let host = body.host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("container:s1"));
        assert_eq!(host.restart_policy.unwrap().maximum_retry_count, Some(3));
        assert_eq!(host.log_config, None, "a driver that a person chose is left alone");
    }

    #[test]
    fn the_engine_checks_and_stops_as_the_service_says() {
        let body = |service| workload(service).body(&HostConfigLogConfig::default());
        let silent = body(ServiceSpec::of_image("redis"));
        assert_eq!((silent.healthcheck, silent.stop_signal, silent.stop_timeout), (None, None, Some(10)));

        let check = HealthCheck {
            test: vec!["CMD-SHELL".to_owned(), "redis-cli ping".to_owned()],
            interval: Some(1_500),
            retries: Some(3),
            start_period: Some(60_000),
            ..HealthCheck::default()
        };
        let said = body(ServiceSpec {
            healthcheck: Some(check.clone()),
            stop_signal: Some("SIGQUIT".to_owned()),
            stop_grace_period: 1_001,
            ..ServiceSpec::of_image("redis")
        });
        assert_eq!((said.stop_signal.as_deref(), said.stop_timeout), (Some("SIGQUIT"), Some(2)));
        let expected = HealthConfig {
            test: Some(check.test),
            interval: Some(1_500_000_000),
            retries: Some(3),
            start_period: Some(60_000_000_000),
            ..HealthConfig::default()
        };
        assert_eq!(said.healthcheck, Some(expected));
        let at_once = body(ServiceSpec { stop_grace_period: 0, ..ServiceSpec::of_image("redis") });
        assert_eq!(at_once.stop_timeout, Some(0));
    }

    #[test]
    fn output_is_rotated_where_the_engine_would_fill_the_disk() {
        let config = log_rotation(&log_default("json-file", &[])).unwrap().config.unwrap();
        assert_eq!(config["max-size"], "10m");
        let limited = [("max-size", "50m")];
        for default in [log_default("json-file", &limited), log_default("local", &[]), log_default("syslog", &[])] {
            assert_eq!(log_rotation(&default), None, "{default:?}");
        }
    }
}
