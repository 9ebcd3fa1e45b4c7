//! Which flow of one trace is which of the other.

use std::collections::HashMap;
use std::hash::Hash;

use crate::flows::Flow;

/// Pairs flows: first by both endpoints, then by hosts and service, then by service alone; each time in the order in which they began.
/// What is left stands alone. The pairs come in the order of the first trace, then of the second.
pub fn pair<'a>(one: &[&'a Flow], other: &[&'a Flow]) -> Vec<[Option<&'a Flow>; 2]> {
    let mut pairs: Vec<Option<usize>> = vec![None; one.len()];
    let mut taken = vec![false; other.len()];
    by(one, other, &mut pairs, &mut taken, |f| (f.protocol, f.ends));
    by(one, other, &mut pairs, &mut taken, |f| (f.protocol, f.ends[0].0, f.ends[1]));
    by(one, other, &mut pairs, &mut taken, |f| (f.protocol, f.ends[1].1));
    let first = one.iter().zip(&pairs).map(|(flow, pair)| [Some(*flow), pair.map(|at| other[at])]);
    let second = other.iter().zip(&taken).filter(|(_, taken)| !**taken);
    first.chain(second.map(|(flow, _)| [None, Some(*flow)])).collect()
}

fn by<K: Hash + Eq>(
    one: &[&Flow],
    other: &[&Flow],
    pairs: &mut [Option<usize>],
    taken: &mut [bool],
    key: impl Fn(&Flow) -> K,
) {
    let mut free: HashMap<K, std::collections::VecDeque<usize>> = HashMap::new();
    for (at, flow) in other.iter().enumerate().filter(|(at, _)| !taken[*at]) {
        free.entry(key(flow)).or_default().push_back(at);
    }
    for (flow, pair) in one.iter().zip(pairs).filter(|(_, pair)| pair.is_none()) {
        if let Some(at) = free.get_mut(&key(flow)).and_then(|queue| queue.pop_front()) {
            *pair = Some(at);
            taken[at] = true;
        }
    }
}
