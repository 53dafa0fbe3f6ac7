//! How one version of a service takes the place of another.

use super::*;
use crate::model::rollout::{FailureAction, Rollout};
use crate::model::spec::VolumeMount;

mod clocks;

/// One service, as it is changed.
struct Story {
    world: World,
    key: EnvironmentKey,
}

impl Story {
    /// Version 1 serves.
    fn new(replicas: u32) -> Self {
        let mut story = Self { world: World::new(pools()), key: environment("production") };
        story.up(service("v1", replicas, &["default"]));
        story.world.come_to_rest();
        story
    }

    fn up(&mut self, api: ServiceSpec) {
        self.world.want(&self.key, Some(spec(&self.key, &[("api", api)])));
        self.world.settle(usize::MAX);
    }

    fn api(&self) -> &ServiceAssignment {
        self.world.service(&self.key, "api").unwrap()
    }

    fn deployment(&self, number: u32) -> &Deployment {
        &self.world.state.deployments[&self.api().key.deployment(number)].value
    }

    /// What is there, and whether it is to end.
    fn replicas(&self) -> Vec<(u32, u32, bool)> {
        let all = self.world.state.replicas.values().map(|r| &r.value);
        all.map(|r| (r.key.deployment, r.key.replica, r.ending)).collect()
    }

    /// Who serves.
    fn serving(&self) -> Vec<(u32, u32)> {
        let all = self.world.state.replicas.values().map(|r| &r.value);
        all.filter(|r| self.api().is_served_by(&r.key)).map(|r| (r.key.deployment, r.key.replica)).collect()
    }

    /// The agents work, then the controller.
    fn turn(&mut self) {
        self.world.agents();
        self.world.settle(usize::MAX);
    }

    fn pass(&mut self, seconds: u64) {
        self.world.now += seconds;
        self.world.settle(usize::MAX);
    }

    /// The agents find one version ill.
    fn fall_ill(&mut self, deployment: u32, state: ReplicaState) {
        self.world.agents_but(|key| (key.deployment == deployment).then_some(state));
        self.world.settle(usize::MAX);
    }
}

fn v2(replicas: u32, update: Rollout) -> ServiceSpec {
    ServiceSpec { update, ..service("v2", replicas, &["default"]) }
}

#[test]
fn the_new_version_stands_beside_the_old_until_one_write_switches() {
    let mut story = Story::new(2);
    let vip = story.api().vip4;
    story.up(v2(2, Rollout::default()));
    assert_eq!(story.replicas(), [(1, 1, false), (1, 2, false), (2, 1, false), (2, 2, false)]);
    assert_eq!(story.serving(), [(1, 1), (1, 2)]);
    story.turn();
    assert_eq!((story.deployment(2).phase, story.serving()), (Phase::Monitoring, vec![(1, 1), (1, 2)]));
    story.pass(10);
    assert_eq!((story.deployment(2).phase, story.serving()), (Phase::Switching, vec![(2, 1), (2, 2)]));
    story.pass(1000);
    assert_eq!(story.deployment(2).phase, Phase::Switching, "no node has said that its maps are so");
    story.turn();
    assert_eq!(story.deployment(2).phase, Phase::Settling);
    assert_eq!(story.replicas().len(), 4);
    story.pass(2);
    assert_eq!(
        (story.deployment(2).state, story.deployment(1).state),
        (DeploymentState::Ready, DeploymentState::Superseded)
    );
    assert_eq!(story.replicas(), [(1, 1, true), (1, 2, true), (2, 1, false), (2, 2, false)]);
    assert_eq!((story.api().deployment, story.api().next, story.api().vip4), (2, None, vip));
    story.turn();
    assert_eq!(story.replicas(), [(2, 1, false), (2, 2, false)]);
}

#[test]
fn a_scaled_service_is_no_new_version() {
    let mut story = Story::new(2);
    story.up(service("v1", 3, &["default"]));
    story.world.come_to_rest();
    assert_eq!((story.api().deployment, story.serving().len()), (1, 3));
    story.up(service("v1", 1, &["default"]));
    assert_eq!(story.replicas(), [(1, 1, false), (1, 2, true), (1, 3, true)]);
    story.world.come_to_rest();
    assert_eq!(story.replicas(), [(1, 1, false)]);
}

