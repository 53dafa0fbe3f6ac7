//! `x-skep.egress` and `x-skep.affinity`.

use super::*;
use crate::model::spec::Affinity;

fn service(x_skep: &str) -> String {
    format!("services: {{a: {{image: x, x-skep: {x_skep}}}}}")
}

#[test]
fn a_service_lists_where_it_may_go() {
    let read = |x_skep: &str| spec(&service(x_skep)).services["a"].clone();
    let list = |texts: &[&str]| Some(texts.iter().map(|text| text.parse().unwrap()).collect());
    assert_eq!(read("{}").egress, None);
    assert_eq!(read("{egress: 198.51.100.7}").egress, list(&["198.51.100.7/32"]));
    let several = read("{egress: [11.2.0.0/16, \"2a00:5ce9::/32\", \"2a00::1\", 11.2.0.0/16]}").egress;
    assert_eq!(several, list(&["11.2.0.0/16", "2a00:5ce9::/32", "2a00::1/128"]));
    assert_eq!(read("{egress: []}").egress, list(&[]));
    let networks = spec(&service("{egress: []}")).networks;
    assert!(!read("{egress: []}").has_egress(&networks) && read("{egress: 11.0.0.1}").has_egress(&networks));
}

#[test]
fn what_says_no_place_opens_nothing() {
    for (said, what) in [
        ("", "is empty; write [] for nowhere"),
        ("11.2.0.1/16", "11.2.0.1/16 is an address in a network; write 11.2.0.0/16 for the network, or 11.2.0.1"),
        ("api.example.com", "is neither an address nor a prefix such as 198.51.100.0/24; names are not known"),
        ("11.2.0.0/33", "is neither an address nor a prefix"),
        ("{a: b}", "write a list"),
    ] {
        let found = errors(&service(&format!("{{egress: {said}}}")));
        assert!(found.iter().any(|line| line.contains(what)), "{said}: {found:#?}");
    }
    let inside =
        "services: {a: {image: x, networks: [b], x-skep: {egress: 11.0.0.1}}}\nnetworks: {b: {internal: true}}";
    let errors = errors(inside);
    assert!(errors.iter().any(|line| line.contains("its networks are internal; put it into a network")), "{errors:#?}");
}

#[test]
fn clients_may_be_kept_where_they_are() {
    let read = |x_skep: &str| spec(&service(x_skep)).services["a"].affinity;
    assert_eq!(
        [read("{}"), read("{affinity: none}"), read("{affinity: client}")],
        [Affinity::None, Affinity::None, Affinity::Client]
    );
    let errors = errors(&service("{affinity: ip_hash}"));
    assert!(errors.iter().any(|line| line.contains("is no affinity; use client or none")), "{errors:#?}");
}
