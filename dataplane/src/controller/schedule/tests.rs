use super::*;
use crate::model::rollout::Millis;
use crate::model::{EnvironmentKey, ServiceSpec};

const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;
/// 2026-09-21T00:00:00Z.
const MIDNIGHT: Millis = 1_789_948_800_000;

/// One service, and what its controller remembers.
struct Story {
    key: ServiceKey,
    deployments: BTreeMap<u32, Deployment>,
    serving: u32,
    runs: Option<Runs>,
    statuses: BTreeMap<ReplicaKey, ReplicaStatus>,
    replicas: BTreeSet<(u32, u32)>,
    /// The node that they are on is lost.
    lost: Option<String>,
}

impl Story {
    fn new(schedule: &str) -> Self {
        let environment = EnvironmentKey { project: "shop".into(), environment: "production".into() };
        let key = ServiceKey { environment, service: "nightly".into() };
        let (runs, statuses, replicas, lost) = Default::default();
        let mut story = Self { key, deployments: BTreeMap::new(), serving: 0, runs, statuses, replicas, lost };
        story.deploy(Some(schedule), "backup:1");
        story
    }

    /// The next version, which serves at once.
    fn deploy(&mut self, schedule: Option<&str>, image: &str) {
        self.serving += 1;
        let spec = ServiceSpec { schedule: schedule.map(str::to_owned), ..ServiceSpec::of_image(image) };
        let deployment = Deployment::new(self.key.deployment(self.serving), spec, 0);
        self.deployments.insert(self.serving, deployment);
    }

    /// Decides at that time, as often as there is something to decide.
    fn at(&mut self, now: Millis) -> &Runs {
        let before = self.decide(now);
        assert_eq!(self.decide(now), before, "once decided, it stays so");
        self.runs.as_ref().unwrap()
    }

    fn decide(&mut self, now: Millis) -> Option<Runs> {
        let status = |key: &ReplicaKey| self.statuses.get(key);
        let lost = |_: &ReplicaKey| self.lost.as_deref();
        let situation = Situation {
            key: &self.key,
            deployments: &self.deployments,
            serving: self.serving,
            runs: self.runs.as_ref(),
            replicas: self.replicas.clone(),
            status: &status,
            lost: &lost,
            now,
        };
        let runs = decide(&situation);
        self.replicas = runs.iter().flat_map(wanted).collect();
        self.runs.clone_from(&runs);
        runs
    }

    /// The node tells how the run that goes on fares.
    fn tell(&mut self, change: impl FnOnce(&mut ReplicaStatus)) {
        let (deployment, number) = *self.replicas.first().expect("no run goes on");
        let key = self.key.replica(deployment, number);
        let mut status = ReplicaStatus::new(key.clone(), "n1");
        change(&mut status);
        self.statuses.insert(key, status);
    }

    fn succeed(&mut self) {
        self.tell(|status| (status.state, status.exit) = (ReplicaState::Exited, Some(0)));
    }

    fn next(&self) -> Option<Millis> {
        Some(self.runs.as_ref()?.next.as_ref()?.at)
    }

    /// Number, deployment, due and state of those that are remembered.
    fn history(&self) -> Vec<(u32, u32, Millis, RunState)> {
        let runs = self.runs.iter().flat_map(|runs| &runs.runs);
        runs.map(|run| (run.number, run.deployment, run.due - MIDNIGHT, run.state)).collect()
    }
}

use RunState::{Failed, Running, Skipped, Succeeded};

#[test]
fn a_run_begins_when_it_is_due_and_not_before() {
    let mut story = Story::new("30 4 * * *");
    story.at(MIDNIGHT);
    assert_eq!((story.next(), story.history()), (Some(MIDNIGHT + 4 * HOUR + 30 * MINUTE), vec![]));
    let due = MIDNIGHT + 4 * HOUR + 30 * MINUTE;
    story.at(due - 1);
    assert_eq!(story.history(), []);
    story.at(due);
    assert_eq!(story.history(), [(1, 1, due - MIDNIGHT, Running)]);
    assert_eq!((story.next(), story.replicas.clone()), (Some(due + 24 * HOUR), [(1, 1)].into()));
    story.succeed();
    let run = story.at(due + 7_000).runs[0].clone();
    assert_eq!((run.state, run.status, run.started, run.ended), (Succeeded, Some(0), Some(due), Some(due + 7_000)));
    assert_eq!((story.replicas.len(), run.reason), (0, None));
}

#[test]
fn a_service_without_a_schedule_has_no_runs() {
    let mut story = Story::new("@daily");
    story.deployments.clear();
    story.serving = 0;
    story.deploy(None, "web:1");
    assert_eq!(story.decide(MIDNIGHT), None);
}

