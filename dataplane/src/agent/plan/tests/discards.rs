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
