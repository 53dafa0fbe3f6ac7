use super::super::check;
use super::*;
use crate::netlink::Uplink;

fn wanted() -> Wanted {
    Wanted {
        state_dir: "/var/lib/skep".into(),
        run_dir: "/run/skep".into(),
        bpffs: "/sys/fs/bpf/skep".into(),
        docker: "unix:///var/run/docker.sock".to_owned(),
        container_pool4: "10.208.0.0/12".parse().unwrap(),
        container_pool6: "fd53:6b65:7000::/48".parse().unwrap(),
        vip_pool4: "10.224.0.0/16".parse().unwrap(),
        vip_pool6: "fd53:6b65:7001::/64".parse().unwrap(),
        dns: [10, 224, 0, 53].into(),
    }
}

fn engine() -> EngineInfo {
    EngineInfo { version: "28.0.1".to_owned(), live_restore: true, ..EngineInfo::default() }
}

fn uplink() -> Uplink {
    Uplink { ifindex: 2, name: "eth0".to_owned(), mtu: 1500, ipv4: true, ipv6: true, router_advertisement: false }
}

fn good() -> HostFacts {
    HostFacts {
        uid: 0,
        missing_capabilities: Vec::new(),
        kernel: "6.12.9-amd64".to_owned(),
        ipv6: true,
        bpffs: Bpffs::Shared,
        cgroup2: Some("/sys/fs/cgroup".into()),
        docker: Ok(engine()),
        uplinks: Ok(vec![uplink()]),
        forwarding: [true, true],
        routes: vec!["192.168.1.0/24".parse().unwrap(), "172.17.0.0/16".parse().unwrap()],
        nft: Some("nftables v1.0.6".to_owned()),
        iptables: Some("iptables v1.8.9 (nf_tables)".to_owned()),
        forward_drops: true,
        state_space: Some(Space { free: 1 << 30, size: 1 << 34, inodes_free: 0, inodes: 0 }),
        unwritable: Vec::new(),
    }
}

/// The one finding that is not as it should be.
fn finding(facts: &HostFacts, wanted: &Wanted) -> Finding {
    let mut bad: Vec<Finding> = check(facts, wanted).into_iter().filter(|f| f.level != Level::Ok).collect();
    assert_eq!(bad.len(), 1, "{bad:#?}");
    bad.remove(0)
}

#[test]
fn a_good_machine_gets_one_screen_of_good_news() {
    let findings = check(&good(), &wanted());
    assert!(findings.iter().all(|finding| finding.level == Level::Ok && finding.remedy.is_none()), "{findings:#?}");
    assert!(findings.len() <= 20);
}