#[test]
fn what_fails_says_why() {
    let exited: fn(&mut ReplicaStatus) = |s| (s.state, s.exit) = (ReplicaState::Failed, Some(3));
    let unmade: fn(&mut ReplicaStatus) =
        |s| (s.state, s.attempts, s.message) = (ReplicaState::Failed, ATTEMPTS, Some("no such image".into()));
    let failures = [(exited, Some(3), "ended with status 3"), (unmade, None, "no such image")];
    for (tell, status, reason) in failures {
        let mut story = Story::new("@hourly");
        story.at(MIDNIGHT);
        story.at(MIDNIGHT + HOUR);
        story.tell(tell);
        let run = story.at(MIDNIGHT + HOUR + 1).runs[0].clone();
        assert_eq!((run.state, run.status, run.reason.as_deref()), (Failed, status, Some(reason)));
    }
}

#[test]
fn what_may_yet_end_well_goes_on() {
    let mut story = Story::new("@hourly");
    story.at(MIDNIGHT);
    story.at(MIDNIGHT + HOUR);
    for state in [ReplicaState::Pending, ReplicaState::Pulling, ReplicaState::Starting, ReplicaState::Running] {
        story.tell(|status| status.state = state);
        story.at(MIDNIGHT + HOUR + 1);
        assert_eq!(story.replicas.len(), 1, "{state}");
    }
    // Its image may come, Docker starts it again, or a person lets it go on.
    for attempts in [0, ATTEMPTS - 1] {
        story.tell(|status| (status.state, status.attempts) = (ReplicaState::Failed, attempts));
        story.at(MIDNIGHT + HOUR + 1);
        assert_eq!(story.replicas.len(), 1, "{attempts} attempts");
    }
}

#[test]
fn there_are_never_two_at_once_and_what_is_left_out_is_remembered() {
    let mut story = Story::new("@hourly");
    for hour in 0..=4 {
        story.at(MIDNIGHT + hour * HOUR);
    }
    assert_eq!(story.history(), [(1, 1, HOUR, Running), (2, 1, 4 * HOUR, Skipped)]);
    let skipped = &story.runs.as_ref().unwrap().runs[1];
    assert_eq!((skipped.times, skipped.reason.as_deref()), (3, Some("run 1 had not ended, 3 times")));
    assert_eq!((skipped.started, story.replicas.len()), (None, 1));
    story.succeed();
    for hour in [5, 6] {
        story.at(MIDNIGHT + hour * HOUR);
    }
    // The one that goes on has another before it.
    let history = [(3, 1, 5 * HOUR, Running), (4, 1, 6 * HOUR, Skipped)];
    assert_eq!(story.history()[2..], history);
}

#[test]
fn a_run_on_a_lost_node_has_failed_and_none_begins_beside_it() {
    let mut story = Story::new("@hourly");
    story.at(MIDNIGHT);
    story.at(MIDNIGHT + HOUR);
    let there = story.replicas.clone();
    story.lost = Some("n2".into());
    let run = story.at(MIDNIGHT + HOUR + MINUTE).runs[0].clone();
    assert_eq!((run.state, run.lost.as_deref(), run.ended), (Failed, Some("n2"), Some(MIDNIGHT + HOUR + MINUTE)));
    assert!(run.reason.unwrap().starts_with("node n2 was lost"));
    for hour in 2..=30 {
        story.replicas.clone_from(&there);
        story.at(MIDNIGHT + hour * HOUR);
    }
    // Back or not: as long as it has a place there it may go on.
    story.lost = None;
    story.replicas.clone_from(&there);
    story.at(MIDNIGHT + 31 * HOUR);
    assert_eq!(story.history(), [(1, 1, HOUR, Failed), (2, 1, 31 * HOUR, Skipped)]);
    let reason = story.runs.as_ref().unwrap().runs[1].reason.clone().unwrap();
    assert!(reason.starts_with("run 1 may still go on on node n2") && reason.ends_with("30 times"), "{reason}");
    story.replicas.clear();
    story.at(MIDNIGHT + 32 * HOUR);
    assert_eq!(story.history()[2..], [(3, 1, 32 * HOUR, Running)]);
}

#[test]
fn a_run_that_had_ended_before_its_node_was_lost_has_ended() {
    let mut story = Story::new("@hourly");
    story.at(MIDNIGHT);
    story.at(MIDNIGHT + HOUR);
    story.succeed();
    story.lost = Some("n2".into());
    let run = story.at(MIDNIGHT + HOUR + MINUTE).runs[0].clone();
    assert_eq!((run.state, run.lost), (Succeeded, None));
}

