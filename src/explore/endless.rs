//! Infinite schedules that never reach a goal: the end of the test, or an `eventually`. They show
//! starvation, and loops that nothing leaves.
//!
//! Such a schedule goes round in a strongly connected component of the graph of configurations. It
//! counts if it is fair: an agent that could take a step at every moment takes one at some time,
//! and every outcome that a task could have again and again comes at some time. So the fault is not
//! due to an unlikely schedule that leaves some agent out. If the end becomes unreachable, there is
//! a fair component too: the last one, which no schedule leaves.
//!
//! For the end of the test, the reduced graph suffices. A fair schedule takes a step of each ample
//! set on its way at some time, because the steps of other agents leave these steps possible. So
//! its steps can be reordered into a schedule of the reduced graph. On each cycle of the reduced
//! graph, some configuration takes all its steps, so no step is put off for ever. Fairness always
//! takes all possible steps into account.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::model::observe::{Violation, holds_at, waits_of};
use crate::model::part::ByHash;
use crate::model::{Evaluator, Model, Program, Stop};
use crate::syntax::tree::PropertyKind;

use super::schedule::follow;
use super::{Found, Limits, Rounds, memory};

/// A goal that every fair schedule must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The end of the main instance.
    End,
    /// A configuration in which the property with this number holds.
    Property(usize),
}

/// A step between configurations.
#[derive(Clone, Copy)]
struct Edge {
    to: u32,
    /// The agent that takes the step.
    agent: u32,
    /// The outcome of a task, if several are possible; otherwise `NO_CHOICE`.
    choice: u32,
}

const NO_CHOICE: u32 = u32::MAX;

/// An infinite schedule, if there is one, and whether the whole graph was searched.
pub type Turns<S> = (Option<Found<S>>, bool);

/// A configuration in the graph.
#[derive(Default)]
struct Node {
    edges: Vec<Edge>,
    /// All possible steps, each as agent and choice, if `edges` has only an ample set.
    others: Vec<(u32, u32)>,
}

impl Node {
    /// Returns all possible steps, each as agent and choice.
    fn possible(&self) -> impl Iterator<Item = (u32, u32)> {
        let taken = self.edges.iter().map(|edge| (edge.agent, edge.choice));
        taken.chain(self.others.iter().copied())
    }
}

/// Configurations and the steps between them.
struct Graph {
    hashes: Vec<u128>,
    from: Vec<u32>,
    depths: Vec<u32>,
    nodes: Vec<Node>,
    /// For each goal, whether each configuration reaches it.
    good: Vec<Vec<bool>>,
}

/// Consecutive numbers for agents or choices, by their hashes.
#[derive(Default)]
struct Numbers(ByHash<u32>);

impl Numbers {
    fn of(&mut self, hash: u128) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(hash).or_insert(next)
    }
}

/// Returns the goals to check after a search that found cycles: each `eventually`, and the end of
/// the main instance if `to_the_end` is set and there are cycles before this end.
pub fn goals(program: &Program, rounds: Rounds, to_the_end: bool) -> Vec<Goal> {
    let mut goals = Vec::new();
    if rounds.before || rounds.after {
        let ends = program.properties.iter().enumerate();
        let ends = ends.filter(|(_, property)| property.kind == PropertyKind::Eventually);
        goals.extend(ends.map(|(at, _)| Goal::Property(at)));
    }
    if rounds.before && to_the_end {
        goals.push(Goal::End);
    }
    goals
}

/// Searches for a fair infinite schedule that never reaches one of the goals. Finds none if the
/// graph exceeds the limits; the flag says whether the whole graph was searched.
pub fn endless<M: Model>(
    model: &M,
    program: &Program,
    limits: &Limits,
    goals: &[Goal],
) -> Result<Turns<M::Step>, Stop> {
    if goals.is_empty() {
        return Ok((None, true));
    }
    let mut evaluator = Evaluator::new(program)?;
    let Some(graph) = build(model, &mut evaluator, goals, limits)? else { return Ok((None, false)) };
    for (number, goal) in goals.iter().enumerate() {
        let bad: Vec<bool> = graph.good[number].iter().map(|good| !good).collect();
        let Some(part) = graph.fair_part(bad) else { continue };
        let (path, round) = graph.way(&part);
        let hashes = |way: Vec<u32>| -> Vec<u128> {
            way.iter().skip(1).map(|at| graph.hashes[*at as usize]).collect()
        };
        let initial = model.initial(&mut evaluator)?;
        let (schedule, config) = follow(model, &mut evaluator, initial, hashes(path))?;
        let violation = match goal {
            Goal::Property(at) => Violation::Endless { at: *at },
            Goal::End => Violation::NeverEnds {
                stuck: !graph.reaches(&part, &graph.good[number]),
                waits: waits_of(model, &config, &program.main),
            },
        };
        let (cycle, _) = follow(model, &mut evaluator, config, hashes(round))?;
        return Ok((Some(Found { violation, schedule, cycle }), true));
    }
    Ok((None, true))
}

