//! What may be asked of Docker for a container: nothing that reaches beyond it.

use super::Check;
use crate::model::name::LABEL_MAX;
use crate::model::spec::ServiceSpec;

/// Docker's default set, and what is confined to the container as well: memory that is not swapped, leases on its own files.
/// Not SYS_PTRACE, though many ask for it: whoever has it may trace runc on its way into the container (a health check),
/// which is still more than the container (CVE-2016-9962). Nor SYS_NICE: real-time scheduling knows no `cpus`.
const CAPABILITIES: [&str; 17] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "KILL",
    "LEASE",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Those of `getrlimit(2)`, as Docker names them.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Drivers that write on the node; the others send from outside of the private network.
const DRIVERS: [&str; 4] = ["journald", "json-file", "local", "none"];

/// Their options, but those that make the engine expand a template (`tag`), or send somewhere else.
const OPTIONS: [&str; 9] =
    ["compress", "env", "env-regex", "labels", "labels-regex", "max-buffer-size", "max-file", "max-size", "mode"];

/// Kernel parameters of an IPC namespace, `namespaces(7)`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Those of its message queues begin so.
const MQUEUE: &str = "fs.mqueue.";

/// Those of interfaces and neighbours, which are the private network's own.
const OWN: [&str; 4] = ["net.ipv4.conf.", "net.ipv6.conf.", "net.ipv4.neigh.", "net.ipv6.neigh."];

