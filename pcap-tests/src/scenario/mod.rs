//! Scenarios: hosts, links with faults, flows and what is expected of them, read from TOML and played by stacks in virtual time. One seed
//! gives one run, bit by bit.

mod flow;
mod plan;
mod report;
pub(crate) mod units;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use netstack::sim::{Recording, SegmentId};
use netstack::time::Instant;

pub use flow::Measured;
pub use plan::Plan;

use flow::Running;
use world::World;

/// So many events are more than any scenario means to have: time does not get on.
const MOST_STEPS: u64 = 200_000_000;

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file is not one, with the place in it.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// It is in words that fit, and makes no sense.
    #[error("{0}")]
    Meaning(String),
}

/// How one flow went.
#[derive(Clone, Debug)]
pub struct FlowOutcome {
    /// Its name.
    pub name: String,
    /// What was measured.
    pub measured: Measured,
    /// What was expected and did not come.
    pub complaints: Vec<String>,
}

/// How a scenario went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// With this seed.
    pub seed: u64,
    /// Flow by flow.
    pub flows: Vec<FlowOutcome>,
}

impl Outcome {
    /// Whether everything came as expected.
    pub fn passed(&self) -> bool {
        self.flows.iter().all(|flow| flow.complaints.is_empty())
    }

    /// What did not, a line each.
    pub fn complaints(&self) -> impl Iterator<Item = String> {
        self.flows
            .iter()
            .flat_map(|flow| flow.complaints.iter().map(|what| format!("{}: {what}", flow.name)))
    }
}

/// Takes every frame that was sent: the number of its link, when, its bytes.
pub type Tape<'a> = &'a mut dyn FnMut(usize, Duration, &[u8]);

impl Plan {
    /// Reads a scenario. Errors: with line and column, or what makes no sense.
    pub fn parse(text: &str) -> Result<Plan, ScenarioError> {
        let plan: Plan = toml::from_str(text)?;
        world::check(&plan).map_err(ScenarioError::Meaning)?;
        Ok(plan)
    }

    /// The names of its links, in order.
    pub fn link_names(&self) -> impl Iterator<Item = String> {
        self.link.iter().map(world::name_of)
    }

    /// Plays it. Errors: a host refuses a setting.
    pub fn play(&self, seed: u64, tape: Option<Tape<'_>>) -> Result<Outcome, ScenarioError> {
        let mut world = World::build(self, seed).map_err(ScenarioError::Meaning)?;
        let kept = if tape.is_some() { Recording::All } else { Recording::Nothing };
        world.sim.set_recording(kept);
        let start = world.sim.now();
        let mut flows = Vec::new();
        for (number, flow) in self.flow.iter().enumerate() {
            flows.push(Running::new(&world, flow, number, start).map_err(ScenarioError::Meaning)?);
        }
        self.run(&mut world, &mut flows, start);
        let now = world.sim.now();
        if let Some(tape) = tape {
            let numbers: BTreeMap<SegmentId, usize> = world
                .links
                .iter()
                .enumerate()
                .map(|(number, link)| (link.segment, number))
                .collect();
            for frame in world.sim.capture().frames() {
                let number = numbers.get(&frame.segment).copied().unwrap_or_default();
                tape(number, frame.at.since(start), &frame.bytes);
            }
        }
        let flows = flows.into_iter().map(|flow| flow.judge(now)).collect();
        Ok(Outcome { seed, flows })
    }

    fn run(&self, world: &mut World, flows: &mut [Running<'_>], start: Instant) {
        let limit = start + self.limit.0;
        let mut steps = 0;
        loop {
            let now = world.sim.now();
            let edge = world.outages(start, now);
            let wakes = flows.iter().filter_map(|flow| flow.wakes_at(now));
            let next = wakes.chain(edge).min().unwrap_or(limit).min(limit);
            let over = world.sim.run_until(next, |sim| {
                steps += 1;
                flows.iter_mut().for_each(|flow| flow.work(sim));
                flows.iter().all(Running::is_over) || steps >= MOST_STEPS
            });
            if over || world.sim.now() >= limit {
                break;
            }
        }
        if steps >= MOST_STEPS {
            let told = format!(
                "gave up after {MOST_STEPS} events; is there a link without rate and delay?"
            );
            flows.iter_mut().for_each(|flow| flow.fail(&told));
        }
    }
}

#[cfg(test)]
mod tests;
