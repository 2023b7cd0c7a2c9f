//! Schedules without an end in which a condition of the end never holds: starvation, and loops that nobody leaves.
//!
//! Such a schedule goes round in a strongly connected part of the graph of configurations. It counts if it is fair: a
//! participant that could take a step at every moment takes one at some time, and of what can come of a task again and
//! again, everything comes at some time. What is wrong is then no accident of an unlikely schedule that leaves somebody
//! out.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::model::observe::holds_at;
use crate::model::part::ByHash;
use crate::model::{Evaluator, Model, Program, Stop, Violation};
use crate::syntax::tree::PropertyKind;

use super::schedule::follow;
use super::{Found, Limits, memory};

/// A step between configurations.
#[derive(Clone, Copy)]
struct Edge {
    to: u32,
    /// Whose step it is.
    agent: u32,
    /// What came of a task, when several things can.
    choice: u32,
}

const NO_CHOICE: u32 = u32::MAX;

/// A schedule without an end, if there is one, and whether all was seen.
pub type Rounds<S> = (Option<Found<S>>, bool);

/// All configurations and the steps between them, without reduction.
struct Graph {
    hashes: Vec<u128>,
    from: Vec<u32>,
    edges: Vec<Vec<Edge>>,
    /// For each property of the end, where it holds.
    good: Vec<Vec<bool>>,
}

/// Looks for a fair schedule without an end in which a condition of the end never holds. None also when the graph is
/// larger than the limits; the flag says whether all was seen.
pub fn endless<M: Model>(model: &M, program: &Program, limits: &Limits) -> Result<Rounds<M::Step>, Stop> {
    let ends: Vec<usize> = (0..program.properties.len())
        .filter(|at| program.properties[*at].kind == PropertyKind::Eventually)
        .collect();
    if ends.is_empty() {
        return Ok((None, true));
    }
    let mut evaluator = Evaluator::new(program)?;
    let Some(graph) = build(model, &mut evaluator, &ends, limits)? else { return Ok((None, false)) };
    for (number, at) in ends.iter().enumerate() {
        let bad: Vec<bool> = graph.good[number].iter().map(|good| !good).collect();
        let Some(part) = graph.fair_part(bad) else { continue };
        let (path, round) = graph.way(&part);
        let hashes = |way: Vec<u32>| -> Vec<u128> {
            way.iter().skip(1).map(|at| graph.hashes[*at as usize]).collect()
        };
        let initial = model.initial(&mut evaluator)?;
        let (schedule, config) = follow(model, &mut evaluator, initial, hashes(path))?;
        let (cycle, _) = follow(model, &mut evaluator, config, hashes(round))?;
        let violation = Violation::Endless { at: *at };
        return Ok((Some(Found { violation, schedule, cycle }), true));
    }
    Ok((None, true))
}

fn build<M: Model>(
    model: &M,
    evaluator: &mut Evaluator<'_>,
    ends: &[usize],
    limits: &Limits,
) -> Result<Option<Graph>, Stop> {
    let before = memory::resident();
    let initial = model.initial(evaluator)?;
    let first = model.fingerprint(&initial);
    let mut numbers: ByHash<u32> = ByHash::default();
    let mut agents: ByHash<u32> = ByHash::default();
    let mut choices: ByHash<u32> = ByHash::default();
    numbers.insert(first, 0);
    let mut graph =
        Graph { hashes: vec![first], from: vec![0], edges: Vec::new(), good: vec![Vec::new(); ends.len()] };
    let mut waiting = VecDeque::from([initial]);
    while let Some(config) = waiting.pop_front() {
        let at = graph.edges.len() as u32;
        for (number, end) in ends.iter().enumerate() {
            graph.good[number].push(holds_at(model, evaluator, &config, *end)?);
        }
        let mut edges = Vec::new();
        for step in model.enabled(evaluator, &config)? {
            let next = model.apply(evaluator, &config, &step)?;
            let hash = model.fingerprint(&next);
            let to = match numbers.get(&hash) {
                Some(known) => *known,
                None => {
                    let number = graph.hashes.len() as u32;
                    numbers.insert(hash, number);
                    graph.hashes.push(hash);
                    graph.from.push(at);
                    waiting.push_back(next);
                    if number.is_multiple_of(1024)
                        && limits.are_reached(memory::resident().saturating_sub(before))
                    {
                        return Ok(None);
                    }
                    number
                }
            };
            let next_agent = agents.len() as u32;
            let agent = *agents.entry(model.agent(&step)).or_insert(next_agent);
            let choice = match model.choice(&config, &step) {
                Some(choice) => {
                    let next = choices.len() as u32;
                    *choices.entry(choice).or_insert(next)
                }
                None => NO_CHOICE,
            };
            edges.push(Edge { to, agent, choice });
        }
        graph.edges.push(edges);
        let count = graph.hashes.len() as u64;
        if count > limits.configurations || count > u64::from(u32::MAX - 1) {
            return Ok(None);
        }
    }
    Ok(Some(graph))
}

