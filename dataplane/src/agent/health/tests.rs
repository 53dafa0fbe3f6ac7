use proptest::prelude::*;

use super::*;

fn unknown(reason: &str) -> Probed {
    Probed::Unknown { reason: Some(reason.to_owned()) }
}

fn unwell(reason: &str) -> Probed {
    Probed::Unwell { reason: reason.to_owned() }
}

fn starting(reason: &str) -> Well {
    Well::Starting { reason: Some(reason.to_owned()) }
}

fn unhealthy(reason: &str) -> Well {
    Well::Unhealthy { reason: reason.to_owned() }
}

#[test]
fn a_replica_is_well_when_neither_objects() {
    for docker in [Health::Unchecked, Health::Healthy] {
        assert_eq!(well(docker, None), Well::Healthy);
        assert_eq!(well(docker, Some(&Probed::Well)), Well::Healthy);
        assert_eq!(well(docker, Some(&unknown("refused"))), starting("refused"));
        assert_eq!(well(docker, Some(&unwell("503"))), unhealthy("503"));
    }
    assert_eq!(well(Health::Starting, Some(&Probed::Well)), starting("its health is not known yet"));
    assert_eq!(well(Health::Unhealthy, Some(&Probed::Well)), unhealthy("its health check fails"));
}

#[test]
fn the_worse_of_two_counts_and_says_why() {
    assert_eq!(well(Health::Starting, Some(&unwell("503"))), unhealthy("503"));
    assert_eq!(well(Health::Unhealthy, Some(&unknown("refused"))), unhealthy("its health check fails"));
    assert_eq!(well(Health::Unhealthy, Some(&unwell("503"))), unhealthy("its health check fails; 503"));
    assert_eq!(well(Health::Starting, Some(&unknown("refused"))), starting("refused"));
    let untold = Probed::Unknown { reason: None };
    assert_eq!(well(Health::Starting, Some(&untold)), starting("its health is not known yet"));
    assert_eq!(well(Health::Healthy, Some(&untold)), Well::Starting { reason: None });
}

#[test]
fn the_healthy_serve_and_when_there_is_none_those_that_were() {
    let (well, sick, new) = (Well::Healthy, unhealthy("503"), Well::Starting { reason: None });
    assert_eq!(serving([(1, &sick), (2, &well), (3, &new), (4, &well)]), [2, 4]);
    assert_eq!(serving([(1, &sick), (2, &new), (3, &sick)]), [1, 3]);
    assert_eq!(serving([(1, &new)]), [0; 0]);
    assert_eq!(serving([(0, &well); 0]), [0; 0]);
}

fn any_well() -> impl Strategy<Value = Well> {
    prop_oneof![Just(Well::Healthy), Just(unhealthy("503")), Just(Well::Starting { reason: None })]
}

proptest! {
    #[test]
    fn whatever_the_checks_say_the_last_one_that_serves_stays(
        before in prop::collection::vec(any_well(), 0..8),
        sick in any::<prop::sample::Index>(),
    ) {
        let serve = |all: &[Well]| serving(all.iter().enumerate());
        let served = serve(&before);
        prop_assert!(served.is_sorted());
        for (i, well) in before.iter().enumerate() {
            let expected = match well {
                Well::Healthy => true,
                Well::Unhealthy { .. } => !before.contains(&Well::Healthy),
                Well::Starting { .. } => false,
            };
            prop_assert_eq!(served.contains(&i), expected);
        }
        if !served.is_empty() {
            let mut after = before.clone();
            after[served[sick.index(served.len())]] = unhealthy("no answer");
            prop_assert!(!serve(&after).is_empty(), "a check alone took the last one away");
        }
    }
}