#[test]
fn the_last_batch_takes_the_place_of_all_that_are_left_be_they_more_or_fewer() {
    for (before, after) in [(5, 2), (2, 5)] {
        for parallelism in [0, 1] {
            let mut story = Story::new(before);
            story.up(v2(after, Rollout { parallelism, monitor: 0, ..Rollout::default() }));
            let many = before.max(after) as usize;
            while story.deployment(2).state != DeploymentState::Ready {
                let serving = story.serving();
                let (old, new): (Vec<(u32, u32)>, Vec<_>) =
                    serving.iter().copied().partition(|(deployment, _)| *deployment == 1);
                assert!(
                    old.is_empty() || new.len() < after as usize,
                    "all of the new and some of the old: {serving:?}"
                );
                assert!(!serving.is_empty() && serving.len() <= many, "{serving:?}");
                story.turn();
                story.pass(2);
            }
            story.world.come_to_rest();
            assert_eq!(story.replicas(), (1..=after).map(|replica| (2, replica, false)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn one_that_ended_well_is_ill_where_clients_are_to_be_sent_to_it() {
    for (port, state) in [(Some(8080), DeploymentState::Failed), (None, DeploymentState::Deploying)] {
        let mut story = Story::new(1);
        story.up(ServiceSpec { port, ..v2(1, Rollout::default()) });
        story.fall_ill(2, ReplicaState::Exited);
        assert_eq!(story.deployment(2).state, state);
    }
    let mut story = Story::new(1);
    let release = Some(vec!["migrate".into()]);
    story.up(ServiceSpec { port: Some(8080), release, ..v2(1, Rollout::default()) });
    story.fall_ill(2, ReplicaState::Exited);
    assert_ne!(story.deployment(2).state, DeploymentState::Failed, "a release task is to end");
}

#[test]
fn one_that_ended_while_it_was_watched_fails_when_it_is_known_why() {
    let mut story = Story::new(1);
    story.up(v2(1, Rollout::default()));
    story.turn();
    assert_eq!(story.deployment(2).phase, Phase::Monitoring);
    story.fall_ill(2, ReplicaState::Ended);
    story.pass(20);
    assert_eq!((story.deployment(2).phase, story.serving()), (Phase::Monitoring, vec![(1, 1)]));
    story.fall_ill(2, ReplicaState::Starting);
    assert_eq!((story.deployment(2).state, story.serving()), (DeploymentState::Failed, vec![(1, 1)]));
}

#[test]
fn what_is_not_well_never_serves_and_leaves_no_trace() {
    for state in [ReplicaState::Failed, ReplicaState::Unhealthy] {
        let mut story = Story::new(2);
        let before = story.api().clone();
        story.up(v2(2, Rollout::default()));
        story.fall_ill(2, state);
        assert_eq!(story.deployment(2).state, DeploymentState::Failed);
        assert_eq!(story.deployment(2).reason.as_deref(), Some(state.to_string().as_str()));
        story.world.come_to_rest();
        assert_eq!((story.api(), story.replicas()), (&before, vec![(1, 1, false), (1, 2, false)]));
    }
}

#[test]
fn well_for_a_moment_is_not_well() {
    let mut story = Story::new(1);
    story.up(v2(1, Rollout::default()));
    story.turn();
    story.pass(9);
    assert_eq!(story.deployment(2).phase, Phase::Monitoring);
    story.fall_ill(2, ReplicaState::Starting);
    assert!(story.deployment(2).reason.as_ref().unwrap().contains("did not stay so"));
    assert_eq!(story.serving(), [(1, 1)]);
}

#[test]
fn never_well_is_known_after_a_while_that_begins_when_the_image_is_there() {
    let mut story = Story::new(1);
    story.up(v2(1, Rollout::default()));
    story.fall_ill(2, ReplicaState::Pulling);
    story.pass(3600);
    story.fall_ill(2, ReplicaState::Starting);
    assert_eq!((story.deployment(2).state, story.deployment(2).phase), (DeploymentState::Deploying, Phase::Starting));
    story.pass(60);
    assert!(story.deployment(2).reason.as_ref().unwrap().starts_with("it was not well within 60 s"));
}

#[test]
fn batches_go_one_after_the_other_and_all_the_way_back() {
    let mut story = Story::new(3);
    story.up(v2(3, Rollout { parallelism: 1, delay: 5_000, ..Rollout::default() }));
    story.turn();
    story.pass(10);
    assert_eq!(story.serving(), [(1, 2), (1, 3), (2, 1)]);
    story.turn();
    story.pass(2);
    assert_eq!(story.replicas(), [(1, 1, true), (1, 2, false), (1, 3, false), (2, 1, false)]);
    story.turn();
    assert_eq!(story.deployment(2).phase, Phase::Pausing);
    story.pass(5);
    assert_eq!(story.replicas(), [(1, 2, false), (1, 3, false), (2, 1, false), (2, 2, false)]);
    story.fall_ill(2, ReplicaState::Failed);
    // Back: what was replaced is started again, and clients are sent to it when it is well.
    assert_eq!((story.deployment(2).state, story.deployment(2).replaced), (DeploymentState::Deploying, 0));
    assert_eq!(story.serving(), [(1, 2), (1, 3), (2, 1)]);
    story.world.come_to_rest();
    assert_eq!(story.deployment(2).state, DeploymentState::Failed);
    assert_eq!((story.api().deployment, story.api().next), (1, None));
    assert_eq!(story.replicas(), [(1, 1, false), (1, 2, false), (1, 3, false)]);
}

#[test]
fn two_never_write_to_one_volume() {
    let mut story = Story { world: World::new(pools()), key: environment("production") };
    let mount = VolumeMount { volume: "data".into(), target: "/data".into(), read_only: false };
    let version = |image| ServiceSpec { volumes: vec![mount.clone()], ..service(image, 1, &["default"]) };
    story.up(version("v1"));
    story.world.come_to_rest();
    story.up(version("v2"));
    for _ in 0..3 {
        assert_eq!(story.replicas().len(), 1);
        story.turn();
        story.pass(2);
    }
    assert_eq!((story.replicas(), story.serving()), (vec![(2, 1, false)], vec![(2, 1)]));
    story.fall_ill(2, ReplicaState::Failed);
    for _ in 0..4 {
        assert!(story.replicas().len() <= 1);
        story.turn();
        story.pass(2);
    }
    story.world.come_to_rest();
    assert_eq!((story.replicas(), story.deployment(2).state), (vec![(1, 1, false)], DeploymentState::Failed));
}

#[test]
fn a_failed_one_may_stay_as_it_is_or_go_on() {
    for (action, state, serves) in [
        (FailureAction::Pause, DeploymentState::Failed, vec![(1, 2), (2, 1)]),
        (FailureAction::Continue, DeploymentState::Ready, vec![(2, 1), (2, 2)]),
    ] {
        let mut story = Story::new(2);
        story.up(v2(2, Rollout { parallelism: 1, failure_action: action, ..Rollout::default() }));
        story.turn();
        story.pass(10);
        story.turn();
        story.pass(2);
        story.turn();
        for _ in 0..4 {
            story.fall_ill(2, ReplicaState::Failed);
            story.pass(2);
        }
        assert_eq!((story.deployment(2).state, story.serving()), (state, serves), "{action:?}");
        story.up(service("v3", 2, &["default"]));
        story.world.come_to_rest();
        assert_eq!((story.api().deployment, story.serving()), (3, vec![(3, 1), (3, 2)]), "{action:?}");
    }
}

#[test]
fn a_newer_wish_takes_the_place_of_one_that_has_not_served_and_waits_for_one_that_has() {
    let mut story = Story::new(1);
    story.up(v2(1, Rollout::default()));
    story.up(service("v3", 1, &["default"]));
    assert_eq!(story.deployment(2).state, DeploymentState::Superseded);
    assert_eq!(story.replicas(), [(1, 1, false), (2, 1, true)], "never three versions at once");
    story.turn();
    assert_eq!(story.replicas(), [(1, 1, false), (3, 1, false)]);
    story.turn();
    story.pass(10);
    assert_eq!(story.serving(), [(3, 1)]);
    for image in ["v4", "v5"] {
        story.up(service(image, 1, &["default"]));
    }
    assert_eq!(
        (story.deployment(4).state, story.deployment(5).state),
        (DeploymentState::Superseded, DeploymentState::Queued)
    );
    story.turn();
    story.pass(2);
    assert_eq!(
        (story.deployment(3).state, story.deployment(5).state),
        (DeploymentState::Ready, DeploymentState::Queued)
    );
    story.turn();
    assert_eq!(
        (story.deployment(5).state, story.replicas()),
        (DeploymentState::Deploying, vec![(3, 1, false), (5, 1, false)])
    );
    story.world.come_to_rest();
    assert_eq!((story.api().deployment, story.replicas()), (5, vec![(5, 1, false)]));
}

#[test]
fn who_changes_his_mind_has_what_he_had() {
    let mut story = Story::new(1);
    let before = story.api().clone();
    story.up(v2(1, Rollout::default()));
    story.up(service("v1", 1, &["default"]));
    story.world.come_to_rest();
    assert_eq!((story.api(), story.replicas()), (&before, vec![(1, 1, false)]));
    // What failed is not tried again by itself, only when it is asked for.
    story.up(v2(1, Rollout::default()));
    assert_eq!(story.deployment(3).state, DeploymentState::Deploying);
    story.fall_ill(3, ReplicaState::Failed);
    story.world.come_to_rest();
    story.up(v2(1, Rollout::default()));
    assert_eq!(story.replicas(), [(1, 1, false)]);
    story.up(ServiceSpec { attempt: 1, ..v2(1, Rollout::default()) });
    story.world.come_to_rest();
    assert_eq!((story.api().deployment, story.replicas()), (4, vec![(4, 1, false)]));
}

#[test]
fn the_first_version_serves_as_soon_as_it_can_and_may_turn_out_well_late() {
    let mut story = Story { world: World::new(pools()), key: environment("production") };
    story.up(service("v1", 2, &["default"]));
    assert_eq!((story.serving().len(), story.deployment(1).state), (2, DeploymentState::Deploying));
    story.fall_ill(1, ReplicaState::Failed);
    assert_eq!((story.serving().len(), story.deployment(1).state), (2, DeploymentState::Failed));
    story.turn();
    assert_eq!((story.deployment(1).state, story.deployment(1).reason.as_ref()), (DeploymentState::Ready, None));
}

#[test]
fn a_release_task_runs_before_anything_of_its_version() {
    let release =
        |image: &str| ServiceSpec { release: Some(vec!["migrate".into()]), ..service(image, 1, &["default"]) };
    let mut story = Story { world: World::new(pools()), key: environment("production") };
    story.up(release("v1"));
    assert_eq!(story.replicas(), [(1, 0, false)]);
    assert_eq!(story.serving(), []);
    story.turn();
    assert_eq!(story.replicas(), [(1, 0, false)], "it runs, and has not ended");
    story.fall_ill(1, ReplicaState::Exited);
    assert_eq!(story.replicas(), [(1, 0, true), (1, 1, false)]);
    story.turn();
    assert_eq!((story.replicas(), story.deployment(1).state), (vec![(1, 1, false)], DeploymentState::Ready));
    story.up(release("v2"));
    assert_eq!(story.replicas(), [(1, 1, false), (2, 0, false)]);
    story.fall_ill(2, ReplicaState::Failed);
    assert!(story.deployment(2).reason.as_ref().unwrap().starts_with("its release task failed"));
    assert_eq!((story.replicas(), story.serving()), (vec![(1, 1, false), (2, 0, true)], vec![(1, 1)]));
}

#[test]
fn no_room_for_a_new_version_fails_it_and_nothing_else() {
    let mut story = Story { world: World::new(tight_pools()), key: environment("production") };
    story.up(service("v1", 300, &["default"]));
    story.world.come_to_rest();
    story.up(service("v2", 300, &["default"]));
    assert_eq!((story.deployment(2).state, story.serving().len()), (DeploymentState::Failed, 300));
    assert!(story.deployment(2).reason.as_ref().unwrap().contains("10.208.0.0/23"));
    assert!(story.world.state.conditions.is_empty());
    // Nothing was ever assigned to it, so that no address has to rest.
    assert_eq!(story.replicas().len(), 300);
    assert!(story.world.state.addresses.values().all(|pool| pool.value.leaving.is_empty()));
}