/// A graph under construction.
struct Builder<'b, M: Model> {
    model: &'b M,
    goals: &'b [Goal],
    /// Whether ample sets suffice. They do not for an `eventually`, which may see the order of
    /// steps.
    reduced: bool,
    graph: Graph,
    numbers: ByHash<u32>,
    agents: Numbers,
    choices: Numbers,
    waiting: VecDeque<M::Config>,
}

fn build<M: Model>(
    model: &M,
    evaluator: &mut Evaluator<'_>,
    goals: &[Goal],
    limits: &Limits,
) -> Result<Option<Graph>, Stop> {
    let before = memory::resident();
    let initial = model.initial(evaluator)?;
    let first = model.fingerprint(&initial);
    let graph = Graph {
        hashes: vec![first],
        from: vec![0],
        depths: vec![0],
        nodes: Vec::new(),
        good: vec![Vec::new(); goals.len()],
    };
    let mut builder = Builder {
        model,
        goals,
        reduced: limits.reduced && goals.iter().all(|goal| *goal == Goal::End),
        graph,
        numbers: ByHash::from_iter([(first, 0)]),
        agents: Numbers::default(),
        choices: Numbers::default(),
        waiting: VecDeque::from([initial]),
    };
    while let Some(config) = builder.waiting.pop_front() {
        builder.take(evaluator, &config)?;
        let count = builder.graph.hashes.len() as u64;
        if count > limits.configurations || count > u64::from(u32::MAX - 1) {
            return Ok(None);
        }
        if builder.graph.nodes.len().is_multiple_of(256)
            && limits.are_reached(memory::resident().saturating_sub(before))
        {
            return Ok(None);
        }
    }
    Ok(Some(builder.graph))
}

impl<M: Model> Builder<'_, M> {
    /// Adds the next configuration to the graph, with its steps.
    fn take(&mut self, evaluator: &mut Evaluator<'_>, config: &M::Config) -> Result<(), Stop> {
        let at = self.graph.nodes.len();
        let mut done = true;
        for (number, goal) in self.goals.iter().enumerate() {
            let good = match goal {
                Goal::End => self.model.has_ended(config, &evaluator.program.main),
                Goal::Property(end) => holds_at(self.model, evaluator, config, *end)?,
            };
            self.graph.good[number].push(good);
            done &= good && *goal == Goal::End;
        }
        let mut node = Node::default();
        if done {
            // An ended configuration needs no steps: the goal stays reached.
            self.graph.nodes.push(node);
            return Ok(());
        }
        let steps = self.model.enabled(evaluator, config)?;
        let enough = match self.reduced {
            true => self.model.ample_set(evaluator, config)?,
            false => None,
        };
        let mut all = true;
        if let Some(enough) = enough {
            all = false;
            for (step, next) in enough {
                let to = self.reach(at, next);
                all |= self.graph.depths[to as usize] <= self.graph.depths[at];
                let (agent, choice) = self.of(config, &step);
                node.edges.push(Edge { to, agent, choice });
            }
            if !all {
                node.others = steps.iter().map(|step| self.of(config, step)).collect();
            }
        }
        if all {
            node.edges.clear();
            for step in &steps {
                let next = self.model.apply(evaluator, config, step)?;
                let to = self.reach(at, next);
                let (agent, choice) = self.of(config, step);
                node.edges.push(Edge { to, agent, choice });
            }
        }
        self.graph.nodes.push(node);
        Ok(())
    }

    /// Returns the agent and the choice of a step.
    fn of(&mut self, config: &M::Config, step: &M::Step) -> (u32, u32) {
        let choice = self.model.choice(config, step);
        let choice = choice.map_or(NO_CHOICE, |choice| self.choices.of(choice));
        (self.agents.of(self.model.agent(step)), choice)
    }

    /// Returns the number of a configuration that is reached from the one with number `from`.
    fn reach(&mut self, from: usize, next: M::Config) -> u32 {
        let hash = self.model.fingerprint(&next);
        let new = self.graph.hashes.len() as u32;
        let to = *self.numbers.entry(hash).or_insert(new);
        if to == new {
            self.graph.hashes.push(hash);
            self.graph.from.push(from as u32);
            self.graph.depths.push(self.graph.depths[from] + 1);
            self.waiting.push_back(next);
        }
        to
    }
}

