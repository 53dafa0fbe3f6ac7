//! The load generator itself: it counts what happens, and it notices when something is wrong.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tests::load::{Client, Connects, Datagrams, KeepAlive, Place, Server, Service, Tally, run_for};

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn tally<C: Client>(
    port: u16,
    service: Service,
    make: impl Fn() -> std::io::Result<C> + Send + 'static,
) -> anyhow::Result<Tally> {
    let _server = Server::start(Place::default(), port, service)?;
    run_for(Place::default(), Duration::from_millis(50), make)
}

#[test]
fn exchanges_are_counted() -> anyhow::Result<()> {
    for tally in [
        tally(41_001, Service::Echo, || KeepAlive::new(local(41_001)))?,
        tally(41_002, Service::EchoOnce, || Connects::new(local(41_002)))?,
        tally(41_003, Service::Datagrams, || Datagrams::unconnected(local(41_003)))?,
    ] {
        assert!(tally.exchanges > 10 && tally.failures == 0, "{tally:?}");
    }
    Ok(())
}

#[test]
fn failures_are_counted() -> anyhow::Result<()> {
    let tally = tally(41_004, Service::EchoOnce, || KeepAlive::new(local(41_004)))?;
    assert!(tally.failures > 0 && tally.first_failure.is_some(), "{tally:?}");
    let refused = run_for(Place::default(), Duration::from_millis(5), || Connects::new(local(41_005)))?;
    assert!(refused.failures > 0);
    Ok(())
}
