use std::collections::BTreeSet;

use super::*;
use crate::store::Rest;
use patchfleet_domain::{AgentState, AttemptNumber, Capability, Priority, SecurityLevel, TaskId};
use proptest::prelude::*;

const TYPES: [&str; 3] = ["backend", "frontend", "general"];
const SKILLS: [&str; 3] = ["python", "react", "docker"];

/// A task that waits in a lane for so many seconds.
pub(in crate::scheduler) fn task(agent_type: &str, repository: &str, waited: u64) -> QueuedTask {
    QueuedTask {
        id: TaskId::new(),
        attempt: AttemptNumber(0),
        priority: Priority::NORMAL,
        repository: repository.parse().unwrap(),
        requirement: Arc::new(Requirement {
            agent_type: agent_type.parse().unwrap(),
            capabilities: BTreeSet::new(),
            security_level: SecurityLevel::Internal,
        }),
        waited: Duration::from_secs(waited),
        rests: Vec::new(),
    }
}

fn wanting(mut task: QueuedTask, skill: &str) -> QueuedTask {
    Arc::make_mut(&mut task.requirement).capabilities = [skill.into()].into();
    task
}

fn view(id: &str, agent_type: &str, free_slots: u32) -> AgentView {
    AgentView {
        agent: Agent {
            id: id.parse().unwrap(),
            agent_type: agent_type.parse().unwrap(),
            capabilities: BTreeSet::new(),
            clearance: SecurityLevel::Internal,
            slots: 4,
            free_slots,
            state: AgentState::Idle,
            reason: None,
            load: 0.0,
            warm_repositories: BTreeSet::new(),
            version: "1".to_owned(),
        },
        experience: Arc::default(),
    }
}

fn chosen(task: &QueuedTask, agents: &[AgentView]) -> Option<String> {
    let queue = std::slice::from_ref(task);
    let grants = plan(
        (queue, &mut Room::default()),
        agents,
        &Turns::default(),
        Limits::default(),
    );
    grants.first().map(|grant| grant.agent.to_string())
}

fn order(queue: &[QueuedTask], turns: &Turns) -> Vec<TaskId> {
    in_order(queue, turns).iter().map(|task| task.id).collect()
}

#[test]
fn type_beats_capability_beats_general() {
    let task = wanting(task("backend", "a/a", 0), "python");
    let mut skilled = view("skilled", "devops", 4);
    skilled.agent.capabilities = [Capability::from("python")].into();
    let mut busy = view("busy", "backend", 1);
    busy.agent.load = 1.0;
    let general = view("general", "general", 4);
    let all = [general, skilled, busy];
    assert_eq!(chosen(&task, &all).as_deref(), Some("busy"));
    assert_eq!(chosen(&task, &all[..2]).as_deref(), Some("skilled"));
    assert_eq!(chosen(&task, &all[..1]).as_deref(), Some("general"));
    assert_eq!(chosen(&task, &[view("f", "frontend", 4)]), None);
}

#[test]
fn a_general_agent_helps_out_and_after_a_minute_the_history_says_so() {
    let full = view("b", "backend", 0);
    let agents = [full, view("g", "general", 4)];
    let queue = [task("backend", "a/a", 59), task("backend", "a/a", 60)];
    let grants = plan(
        (&queue, &mut Room::default()),
        &agents,
        &Turns::default(),
        Limits::default(),
    );
    let notes: Vec<_> = grants.iter().map(|grant| grant.note.as_deref()).collect();
    let note = "no backend agent had room for 60 s: fell back to the general agent g";
    assert_eq!(notes, [Some(note), None]);

    let general_task = [task("general", "a/a", 600)];
    let grants = plan(
        (&general_task, &mut Room::default()),
        &agents,
        &Turns::default(),
        Limits::default(),
    );
    assert_eq!(grants[0].note, None, "general is what was wanted");
}

#[test]
fn among_equals_the_better_placed_agent_is_chosen() {
    let task = task("backend", "acme/orders", 0);
    let plain = view("a", "backend", 2);
    let better = |change: fn(&mut AgentView)| {
        let mut other = view("b", "backend", 2);
        change(&mut other);
        chosen(&task, &[plain.clone(), other]).unwrap()
    };
    assert_eq!(better(|_| ()), "a", "the first by name among equals");
    assert_eq!(better(|it| it.agent.free_slots = 4), "b");
    assert_eq!(better(|it| it.agent.load = 0.5), "a");
    assert_eq!(better(|it| it.agent.load = f32::NAN), "a");
    let warm = |it: &mut AgentView| {
        it.agent.warm_repositories = ["acme/orders".parse().unwrap()].into();
    };
    assert_eq!(better(warm), "b");
    assert_eq!(better(|it| learn(it, true)), "b");
    let mut failed = view("0", "backend", 2);
    learn(&mut failed, false);
    assert_eq!(chosen(&task, &[failed, plain.clone()]).unwrap(), "a");
}