impl Graph {
    /// Returns a strongly connected component, among the marked configurations, in which a fair
    /// schedule can stay.
    fn fair_part(&self, within: Vec<bool>) -> Option<Vec<u32>> {
        let mut tasks = vec![within];
        while let Some(within) = tasks.pop() {
            for part in self.parts(&within) {
                let inside: HashSet<u32> = part.iter().copied().collect();
                let inner = || {
                    part.iter()
                        .flat_map(|at| &self.nodes[*at as usize].edges)
                        .filter(|edge| inside.contains(&edge.to))
                };
                if inner().next().is_none() {
                    continue;
                }
                let taken: HashSet<u32> = inner().map(|edge| edge.agent).collect();
                let agents = |at: &u32| self.nodes[*at as usize].possible().map(|(agent, _)| agent).collect();
                let always: Option<HashSet<u32>> = part
                    .iter()
                    .map(agents)
                    .reduce(|a: HashSet<u32>, b| a.intersection(&b).copied().collect());
                if always.is_some_and(|always| always.iter().any(|agent| !taken.contains(agent))) {
                    // An agent could always take a step and never does. This holds in every part of
                    // the component.
                    continue;
                }
                let came: HashSet<u32> = inner().map(|edge| edge.choice).collect();
                let left_out = part
                    .iter()
                    .flat_map(|at| self.nodes[*at as usize].possible())
                    .find(|(_, choice)| *choice != NO_CHOICE && !came.contains(choice));
                match left_out {
                    None => return Some(part),
                    Some((_, choice)) => {
                        // A fair schedule may still stay where this choice is not possible.
                        let mut rest = vec![false; within.len()];
                        for at in &part {
                            let can = self.nodes[*at as usize].possible().any(|(_, other)| other == choice);
                            rest[*at as usize] = !can;
                        }
                        tasks.push(rest);
                    }
                }
            }
        }
        None
    }

    /// Returns the strongly connected components among the marked configurations (R. Tarjan,
    /// *Depth-first search and linear graph algorithms*, 1972), without recursion.
    fn parts(&self, within: &[bool]) -> Vec<Vec<u32>> {
        const NEW: u32 = u32::MAX;
        let count = self.hashes.len();
        let (mut index, mut low) = (vec![NEW; count], vec![0u32; count]);
        let mut on_stack = vec![false; count];
        let (mut stack, mut parts, mut next) = (Vec::new(), Vec::new(), 0);
        for root in 0..count {
            if !within[root] || index[root] != NEW {
                continue;
            }
            let mut open: Vec<(usize, usize)> = vec![(root, 0)];
            while let Some((at, edge)) = open.pop() {
                if edge == 0 {
                    index[at] = next;
                    low[at] = next;
                    next += 1;
                    stack.push(at as u32);
                    on_stack[at] = true;
                }
                match self.nodes[at].edges.get(edge) {
                    Some(edge_to) => {
                        let to = edge_to.to as usize;
                        open.push((at, edge + 1));
                        if !within[to] {
                            continue;
                        }
                        if index[to] == NEW {
                            open.push((to, 0));
                        } else if on_stack[to] {
                            low[at] = low[at].min(index[to]);
                        }
                    }
                    None => {
                        if let Some((parent, _)) = open.last() {
                            low[*parent] = low[*parent].min(low[at]);
                        }
                        if low[at] == index[at] {
                            let mut part = Vec::new();
                            while let Some(member) = stack.pop() {
                                on_stack[member as usize] = false;
                                part.push(member);
                                if member as usize == at {
                                    break;
                                }
                            }
                            parts.push(part);
                        }
                    }
                }
            }
        }
        // The component that is reached first comes first.
        parts.sort_by_key(|part| part.iter().min().copied());
        parts
    }

