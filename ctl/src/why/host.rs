use dataplane::netlink::Netlink;
use dataplane_ebpf::abi::{Addr, Device, Flow, FlowKey};
use dataplane_ebpf::packet::Packet;
use dataplane_ebpf::tables::{Host, Route};

/// The host as it is now, asked without leaving a trace: nothing is counted, remembered or used up.
pub(super) struct PinnedHost {
    route: Route,
}

impl PinnedHost {
    /// Asks the routing table about `to` beforehand: the decision itself does not wait.
    pub(super) async fn new(device: &Device, ifindex: u32, to: Addr) -> Self {
        let from = if to.is_v4() { Addr::from_v4_word(device.address4) } else { device.address6 };
        let route = match Netlink::connect() {
            Ok(netlink) => netlink.forwards_through(from.to_ip(), to.to_ip(), ifindex).await.ok().flatten(),
            Err(_) => None,
        };
        Self { route: route.map_or(Route::No, |ifindex| Route::Forward { ifindex }) }
    }
}

impl Host for PinnedHost {
    fn now(&self) -> u64 {
        dataplane::clock::monotonic()
    }

    fn route(&self, _: &Packet) -> Route {
        self.route
    }

    fn admit(&self, _: u32) -> bool {
        true
    }

    fn remember(&self, _: &FlowKey, _: &Flow) {}

    fn touch(&self, _: &FlowKey, _: u64) {}
}
