//! How containers are set up.

use super::*;
use crate::model::settings::{Logging, Ulimit};

const FULL_SERVICE: &str = r#"
services:
  a:
    image: i
    init: true
    cap_add: [cap_ipc_lock, NET_RAW]
    cap_drop: [all]
    security_opt: ["no-new-privileges=true"]
    read_only: true
    shm_size: 128m
    tmpfs: ["/run:size=64m,mode=755", /tmp]
    volumes:
      - {type: tmpfs, target: /cache, tmpfs: {size: 1m, mode: 1777}}
    ulimits: {nofile: {soft: 1024, hard: 2048}, nproc: 99}
    group_add: [audio, 1000]
    oom_score_adj: 10
    sysctls: [net.core.somaxconn=1024, kernel.shmmax=1]
    logging: {driver: local, options: {max-size: 1m}}
    hostname: db.example.com
    domainname: example.com
    extra_hosts: ["one=10.0.0.1", "two:[fd00::2]", "one=10.0.0.2"]
    dns_search: [example.com, .]
"#;

#[test]
fn containers_are_set_up_as_compose_has_it() {
    let settings = spec(FULL_SERVICE).services["a"].settings.clone();
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert!(settings.init && settings.read_only && settings.no_new_privileges);
    assert_eq!((settings.cap_add, settings.cap_drop), (set(&["IPC_LOCK", "NET_RAW"]), set(&["ALL"])));
    assert_eq!((settings.shm_size, settings.oom_score_adj), (Some(128 << 20), Some(10)));
    let tmpfs: Vec<_> = settings.tmpfs.iter().map(|(target, options)| format!("{target} {options}")).collect();
    assert_eq!(tmpfs, ["/cache size=1048576,mode=1777", "/run size=64m,mode=755", "/tmp "]);
    assert_eq!(settings.ulimits["nofile"], Ulimit { soft: 1024, hard: 2048 });
    assert_eq!(settings.ulimits["nproc"], Ulimit { soft: 99, hard: 99 });
    assert_eq!(settings.group_add, ["audio", "1000"]);
    assert_eq!(settings.sysctls.len(), 2);
    let options = [("max-size".to_owned(), "1m".to_owned())].into();
    assert_eq!(settings.logging, Some(Logging { driver: Some("local".into()), options }));
    let identity = settings.identity;
    assert_eq!(
        (identity.hostname.as_deref(), identity.domainname.as_deref()),
        (Some("db.example.com"), Some("example.com"))
    );
    assert_eq!(identity.search, ["example.com"]);
    let hosts: Vec<String> = identity.extra_hosts.iter().map(|(name, to)| format!("{name} {to:?}")).collect();
    assert_eq!(hosts, ["one {10.0.0.1, 10.0.0.2}", "two {fd00::2}"]);
}

#[test]
fn what_loosens_the_container_or_is_no_value_is_refused() {
    let cases = [
        ("    cap_add: [SYS_ADMIN]", "SYS_ADMIN is given to no container"),
        ("    security_opt: ['seccomp=unconfined']", "changes what confines the container"),
        ("    sysctls: {vm.swappiness: 1}", "vm.swappiness is one for the whole node"),
        ("    sysctls: {net.ipv6.conf.all.disable_ipv6: 1}", "is set by the private network"),
        ("    ulimits: {nofile: {soft: 1}}", "it needs soft and hard"),
        ("    ulimits: {nofile: many}", "is no whole number"),
        ("    ulimits: {files: 1}", "there is no such limit"),
        ("    extra_hosts: [one]", "has no address"),
        ("    extra_hosts: ['one=host-gateway']", "the node is not reachable from a private network"),
        ("    extra_hosts: {one: nowhere}", "is no address"),
        ("    logging: {driver: gelf}", "would send from outside of the private network"),
        ("    logging: {drivers: gelf}", "did you mean driver?"),
        ("    tmpfs: tmp", "is no path to mount at"),
        ("    volumes: [{type: tmpfs}]", "it has no target"),
        ("    volumes: [{type: tmpfs, target: /a, tmpfs: {mode: 9}}]", "is no mode"),
        ("    oom_score_adj: -500", "write a number from 0 to 1000"),
        ("    hostname: 'a b'", "is no host name"),
    ];
    for (body, says) in cases {
        let error = service_error(body);
        assert!(error.contains(says), "{body}: {error}");
    }
}

#[test]
fn who_is_waited_for_to_end_ends() {
    let text = "services:\n  web:\n    image: i\n    depends_on:\n      migrate: {condition: service_completed_successfully}\n      \
                seed: {condition: service_completed_successfully}\n      gone: {required: false}\n      debug: {required: false}\n  \
                migrate: {image: m}\n  seed: {image: s, restart: on-failure}\n  debug: {image: d, profiles: [debug]}\n";
    let services = spec(text).services;
    assert_eq!(services["migrate"].restart, RestartPolicy::No);
    assert_eq!(services["seed"].restart, RestartPolicy::OnFailure(0));
    let needs: Vec<&str> = services["web"].depends_on.keys().map(String::as_str).collect();
    assert_eq!(needs, ["migrate", "seed"]);
    assert_eq!(services["web"].depends_on["seed"], DependsOn::ServiceCompletedSuccessfully);
}
