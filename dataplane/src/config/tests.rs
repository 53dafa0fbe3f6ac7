use super::*;

fn resolve(args: &[&str]) -> Result<Config, ConfigError> {
    let args = ["skepd", "--node-name", "Node_1"].iter().chain(args);
    Args::try_parse_from(args).unwrap().options.resolve()
}

#[test]
fn defaults_are_complete() {
    let config = resolve(&[]).unwrap();
    assert_eq!(config.node_name, "node-1");
    assert_eq!(config.dns(), Ipv4Addr::new(10, 224, 0, 53));
    assert_eq!(config.socket(), Path::new("/run/skep/skepd.sock"));
}

#[test]
fn options_hold_before_and_after_the_subcommand() {
    let args = Args::try_parse_from(["skepd", "check", "--run-dir", "/tmp/x"]).unwrap();
    assert_eq!(args.command, Some(Command::Check));
    assert_eq!(args.options.run_dir, Path::new("/tmp/x"));
}

#[test]
fn pools_that_overlap_are_refused() {
    let error = resolve(&["--vip-pool4", "10.210.0.0/16"]).unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
    let error = resolve(&["--vip-pool4", "10.224.0.0/28"]).unwrap_err();
    assert!(error.to_string().contains("/24"), "{error}");
}

#[test]
fn a_tunnel_is_a_device_with_a_name_and_a_port() {
    let config = resolve(&[]).unwrap();
    assert_eq!((config.tunnel, config.tunnel_device.as_str(), config.tunnel_port), (TunnelKind::Auto, "skep0", 51820));
    let config = resolve(&["--tunnel", "off", "--tunnel-device", "wg-b.1", "--tunnel-port", "443"]).unwrap();
    assert_eq!((config.tunnel, config.tunnel_device.as_str(), config.tunnel_port), (TunnelKind::Off, "wg-b.1", 443));
    for wrong in ["", "a/b", "a b", "..", "sixteen-letters-", "wg%d"] {
        assert!(Args::try_parse_from(["skepd", "--tunnel-device", wrong]).is_err(), "{wrong}");
    }
    assert!(Args::try_parse_from(["skepd", "--tunnel-port", "0"]).is_err());
}

#[test]
fn the_command_line_is_coherent() {
    use clap::CommandFactory;
    Args::command().debug_assert();
}
