use super::*;

#[test]
fn what_an_environment_stored_goes_after_the_last_of_it() {
    let mut desired = shop(&[("db", 1, &[])]);
    let mut observed = Observed::default();
    simulate(&desired, &mut observed);
    let key = desired.environments.keys().next().unwrap().clone();
    desired.discards.insert(key.clone());
    let discards = |ops: &[Op]| ops.iter().filter(|op| matches!(op, Op::Discard(_))).count();
    assert_eq!(discards(&plan(&desired, &observed)), 0, "it is there");
    let wish = Desired { discards: desired.discards, ..nothing() };
    assert_eq!(discards(&plan(&wish, &observed)), 0, "its containers are");
    let ops = simulate(&wish, &mut observed);
    assert_eq!((ops.last(), discards(&ops)), (Some(&Op::Discard(key)), 1));
    assert!(without_docker(vec![ops.last().unwrap().clone()], true).is_empty(), "only Docker can");
}

#[test]
fn what_ends_leaves_nothing_whenever_the_daemon_dies() {
    let mut desired = shop(&[("api", 1, &[])]);
    let mut observed = Observed::default();
    simulate(&desired, &mut observed);
    let replica = desired.replicas.values_mut().next().unwrap();
    Arc::make_mut(replica).ending = true;
    let (key, replica) = (replica.key.clone(), Arc::clone(replica));
    observed.drains.insert(key, Drain { connections: 0, over: true });
    let ops = plan(&desired, &observed);
    for done in 0..ops.len() {
        let mut after = observed.clone();
        ops[..done].iter().for_each(|op| predict(&desired, &mut after, op));
        simulate(&desired, &mut after);
        assert!(!is_left(&replica, &after), "dead before {}", ops[done]);
    }
}