fn learn(view: &mut AgentView, succeeded: bool) {
    let topic = Topic {
        agent_type: "backend".parse().unwrap(),
        repository: "acme/orders".parse().unwrap(),
    };
    Arc::make_mut(&mut view.experience).record(topic, succeeded);
}

#[test]
fn who_gave_a_task_back_gets_it_again_after_a_rest_and_when_nobody_else_takes_it() {
    let mut task = task("backend", "a/a", 0);
    let specialist = view("s", "backend", 4);
    let general = view("g", "general", 1);
    let both = [specialist.clone(), general];
    let returned = |left| {
        vec![Rest {
            agent: "s".parse().unwrap(),
            left: Duration::from_secs(left),
        }]
    };
    task.rests = returned(1);
    assert_eq!(chosen(&task, &both).unwrap(), "g");
    assert_eq!(chosen(&task, &both[..1]), None, "it rests");
    task.rests = returned(0);
    assert_eq!(chosen(&task, &both).unwrap(), "g");
    assert_eq!(chosen(&task, &[specialist]).unwrap(), "s");
}

#[test]
fn urgent_first_then_repositories_in_turn_then_age() {
    let mut urgent = task("backend", "z/z", 0);
    urgent.priority = Priority::HIGH;
    let (a1, a2) = (task("backend", "a/a", 30), task("backend", "a/a", 20));
    let b1 = task("backend", "b/b", 10);
    let queue = [a2.clone(), b1.clone(), a1.clone(), urgent.clone()];
    let mut turns = Turns::default();
    assert_eq!(order(&queue, &turns), [urgent.id, a1.id, b1.id, a2.id]);
    turns.serve(&a1.repository);
    assert_eq!(order(&queue, &turns), [urgent.id, b1.id, a1.id, a2.id]);

    let aged = task("backend", "c/c", 40 * 60);
    assert_eq!(order(&[urgent.clone(), aged.clone()], &turns)[0], aged.id);
}

#[test]
fn a_repository_with_a_thousand_old_tasks_keeps_no_other_waiting() {
    let bulk: Vec<_> = (0..1000)
        .map(|n| task("backend", "a/bulk", 36_000 + n))
        .collect();
    let (fresh, next) = (task("backend", "b/b", 1), task("backend", "b/b", 0));
    let queue = [bulk, vec![next.clone(), fresh.clone()]].concat();
    let mut turns = Turns::default();
    turns.serve(&queue[0].repository);
    let order = order(&queue, &turns);
    assert_eq!((order[0], order[2]), (fresh.id, next.id));
}

#[tokio::test(start_paused = true)]
async fn a_repository_ages_while_it_waits_for_its_turn() {
    let mut low = task("backend", "a/low", 36_000);
    low.priority = Priority::LOW;
    let mut turns = Turns::default();
    turns.serve(&low.repository);
    let rival = task("backend", "b/b", 0);
    let queue = [low.clone(), rival.clone()];
    assert_eq!(order(&queue, &turns), [rival.id, low.id]);
    tokio::time::advance(AGING * 3).await;
    assert_eq!(order(&queue, &turns), [low.id, rival.id]);
}

#[test]
fn within_a_repository_an_old_task_goes_before_a_new_one_of_higher_priority() {
    let mut old = task("backend", "a/a", 36_000);
    old.priority = Priority::LOW;
    let mut new = task("backend", "a/a", 0);
    new.priority = Priority::HIGH;
    let rival = task("backend", "b/b", 0);
    let mut turns = Turns::default();
    turns.serve(&old.repository);
    // The repository's turns are as urgent as its most urgent task, which is not kept waiting.
    let queue = [new.clone(), rival.clone(), old.clone()];
    assert_eq!(order(&queue, &turns), [old.id, new.id, rival.id]);
}

fn any_view() -> impl Strategy<Value = AgentView> {
    let parts = (
        prop::sample::select(&TYPES),
        prop::sample::subsequence(&SKILLS, 0..=3),
        prop::sample::select(SecurityLevel::ALL),
        prop::sample::select(AgentState::ALL),
        (0..4u32, any::<f32>()),
    );
    parts.prop_map(
        |(agent_type, skills, clearance, state, (free_slots, load))| {
            let mut view = view("x", agent_type, free_slots);
            view.agent.capabilities = skills.into_iter().map(Capability::from).collect();
            view.agent.clearance = clearance;
            view.agent.state = state;
            view.agent.load = load;
            view
        },
    )
}

