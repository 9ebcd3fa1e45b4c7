//! The stack's speed as ratios to references measured in the same run: `scripts/bench net`.
//!
//! CPU figures are the CPU time of the one thread that drives the stack, with what the host's kernel does on that thread inside its
//! calls. Each metric runs several times, ours and the reference in turn; a line of JSON tells medians, spreads and the median ratio.
//! Everything happens in a network namespace of this process, which ends with it.

mod bed;
mod idle;
mod inside;
mod measure;
mod raw;
mod streams;
mod virtual_time;

use std::cell::OnceCell;
use std::rc::Rc;

use measure::{Better, Metric, Runs};
use nix::sched::{CloneFlags, unshare};

/// What the command line asks for.
struct Options {
    runs: usize,
    only: Option<String>,
    /// Idle connections of the last rows.
    idle: usize,
}

fn main() {
    if let [word, count, runs] = &std::env::args().skip(1).collect::<Vec<_>>()[..]
        && word == idle::ALONE
    {
        let number = |word: &str| word.parse().expect("a number");
        return idle::alone_with(number(count), number(runs));
    }
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(unknown) => {
            eprintln!("net: unknown argument {unknown}; known: --runs N, --only WORD, --idle N");
            std::process::exit(2);
        }
    };
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        eprintln!("net: cannot make a network namespace ({errno}): run as root");
        std::process::exit(1);
    }
    let metrics = metrics(options.idle);
    // A whole name stands for its row alone, though other names contain it.
    let exact = metrics.iter().any(|metric| options.only.as_deref() == Some(metric.name));
    for metric in metrics {
        let wanted = |word: &String| match exact {
            true => metric.name == word,
            false => metric.name.contains(word.as_str()),
        };
        if options.only.as_ref().is_none_or(wanted) {
            println!("{}", (metric.measure)(Runs(options.runs)).to_json(&metric));
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { runs: 5, only: None, idle: 1_000_000 };
    while let Some(word) = words.next() {
        let mut number = |word: String| words.next().and_then(|n| n.parse().ok()).ok_or(word);
        match word.as_str() {
            // `cargo bench` says it to every benchmark.
            "--bench" => {}
            "--runs" => options.runs = number(word)?,
            "--idle" => options.idle = number(word)?,
            "--only" => options.only = Some(words.next().ok_or(word)?),
            _ => return Err(word),
        }
    }
    Ok(options)
}

/// The rows, in the order of the table of bars.
fn metrics(count: usize) -> Vec<Metric> {
    let gbits = "Gbit/s per CPU-s";
    // Two rows tell of the same connections.
    let idle = Rc::new(OnceCell::new());
    let measured = move |runs| -> Rc<OnceCell<idle::Measured>> {
        idle.get_or_init(|| idle::measure(runs, count));
        idle.clone()
    };
    let (memory, echo) = (measured.clone(), measured);
    let row = |name, unit, reference, better, bar, stretch, measure| Metric {
        name,
        unit,
        reference,
        better,
        bar,
        stretch,
        measure,
    };
    vec![
        row(
            "send over TAP",
            gbits,
            "raw 64 KiB GSO writes",
            Better::Higher,
            0.27,
            0.38,
            Box::new(streams::send_cpu),
        ),
        row(
            "receive over TAP",
            gbits,
            "raw 64 KiB GSO reads",
            Better::Higher,
            0.17,
            0.23,
            Box::new(streams::receive_cpu),
        ),
        row(
            "send over TAP, one stream, wall",
            "Gbit/s",
            "native over a veth",
            Better::Higher,
            1.0,
            1.4,
            Box::new(streams::send_wall),
        ),
        row(
            "1-byte round trip over TAP, p50",
            "µs",
            "native loopback",
            Better::Lower,
            1.0,
            0.8,
            Box::new(streams::round_trip),
        ),
        row(
            "loopback inside the stack",
            gbits,
            "two 64 KiB copies through a ring",
            Better::Higher,
            0.55,
            0.85,
            Box::new(inside::loopback),
        ),
        row(
            "connect, 1 byte, close inside the stack, CPU",
            "µs",
            "native loopback",
            Better::Lower,
            0.4,
            0.16,
            Box::new(inside::churn),
        ),
        row(
            "UDP 1,472 B send over TAP, CPU",
            "ns",
            "raw 1,514 B write",
            Better::Lower,
            1.4,
            1.2,
            Box::new(raw::udp_send),
        ),
        row(
            "UDP 1,472 B send over TAP with UDP_SEGMENT, CPU",
            "ns",
            "raw 1,514 B write",
            Better::Lower,
            0.2,
            0.13,
            Box::new(raw::udp_trains),
        ),
        row(
            "idle connection, both ends, memory",
            "B",
            "",
            Better::Lower,
            3072.0,
            2048.0,
            Box::new(move |runs| memory(runs).get().expect("it was measured").memory()),
        ),
        row(
            "echo with many idle connections, CPU",
            "ns",
            "the same with 10",
            Better::Lower,
            1.3,
            1.1,
            Box::new(move |runs| echo(runs).get().expect("it was measured").echo()),
        ),
        row(
            "virtual seconds of a full 1 Gbit/s link per second",
            "s/s",
            "",
            Better::Higher,
            2.0,
            10.0,
            Box::new(virtual_time::saturated),
        ),
        row(
            "goodput at 1 % loss, 20 ms, simulated",
            "Mbit/s",
            "what CUBIC's formula allows",
            Better::Higher,
            0.9,
            0.9,
            Box::new(virtual_time::goodput),
        ),
    ]
}
