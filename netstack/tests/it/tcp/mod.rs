//! TCP between whole stacks, and between our stack and smoltcp, over links with faults in virtual time.

mod node;
mod pairs;
mod scenarios;
mod smol;
mod smoltcp_peer;
mod threads;
mod world;

/// How many seeds to run: from the environment, or a number that takes a second.
fn seeds(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
        Err(_) => default,
    }
}

/// Bytes without a short period.
fn pattern(len: usize, salt: u64) -> Vec<u8> {
    let mut rng = netstack::rng::Rng::new(&netstack::rng::seed_from(salt), 5);
    let mut bytes: Vec<u8> = (0..len / 8 + 1).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}