impl Check<'_> {
    pub(super) fn settings(&mut self, path: &str, service: &ServiceSpec) {
        let settings = &service.settings;
        for capability in settings.cap_add.iter().filter(|name| !CAPABILITIES.contains(&name.as_str())) {
            let what = format!("{capability} is given to no container");
            let remedy =
                "remove it; CHOWN, NET_BIND_SERVICE, NET_RAW and the rest of Docker's default set are there anyway";
            self.problem(format!("{path}.cap_add"), what, remedy);
        }
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        for capability in settings.cap_drop.iter().filter(|name| !is_name(name)) {
            self.problem(format!("{path}.cap_drop"), format!("{capability:?} is no capability"), "mend its name");
        }
        for (name, limit) in &settings.ulimits {
            let path = format!("{path}.ulimits.{name}");
            if !ULIMITS.contains(&name.as_str()) {
                self.problem(&path, "there is no such limit", format!("use one of {}", ULIMITS.join(", ")));
            }
            if name == "rtprio" && (limit.soft, limit.hard) != (0, 0) {
                let what = "real-time scheduling is bound by no limit of processors";
                self.problem(&path, what, "remove it; whoever has it could take the whole node");
            }
            let above = limit.hard != -1 && (limit.soft == -1 || limit.soft > limit.hard);
            if above || limit.soft < -1 || limit.hard < -1 {
                let what = format!("{} is no limit up to {}", limit.soft, limit.hard);
                self.problem(&path, what, "write numbers, the hard one no less than the soft one; -1 for no limit");
            }
        }
        if let Some(score) = settings.oom_score_adj.filter(|score| !(0..=1000).contains(score)) {
            let what = format!("{score} would have others killed first, or is too much");
            self.problem(format!("{path}.oom_score_adj"), what, "write a number from 0 to 1000");
        }
        self.sysctls(path, service);
        self.file_systems(path, service);
        self.identity(path, service);
        let Some(logging) = &settings.logging else { return };
        if let Some(driver) = logging.driver.as_deref().filter(|driver| !DRIVERS.contains(driver)) {
            let what = format!("the driver {driver} would send from outside of the private network");
            self.problem(format!("{path}.logging.driver"), what, format!("use one of {}", DRIVERS.join(", ")));
        }
        for option in logging.options.keys().filter(|option| !OPTIONS.contains(&option.as_str())) {
            let what = format!("{option:?} is no option that a service may set");
            self.problem(format!("{path}.logging.options"), what, format!("use of {}", OPTIONS.join(", ")));
        }
    }

    fn sysctls(&mut self, path: &str, service: &ServiceSpec) {
        for name in service.settings.sysctls.keys() {
            let path = format!("{path}.sysctls");
            // runc takes a slash for a dot.
            if name.contains('/') {
                self.problem(path, format!("{name:?} has a slash"), "write it with dots");
            } else if OWN.iter().any(|own| name.starts_with(own)) {
                let what = format!("{name} is set by the private network");
                self.problem(path, what, "remove it");
            } else if !name.starts_with("net.") && !name.starts_with(MQUEUE) && !IPC.contains(&name.as_str()) {
                let what = format!("{name} is one for the whole node");
                self.problem(path, what, "remove it; net.* and those of System V IPC are each container's own");
            }
        }
    }

    fn file_systems(&mut self, path: &str, service: &ServiceSpec) {
        let path = format!("{path}.tmpfs");
        for target in service.settings.tmpfs.keys() {
            let up = target.split('/').any(|part| part == "..");
            if !target.starts_with('/') || target.trim_end_matches('/').is_empty() || up {
                let what = format!("{target:?} is no path to mount at");
                self.problem(&path, what, "write an absolute path in the container");
            }
            let same = |other: &str| other.trim_end_matches('/') == target.trim_end_matches('/');
            if service.volumes.iter().any(|mount| same(&mount.target)) {
                self.problem(&path, format!("{target} is mounted twice"), "keep one of them");
            }
        }
    }

    fn identity(&mut self, path: &str, service: &ServiceSpec) {
        let identity = &service.settings.identity;
        let names = [("hostname", &identity.hostname), ("domainname", &identity.domainname)];
        let names = names.into_iter().filter_map(|(key, name)| Some((key, name.as_deref()?)));
        let search = identity.search.iter().map(|domain| ("dns_search", domain.as_str()));
        let hosts = identity.extra_hosts.keys().map(|host| ("extra_hosts", host.as_str()));
        for (key, name) in names.chain(search).chain(hosts).collect::<Vec<_>>() {
            let fits = |label: &str| {
                let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
                !label.is_empty() && label.len() <= LABEL_MAX && label.bytes().all(inside)
            };
            // __NEW_UTS_LEN for what the kernel keeps, RFC 1035 for the others.
            let longest = if matches!(key, "hostname" | "domainname") { 64 } else { 253 };
            if name.len() > longest || !name.trim_end_matches('.').split('.').all(fits) {
                self.problem(format!("{path}.{key}"), format!("{name:?} is no host name"), "mend it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rollout::tests::problems;
    use crate::model::settings::{Logging, Ulimit};

    #[test]
    fn nothing_reaches_beyond_the_container() {
        let none: [&str; 0] = [];
        assert_eq!(problems(|s| s.settings.cap_add = ["IPC_LOCK".into(), "NET_RAW".into()].into()), none);
        assert_eq!(problems(|s| s.settings.cap_drop = ["ALL".into()].into()), none);
        assert_eq!(problems(|s| s.settings.sysctls = [("net.core.somaxconn".into(), "1".into())].into()), none);
        assert_eq!(problems(|s| s.settings.sysctls = [("kernel.shmmax".into(), "1".into())].into()), none);
        let refused = [
            "SYS_ADMIN",
            "NET_ADMIN",
            "BPF",
            "ALL",
            "SYS_MODULE",
            "PERFMON",
            "SYS_RESOURCE",
            "SYS_PTRACE",
            "SYS_NICE",
            "",
        ];
        for capability in refused {
            assert_eq!(problems(|s| s.settings.cap_add = [capability.to_owned()].into()).len(), 1, "{capability}");
        }
        let refused = [
            "net.ipv4.conf.all.rp_filter",
            "net.ipv6/conf/all/disable_ipv6",
            "kernel.core_pattern",
            "kernel.sem_next_id",
        ];
        for name in refused.into_iter().chain(["vm.swappiness", "fs.file-max", ""]) {
            assert_eq!(problems(|s| s.settings.sysctls = [(name.to_owned(), "1".into())].into()).len(), 1, "{name}");
        }
        let driver = |name: &str| Logging { driver: Some(name.to_owned()), ..Logging::default() };
        assert_eq!(problems(|s| s.settings.logging = Some(driver("local"))), none);
        assert_eq!(problems(|s| s.settings.logging = Some(driver("gelf"))).len(), 1);
        let option = |name: &str| Logging { driver: None, options: [(name.to_owned(), "1".into())].into() };
        assert_eq!(problems(|s| s.settings.logging = Some(option("max-size"))), none);
        for name in ["tag", "gelf-address", "syslog-address", "fluentd-address"] {
            assert_eq!(problems(|s| s.settings.logging = Some(option(name))).len(), 1, "{name}");
        }
        let real_time = |limit| [("rtprio".into(), Ulimit { soft: limit, hard: limit })].into();
        assert_eq!(problems(|s| s.settings.ulimits = real_time(0)), none);
        for limit in [1, 99, -1] {
            assert_eq!(problems(|s| s.settings.ulimits = real_time(limit)).len(), 1, "{limit}");
        }
        assert_eq!(problems(|s| s.settings.oom_score_adj = Some(-1)).len(), 1);
    }

    #[test]
    fn what_docker_would_refuse_is_refused_before() {
        let limit = |soft, hard| Ulimit { soft, hard };
        let none: [&str; 0] = [];
        for good in [limit(1, 1), limit(1, -1), limit(-1, -1), limit(0, 9)] {
            assert_eq!(problems(|s| s.settings.ulimits = [("nofile".into(), good)].into()), none, "{good:?}");
        }
        for bad in [limit(2, 1), limit(-1, 5), limit(-2, -1)] {
            assert_eq!(problems(|s| s.settings.ulimits = [("nofile".into(), bad)].into()).len(), 1, "{bad:?}");
        }
        assert_eq!(problems(|s| s.settings.ulimits = [("files".into(), limit(1, 1))].into()).len(), 1);
        for target in ["tmp", "/", "/a/../b", ""] {
            assert_eq!(
                problems(|s| s.settings.tmpfs = [(target.to_owned(), String::new())].into()).len(),
                1,
                "{target}"
            );
        }
        assert_eq!(problems(|s| s.settings.identity.hostname = Some("db.example.com".into())), none);
        for name in ["a b", "", "a..b", "-\n"] {
            assert_eq!(problems(|s| s.settings.identity.hostname = Some(name.into())).len(), 1, "{name:?}");
        }
    }
}