#[test]
fn what_came_due_while_nobody_was_there_is_made_up_once() {
    let mut story = Story::new("@hourly");
    story.at(MIDNIGHT);
    story.at(MIDNIGHT + 100 * HOUR + MINUTE);
    assert_eq!(story.history(), [(1, 1, HOUR, Running)]);
    assert_eq!(story.next(), Some(MIDNIGHT + 101 * HOUR));
}

#[test]
fn a_clock_that_is_put_back_repeats_nothing_unless_it_was_wrong_by_hours() {
    let mut story = Story::new("30 4 * * *");
    let due = MIDNIGHT + 4 * HOUR + 30 * MINUTE;
    story.at(MIDNIGHT);
    story.at(due);
    story.succeed();
    story.at(due + MINUTE);
    for back in [due - 1, due, due - BACK + MINUTE] {
        story.at(back);
        assert_eq!((story.history().len(), story.next()), (1, Some(due + 24 * HOUR)), "{back}");
    }
    // It was years ahead: what was due then would never come.
    let mut story = Story::new("30 4 * * *");
    story.at(MIDNIGHT + 5 * 365 * 24 * HOUR);
    story.at(MIDNIGHT);
    assert_eq!((story.history().len(), story.next()), (0, Some(due)));
}

#[test]
fn a_clock_that_is_put_forward_is_an_absence() {
    let mut story = Story::new("0 * * * *");
    story.at(MIDNIGHT + 1);
    story.at(MIDNIGHT + 6 * HOUR + 1);
    assert_eq!((story.history().len(), story.next()), (1, Some(MIDNIGHT + 7 * HOUR)));
}

#[test]
fn a_changed_schedule_counts_from_its_change() {
    let mut story = Story::new("@hourly");
    story.at(MIDNIGHT);
    story.deploy(Some("15 * * * *"), "backup:1");
    // The old one was due a minute ago, which nobody wants any more.
    story.at(MIDNIGHT + HOUR + MINUTE);
    assert_eq!((story.history(), story.next()), (vec![], Some(MIDNIGHT + HOUR + 15 * MINUTE)));
}

#[test]
fn another_version_is_what_the_next_run_is_of_and_the_one_that_goes_on_goes_on() {
    let mut story = Story::new("@hourly");
    story.at(MIDNIGHT);
    story.at(MIDNIGHT + HOUR);
    story.deploy(Some("@hourly"), "backup:2");
    story.at(MIDNIGHT + HOUR + MINUTE);
    assert_eq!((story.replicas.clone(), story.next()), ([(1, 1)].into(), Some(MIDNIGHT + 2 * HOUR)));
    story.at(MIDNIGHT + 2 * HOUR);
    story.succeed();
    story.at(MIDNIGHT + 3 * HOUR);
    let history = [(1, 1, HOUR, Succeeded), (2, 2, 2 * HOUR, Skipped), (3, 2, 3 * HOUR, Running)];
    assert_eq!(story.history(), history);
    // What is no longer there is nobody's run.
    story.deployments.remove(&2);
    story.serving = 0;
    story.at(MIDNIGHT + 3 * HOUR + 1);
    assert_eq!((story.history()[2].3, story.replicas.len()), (Failed, 0));
}

#[test]
fn what_has_no_replicas_or_no_schedule_any_more_begins_no_run() {
    let mut story = Story::new("@hourly");
    story.at(MIDNIGHT);
    story.deployments.get_mut(&1).unwrap().spec.replicas = 0;
    story.at(MIDNIGHT + 5 * HOUR);
    assert_eq!((story.history(), story.next()), (vec![], None));
    story.deployments.get_mut(&1).unwrap().spec.replicas = 1;
    story.at(MIDNIGHT + 5 * HOUR + MINUTE);
    assert_eq!((story.history(), story.next()), (vec![], Some(MIDNIGHT + 6 * HOUR)), "nothing is made up");
    story.at(MIDNIGHT + 6 * HOUR);
    story.deploy(None, "web:1");
    story.at(MIDNIGHT + 9 * HOUR);
    assert_eq!((story.history(), story.next()), (vec![(1, 1, 6 * HOUR, Running)], None));
}

#[test]
fn a_version_whose_release_task_has_not_ended_does_not_run() {
    let mut story = Story::new("@hourly");
    story.deployments.get_mut(&1).unwrap().released = false;
    assert_eq!(story.decide(MIDNIGHT), None);
}

#[test]
fn a_store_from_before_learns_of_the_runs_that_are_there() {
    let mut story = Story::new("@hourly");
    story.at(MIDNIGHT);
    story.replicas = [(1, 7)].into();
    story.at(MIDNIGHT + MINUTE);
    assert_eq!(story.history(), [(7, 1, MINUTE, Running)]);
    story.succeed();
    story.at(MIDNIGHT + HOUR);
    assert_eq!(story.history()[1].0, 8);
}