    /// Returns a path to a component, and a cycle in it that leaves no agent out.
    fn way(&self, part: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let inside: HashSet<u32> = part.iter().copied().collect();
        let start = part.iter().min().copied().unwrap_or(0);
        let mut path = vec![start];
        let mut at = start;
        while at != 0 {
            at = self.from[at as usize];
            path.push(at);
        }
        path.reverse();
        // On the cycle, each agent takes a step or has none in some configuration, and each choice
        // comes.
        let edges: Vec<(u32, Edge)> = part
            .iter()
            .flat_map(|at| self.nodes[*at as usize].edges.iter().map(|edge| (*at, *edge)))
            .filter(|(_, edge)| inside.contains(&edge.to))
            .collect();
        let mut round = vec![start];
        let mut done: HashSet<u32> = HashSet::new();
        let mut came: HashSet<u32> = HashSet::new();
        let mut all: Vec<u32> = edges.iter().map(|(_, edge)| edge.agent).collect();
        all.sort_unstable();
        all.dedup();
        let choices: HashSet<u32> =
            edges.iter().map(|(_, edge)| edge.choice).filter(|choice| *choice != NO_CHOICE).collect();
        for agent in all {
            let rests = |at: u32| self.nodes[at as usize].possible().all(|(other, _)| other != agent);
            if done.contains(&agent) || round.iter().any(|at| rests(*at)) {
                continue;
            }
            let from = round.last().copied().unwrap_or(start);
            if let Some(way) = self.shortest(from, &inside, &|at, edge| edge.agent == agent || rests(at)) {
                self.note(from, &way, &mut done, &mut came);
                round.extend(way);
            }
        }
        let mut choices: Vec<u32> = choices.into_iter().collect();
        choices.sort_unstable();
        for choice in choices {
            let from = round.last().copied().unwrap_or(start);
            if !came.contains(&choice)
                && let Some(way) = self.shortest(from, &inside, &|_, edge| edge.choice == choice)
            {
                self.note(from, &way, &mut done, &mut came);
                round.extend(way);
            }
        }
        let from = round.last().copied().unwrap_or(start);
        if (from != start || round.len() == 1)
            && let Some(way) = self.shortest(from, &inside, &|_, edge| edge.to == start)
        {
            round.extend(way);
        }
        (path, round)
    }

    /// Whether a path leads from a component to a marked configuration.
    fn reaches(&self, part: &[u32], marked: &[bool]) -> bool {
        let mut seen: HashSet<u32> = part.iter().copied().collect();
        let mut waiting: Vec<u32> = part.to_vec();
        while let Some(at) = waiting.pop() {
            if marked[at as usize] {
                return true;
            }
            for edge in &self.nodes[at as usize].edges {
                if seen.insert(edge.to) {
                    waiting.push(edge.to);
                }
            }
        }
        false
    }

    fn note(&self, mut from: u32, way: &[u32], done: &mut HashSet<u32>, came: &mut HashSet<u32>) {
        for to in way {
            if let Some(edge) = self.nodes[from as usize].edges.iter().find(|edge| edge.to == *to) {
                done.insert(edge.agent);
                came.insert(edge.choice);
            }
            from = *to;
        }
    }

    /// Returns the configurations after `from` on a shortest path inside a component, up to the
    /// target of a wanted edge.
    fn shortest(
        &self,
        from: u32,
        inside: &HashSet<u32>,
        wanted: &dyn Fn(u32, &Edge) -> bool,
    ) -> Option<Vec<u32>> {
        let mut before: HashMap<u32, u32> = HashMap::new();
        let mut waiting = VecDeque::from([from]);
        while let Some(at) = waiting.pop_front() {
            for edge in self.nodes[at as usize].edges.iter().filter(|edge| inside.contains(&edge.to)) {
                if wanted(at, edge) {
                    let mut way = vec![edge.to];
                    let mut back = at;
                    while back != from {
                        way.push(back);
                        back = *before.get(&back)?;
                    }
                    way.reverse();
                    return Some(way);
                }
                if edge.to != from && !before.contains_key(&edge.to) {
                    before.insert(edge.to, at);
                    waiting.push_back(edge.to);
                }
            }
        }
        None
    }
}
