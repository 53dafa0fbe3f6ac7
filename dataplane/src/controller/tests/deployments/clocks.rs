//! What is waited for, whoever looks on and whatever their clocks say.

use super::*;

#[test]
fn nobody_is_blamed_for_what_was_while_no_controller_looked_on() {
    let slow = |state| move |key: &ReplicaKey| (key.deployment == 2).then_some(state);
    let mut story = Story::new(1);
    story.up(v2(1, Rollout::default()));
    story.world.agents_but(slow(ReplicaState::Starting));
    story.world.settle(usize::MAX);
    assert_eq!(story.deployment(2).phase, Phase::Starting);
    let absent = |story: &mut Story| {
        story.world.now += 3_600;
        story.world.watching = story.world.now;
        story.world.settle(usize::MAX);
    };
    absent(&mut story);
    assert_eq!(story.deployment(2).phase, Phase::Starting, "it has its time again");
    story.turn();
    absent(&mut story);
    assert_eq!(story.deployment(2).phase, Phase::Monitoring, "nobody has watched it for long enough");
    story.pass(10);
    assert_eq!(story.deployment(2).phase, Phase::Switching);
}

#[test]
fn a_controller_with_another_clock_waits_as_long_as_any() {
    for ahead in [-3_600, 3_600] {
        let mut story = Story::new(1);
        story.up(v2(1, Rollout::default()));
        story.turn();
        assert_eq!(story.deployment(2).phase, Phase::Monitoring);
        story.world.now = story.world.now.strict_add_signed(ahead);
        story.world.watching = story.world.now;
        story.pass(9);
        assert_eq!(story.deployment(2).phase, Phase::Monitoring, "{ahead}");
        story.pass(1);
        assert_eq!(story.deployment(2).phase, Phase::Switching, "{ahead}");
        for _ in 0..3 {
            story.turn();
            story.pass(10);
        }
        assert_eq!(story.deployment(2).state, DeploymentState::Ready, "{ahead}");
    }
}