#[test]
fn every_fault_is_found_with_its_remedy() {
    let cases: [(Level, &str, &str, HostFacts); 19] = [
        (Level::Error, "user 1000", "sudo skepd", HostFacts { uid: 1000, ..good() }),
        (
            Level::Error,
            "without CAP_SYS_ADMIN",
            "outside a container",
            HostFacts { missing_capabilities: vec!["CAP_SYS_ADMIN"], ..good() },
        ),
        (Level::Error, "5.15.0-91", "6.1 or newer", HostFacts { kernel: "5.15.0-91-generic".to_owned(), ..good() }),
        (Level::Error, "no IPv6", "ipv6.disable=1", HostFacts { ipv6: false, ..good() }),
        (Level::Warn, "no bpffs", "mount -t bpf bpf /sys/fs/bpf", HostFacts { bpffs: Bpffs::Absent, ..good() }),
        (Level::Error, "mount namespace alone", "skepd-bpffs.service", HostFacts { bpffs: Bpffs::Private, ..good() }),
        (Level::Error, "cgroup v2", "mount -t cgroup2", HostFacts { cgroup2: None, ..good() }),
        (
            Level::Error,
            "no Docker at unix:///var/run/docker.sock",
            "systemctl start docker",
            HostFacts { docker: Err("refused".to_owned()), ..good() },
        ),
        (
            Level::Error,
            "Docker 19.03.8",
            "20.10",
            HostFacts { docker: Ok(EngineInfo { version: "19.03.8".to_owned(), ..engine() }), ..good() },
        ),
        (
            Level::Warn,
            "live-restore is off",
            r#""live-restore": true"#,
            HostFacts { docker: Ok(EngineInfo { live_restore: false, ..engine() }), ..good() },
        ),
        (
            Level::Warn,
            "userns-remap",
            "daemon.json",
            HostFacts { docker: Ok(EngineInfo { userns_remap: true, ..engine() }), ..good() },
        ),
        (
            Level::Error,
            "without root",
            "the machine's own Docker",
            HostFacts { docker: Ok(EngineInfo { rootless: true, ..engine() }), ..good() },
        ),
        (Level::Warn, "no default route", "ip route add default", HostFacts { uplinks: Ok(Vec::new()), ..good() }),
        (
            Level::Warn,
            "MTU of eth0 is 1000",
            "ip link set eth0 mtu 1280",
            HostFacts { uplinks: Ok(vec![Uplink { mtu: 1000, ..uplink() }]), ..good() },
        ),
        (Level::Error, "nft is not", "apt-get install nftables", HostFacts { nft: None, ..good() }),
        (Level::Warn, "iptables is not", "apt-get install iptables", HostFacts { iptables: None, ..good() }),
        (
            Level::Error,
            "/var/lib/skep cannot be written",
            "--state-dir",
            HostFacts { unwritable: vec![("/var/lib/skep".into(), "Read-only file system".to_owned())], ..good() },
        ),
        (
            Level::Warn,
            "/var/lib/skep is nearly full (1.0 of",
            "--state-dir",
            HostFacts {
                state_space: Some(Space { free: 1 << 20, size: 1 << 34, inodes_free: 0, inodes: 0 }),
                ..good()
            },
        ),
        (
            Level::Warn,
            "3 of 64 inodes",
            "make room",
            HostFacts {
                state_space: Some(Space { free: 1 << 30, size: 1 << 34, inodes_free: 3, inodes: 64 }),
                ..good()
            },
        ),
    ];
    for (level, what, remedy, facts) in cases {
        let found = finding(&facts, &wanted());
        assert_eq!(found.level, level, "{found:?}");
        assert!(found.what.contains(what), "{what:?} is not in {found:?}");
        assert!(found.remedy.as_deref().is_some_and(|text| text.contains(remedy)), "{remedy:?} is not in {found:?}");
    }
}

#[test]
fn a_pool_may_neither_hold_nor_lie_in_a_route_of_the_machine() {
    for (route, option) in [
        ("10.209.1.0/24", "--container-pool4"),
        ("10.0.0.0/8", "--container-pool4"),
        ("10.224.0.0/16", "--vip-pool4"),
        ("fd53:6b65:7000:1::/64", "--container-pool6"),
        ("fd53:6b65:7001::/64", "--vip-pool6"),
    ] {
        let found = finding(&HostFacts { routes: vec![route.parse().unwrap()], ..good() }, &wanted());
        assert_eq!(found.level, Level::Error);
        assert!(found.what.contains(route), "{found:?}");
        assert!(found.remedy.as_deref().is_some_and(|remedy| remedy.contains(option)), "{found:?}");
    }
}

#[test]
fn an_absent_bpffs_that_nobody_will_mount_is_an_error() {
    let wanted = Wanted { bpffs: "/var/lib/pins".into(), ..wanted() };
    let found = finding(&HostFacts { bpffs: Bpffs::Absent, ..good() }, &wanted);
    assert_eq!(found.level, Level::Error);
    assert!(found.remedy.unwrap().contains("mount -t bpf bpf /var/lib/pins"));
}

#[test]
fn a_sockets_path_has_107_bytes() {
    let with = |len: usize| Wanted { run_dir: format!("/{}", "r".repeat(len - 1)).into(), ..wanted() };
    assert!(check(&good(), &with(96)).iter().all(|finding| finding.level == Level::Ok));
    assert!(finding(&good(), &with(97)).remedy.unwrap().contains("--run-dir"));
}

#[test]
fn kernels_are_compared_by_number() {
    assert_eq!(version("6.1.0-28-amd64"), Some((6, 1)));
    assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
    assert_eq!(version("7.2"), Some((7, 2)));
    assert_eq!(version("unknown"), None);
    let what = |kernel: &str| kernel_line(kernel);
    assert!(what("6.1.0").contains("clsact") && what("6.6.0").contains("tcx") && what("10.0.1").contains("tcx"));
}

fn kernel_line(kernel: &str) -> String {
    super::kernel(&HostFacts { kernel: kernel.to_owned(), ..good() }).what
}
