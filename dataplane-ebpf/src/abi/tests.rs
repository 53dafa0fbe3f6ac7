//! The layout as text, beside the version under which it was written down.

use std::fmt::Write as _;

use super::*;

/// Version and layout that pins of this version have.
const WRITTEN_DOWN: &str = include_str!("layout.txt");

/// Names, order, sizes: what a reader of another build relies on.
fn fingerprint() -> String {
    let mut text = format!("version {ABI_VERSION}\n");
    macro_rules! add {
        ($($type:ty),* $(,)?) => {$(
            // SAFETY: `Pod` types are integers and arrays of them: zeros are a value.
            let zeroed: $type = unsafe { core::mem::zeroed() };
            let (size, align) = (size_of::<$type>(), align_of::<$type>());
            writeln!(text, "{} {size} {align} {zeroed:?}", stringify!($type)).unwrap();
        )*};
    }
    add!(
        ServiceKey,
        BackendKey,
        NameKey,
        PtrKey,
        GrantKey,
        EgressKey,
        ListKey,
        FlowKey,
        DropKey,
        Device,
        Netns,
        Endpoint,
        Service,
        Backend,
        Name,
        Ptr,
        Grant,
        EgressRule,
        Flow,
        Budget,
        SocketState,
        Counter,
        DropRecord,
        Event,
        NodeConfig,
        Node,
    );
    for reason in Reason::ALL {
        writeln!(text, "{} {reason}", *reason as u32).unwrap();
    }
    text
}

#[test]
fn a_changed_layout_has_a_new_version() {
    let now = fingerprint();
    if now != WRITTEN_DOWN {
        let same_version = WRITTEN_DOWN.lines().next() == now.lines().next();
        let what = if same_version { "raise ABI_VERSION, then write this down" } else { "write this down" };
        panic!("the layout of the maps changed: {what} in dataplane-ebpf/src/abi/layout.txt:\n{now}");
    }
}

#[test]
fn reasons_keep_their_numbers_and_names_apart() {
    for reason in Reason::ALL {
        assert_eq!(Reason::from_number(*reason as u32), Some(*reason));
        assert!(!reason.explanation().is_empty() && !reason.remedy().is_empty(), "{reason}");
    }
    let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    assert_eq!(Reason::from_number(0), None);
}