fn any_views() -> impl Strategy<Value = Vec<AgentView>> {
    prop::collection::vec(any_view(), 0..6).prop_map(|mut views| {
        for (index, view) in views.iter_mut().enumerate() {
            view.agent.id = format!("agent-{index}").parse().unwrap();
        }
        views
    })
}

fn any_task() -> impl Strategy<Value = QueuedTask> {
    let parts = (
        prop::sample::select(&TYPES),
        prop::sample::subsequence(&SKILLS, 0..=2),
        prop::sample::select(SecurityLevel::ALL),
        1..=10u8,
        (0..3u8, 0..4000u64),
    );
    parts.prop_map(
        |(agent_type, skills, level, priority, (repository, waited))| {
            let mut task = task(agent_type, &format!("acme/r{repository}"), waited);
            let wanted = Arc::make_mut(&mut task.requirement);
            wanted.capabilities = skills.into_iter().map(Capability::from).collect();
            wanted.security_level = level;
            task.priority = priority.try_into().unwrap();
            task
        },
    )
}

proptest! {
    #[test]
    fn grants_respect_slots_and_acceptance(
        queue in prop::collection::vec(any_task(), 0..20),
        agents in any_views(),
    ) {
        let grants = plan((&queue, &mut Room::default()), &agents, &Turns::default(), Limits::default());
        let mut given: BTreeMap<&AgentId, u32> = BTreeMap::new();
        let mut tasks = BTreeSet::new();
        for grant in &grants {
            let view = agents.iter().find(|view| view.agent.id == grant.agent).unwrap();
            prop_assert!(view.agent.accepts(&grant.task.requirement));
            prop_assert!(tasks.insert(grant.task.id), "granted twice");
            let count = given.entry(&grant.agent).or_default();
            *count += 1;
            prop_assert!(*count <= view.agent.free_slots);
        }
    }

    #[test]
    fn nothing_is_left_that_somebody_with_room_would_accept(
        queue in prop::collection::vec(any_task(), 0..20),
        agents in any_views(),
    ) {
        let grants = plan((&queue, &mut Room::default()), &agents, &Turns::default(), Limits::default());
        for task in queue.iter().filter(|task| !grants.iter().any(|it| it.task.id == task.id)) {
            for view in &agents {
                let given = grants.iter().filter(|it| it.agent == view.agent.id).count();
                let mut left = view.agent.clone();
                left.free_slots -= u32::try_from(given).unwrap();
                prop_assert!(!left.accepts(&task.requirement));
            }
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(
        (queue, shuffled) in prop::collection::vec(any_task(), 0..12)
            .prop_flat_map(|queue| (Just(queue.clone()), Just(queue).prop_shuffle())),
        (agents, mixed) in any_views()
            .prop_flat_map(|agents| (Just(agents.clone()), Just(agents).prop_shuffle())),
    ) {
        let turns = Turns::default();
        let one = plan((&queue, &mut Room::default()), &agents, &turns, Limits::default());
        let other = plan((&shuffled, &mut Room::default()), &mixed, &turns, Limits::default());
        prop_assert_eq!(one, other);
    }

    #[test]
    fn no_repository_starves_behind_a_longer_queue(
        lengths in prop::collection::vec(1..30usize, 2..6),
        slots in 1..3u32,
    ) {
        let mut queue = Vec::new();
        for (repository, length) in lengths.iter().enumerate() {
            for _ in 0..*length {
                queue.push(task("backend", &format!("acme/r{repository}"), 0));
            }
        }
        let mut turns = Turns::default();
        let mut served: BTreeSet<RepositoryName> = BTreeSet::new();
        let rounds = lengths.len().div_ceil(slots as usize);
        for _ in 0..rounds {
            let agents = [view("b", "backend", slots)];
            let grants = plan((&queue, &mut Room::default()), &agents, &turns, Limits::default());
            let done: Vec<TaskId> = grants.iter().map(|grant| grant.task.id).collect();
            for grant in &grants {
                turns.serve(&grant.task.repository);
                served.insert(grant.task.repository.clone());
            }
            queue.retain(|task| !done.contains(&task.id));
        }
        prop_assert_eq!(served.len(), lengths.len(), "each repository has its turn in one round");
    }
}
