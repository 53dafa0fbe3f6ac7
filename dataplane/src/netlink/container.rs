use super::{NetlinkError, Netns, VethSpec};

impl super::Netlink {
    /// Makes the container's side so: sysctls first, then addresses, routes and neighbours, both links up.
    ///
    /// # Errors
    /// When the kernel refuses a part; nothing is undone, the next call goes on from there.
    pub async fn plumb_container(netns: &Netns, spec: &VethSpec) -> Result<(), NetlinkError> {
        let _ = (netns, spec);
        unimplemented!()
    }
}