impl Graph {
    /// A strongly connected part in which a fair schedule can stay, within the configurations that are marked.
    fn fair_part(&self, within: Vec<bool>) -> Option<Vec<u32>> {
        let mut tasks = vec![within];
        while let Some(within) = tasks.pop() {
            for part in self.parts(&within) {
                let inside: HashSet<u32> = part.iter().copied().collect();
                let inner = || {
                    part.iter()
                        .flat_map(|at| &self.edges[*at as usize])
                        .filter(|edge| inside.contains(&edge.to))
                };
                if inner().next().is_none() {
                    continue;
                }
                let taken: HashSet<u32> = inner().map(|edge| edge.agent).collect();
                let agents = |at: &u32| self.edges[*at as usize].iter().map(|edge| edge.agent).collect();
                let always: Option<HashSet<u32>> = part
                    .iter()
                    .map(agents)
                    .reduce(|a: HashSet<u32>, b| a.intersection(&b).copied().collect());
                if always.is_some_and(|always| always.iter().any(|agent| !taken.contains(agent))) {
                    // Somebody could always take a step and never does: so it is in every part of this one.
                    continue;
                }
                let came: HashSet<u32> = inner().map(|edge| edge.choice).collect();
                let left_out = part
                    .iter()
                    .flat_map(|at| &self.edges[*at as usize])
                    .find(|edge| edge.choice != NO_CHOICE && !came.contains(&edge.choice));
                match left_out {
                    None => return Some(part),
                    Some(edge) => {
                        // It may still go round where that can't come.
                        let mut rest = vec![false; within.len()];
                        for at in &part {
                            let can =
                                self.edges[*at as usize].iter().any(|other| other.choice == edge.choice);
                            rest[*at as usize] = !can;
                        }
                        tasks.push(rest);
                    }
                }
            }
        }
        None
    }

    /// The strongly connected parts among the marked configurations (R. Tarjan, *Depth-first search and linear graph
    /// algorithms*, 1972), without recursion.
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
                match self.edges[at].get(edge) {
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
        // The one that is reached first comes first.
        parts.sort_by_key(|part| part.iter().min().copied());
        parts
    }

    /// The way to a part, and a round in it that leaves nobody out.
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
        // Each agent has its turn on the round, or a moment at which it has none; each choice comes.
        let edges: Vec<(u32, Edge)> = part
            .iter()
            .flat_map(|at| self.edges[*at as usize].iter().map(|edge| (*at, *edge)))
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
            let rests = |at: u32| self.edges[at as usize].iter().all(|edge| edge.agent != agent);
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

    fn note(&self, mut from: u32, way: &[u32], done: &mut HashSet<u32>, came: &mut HashSet<u32>) {
        for to in way {
            if let Some(edge) = self.edges[from as usize].iter().find(|edge| edge.to == *to) {
                done.insert(edge.agent);
                came.insert(edge.choice);
            }
            from = *to;
        }
    }

    /// The configurations after `from` on a shortest way inside a part, up to the end of a wanted edge.
    fn shortest(
        &self,
        from: u32,
        inside: &HashSet<u32>,
        wanted: &dyn Fn(u32, &Edge) -> bool,
    ) -> Option<Vec<u32>> {
        let mut before: HashMap<u32, u32> = HashMap::new();
        let mut waiting = VecDeque::from([from]);
        while let Some(at) = waiting.pop_front() {
            for edge in self.edges[at as usize].iter().filter(|edge| inside.contains(&edge.to)) {
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
