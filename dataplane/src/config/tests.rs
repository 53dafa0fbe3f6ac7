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
fn the_command_line_is_coherent() {
    use clap::CommandFactory;
    Args::command().debug_assert();
}
