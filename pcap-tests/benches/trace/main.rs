//! The speed and memory of reading, comparing and replaying captures: `scripts/bench trace`.
//!
//! Each figure is a process of its own (this program again, or a peer): CPU time of user and kernel, and the most memory that was resident.

mod make;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use pcap_tests::capture::Reader;
use pcap_tests::compare::{self, Terms};
use pcap_tests::flows::Summary;
use pcap_tests::replay;
use serde_json::{Value, json};

/// The word that makes this program measure one thing in itself.
const PHASE: &str = "--phase";

/// Time between two packets.
const GAP_US: u64 = 100;
/// The word that makes it write a capture: path and number of packets.
const MAKE: &str = "--make";

struct Options {
    runs: usize,
    packets: usize,
    only: Option<String>,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, phase, files @ ..] = &words[..]
        && word == PHASE
    {
        return once(phase, files);
    }
    if let [word, path, packets] = &words[..]
        && word == MAKE
    {
        let packets = packets.parse().expect("a number of packets");
        return make::capture(Path::new(path), packets, GAP_US).expect("a capture is written");
    }
    let options = match options(words.into_iter()) {
        Ok(options) => options,
        Err(unknown) => {
            eprintln!(
                "trace: unknown argument {unknown}; known: --runs N, --packets N, --only WORD"
            );
            std::process::exit(2);
        }
    };
    let folder = std::env::temp_dir().join(format!("netcell-bench-trace-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder for captures");
    let done = std::panic::catch_unwind(|| measure(&options, &folder));
    std::fs::remove_dir_all(&folder).expect("the folder goes away");
    if done.is_err() {
        std::process::exit(1);
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { runs: 3, packets: 2_000_000, only: None };
    while let Some(word) = words.next() {
        let mut number = |word: String| words.next().and_then(|n| n.parse().ok()).ok_or(word);
        match word.as_str() {
            // `cargo bench` says it to every benchmark.
            "--bench" => {}
            "--runs" => options.runs = number(word)?,
            "--packets" => options.packets = number(word)?,
            "--only" => options.only = Some(words.next().ok_or(word)?),
            _ => return Err(word),
        }
    }
    Ok(options)
}

/// What one process needed.
#[derive(Clone, Copy)]
struct Used {
    cpu: f64,
    mb: f64,
}

/// Does one thing with a capture and tells what it took.
fn once(phase: &str, files: &[String]) {
    let open = |file: &String| Reader::open(Path::new(file));
    match phase {
        // What every reader has to do: the bytes come from the kernel.
        "read" => {
            let mut file = std::fs::File::open(&files[0]).expect("a capture");
            std::io::copy(&mut file, &mut Sum::default()).expect("a readable file");
        }
        "info" => {
            let mut summary = Summary::new(50);
            assert!(summary.read(&mut open(&files[0]).expect("a capture")).is_none());
        }
        "diff" => {
            let mut readers = [0, 1].map(|at| open(&files[at]).expect("a capture"));
            let (verdict, _, ends) = compare::files(&mut readers, &Terms::default());
            assert!(ends.iter().all(Option::is_none));
            assert_eq!(verdict.differences, []);
        }
        "replay" => {
            let roles = [replay::Role { host: make::SERVER.into(), port: None }];
            let settings = replay::Settings::of(&roles);
            let outcome = replay::replay(&|| open(&files[0]), &settings, None);
            let outcome = outcome.expect("a capture");
            assert_eq!(outcome.notes, Vec::<String>::new());
            assert!(outcome.flows > 0 && outcome.verdict.compared == outcome.flows);
        }
        other => panic!("no phase {other}"),
    }
    let used = used(UsageWho::RUSAGE_SELF);
    println!("{}", json!({"cpu": used.cpu, "mb": used.mb}));
}

/// Takes bytes and looks at none but the first of each piece.
#[derive(Default)]
struct Sum(u64);

impl std::io::Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.wrapping_add(u64::from(bytes.first().copied().unwrap_or(0)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn used(of: UsageWho) -> Used {
    let usage = getrusage(of).expect("figures of the kernel");
    let cpu = (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6;
    Used { cpu, mb: usage.max_rss() as f64 / 1024.0 }
}

/// One of our phases in a process of its own.
fn ours(phase: &str, files: &[&Path]) -> Used {
    let me = std::env::current_exe().expect("this program");
    let out = Command::new(me).args([PHASE, phase]).args(files).stderr(Stdio::inherit()).output();
    let out = out.expect("this program runs");
    assert!(out.status.success(), "{phase} failed");
    let told: Value = serde_json::from_slice(&out.stdout).expect("a line of JSON");
    let number = |name: &str| told[name].as_f64().expect("a figure");
    Used { cpu: number("cpu"), mb: number("mb") }
}

/// CPU seconds of a program of others; none where it is not installed.
fn peer(words: &[&str]) -> Option<f64> {
    let before = used(UsageWho::RUSAGE_CHILDREN).cpu;
    let quiet = || Stdio::null();
    let status = Command::new(words[0]).args(&words[1..]).stdout(quiet()).stderr(quiet()).status();
    let status = status.ok()?;
    assert!(status.success(), "{words:?} failed");
    Some(used(UsageWho::RUSAGE_CHILDREN).cpu - before)
}

fn measure(options: &Options, folder: &Path) {
    let wanted = |name: &str| options.only.as_ref().is_none_or(|word| name.contains(word.as_str()));
    let file = |name: &str, packets: usize, gap_us: u64| {
        let path = folder.join(name);
        make::capture(&path, packets, gap_us).expect("a capture is written");
        path
    };
    let whole = file("whole.pcap", options.packets, GAP_US);
    for (verb, bar, program) in
        [("info", 1_000_000.0, None), ("diff", 300_000.0, None), ("replay", 300_000.0, None)]
    {
        if wanted(verb) {
            speed(verb, bar, program, &whole, options);
        }
    }
    if wanted("memory") {
        std::fs::remove_file(&whole).expect("room for the next");
        memory(options, &file);
    }
}

/// Packets a second of CPU, beside a plain read of the file and a peer.
fn speed(verb: &str, bar: f64, program: Option<&'static str>, whole: &Path, options: &Options) {
    let (mut rates, mut plain, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    let files: &[&Path] = if verb == "diff" { &[whole, whole] } else { &[whole] };
    let name = whole.to_str().expect("a name in UTF-8");
    for _ in 0..options.runs {
        plain.push(options.packets as f64 / ours("read", &[whole]).cpu);
        rates.push((options.packets * files.len()) as f64 / ours(verb, files).cpu);
        let command: &[&str] = match program {
            Some(program) => &[program, name],
            None => &["tcpdump", "-nr", name],
        };
        peers.extend(peer(command).map(|cpu| options.packets as f64 / cpu));
    }
    let row = Row {
        metric: format!("trace {verb}"),
        unit: "packets/CPU-s",
        values: [rates, plain, peers],
        better: "higher",
        bar,
        peer: program.unwrap_or("tcpdump -nr"),
    };
    println!("{}", row.json());
}

/// The most memory that each verb needs for captures of which the later are ten times as long.
fn memory(options: &Options, file: &dyn Fn(&str, usize, u64) -> PathBuf) {
    // Also the shortest lasts for longer than flows linger: what is open at a time is the same in all of them.
    let [small, middle, large] = [100, 10, 1]
        .map(|part| file(&format!("{part}.pcap"), options.packets / part, GAP_US * 100));
    for verb in ["info", "diff", "replay"] {
        let of = |path: &Path| match verb {
            "diff" => ours(verb, &[path, path]).mb,
            _ => ours(verb, &[path]).mb,
        };
        let [one, ten, hundred] = [&*small, &*middle, &*large].map(of);
        eprintln!(
            "trace {verb}, memory of 1x, 10x, 100x packets: {one:.1}, {ten:.1}, {hundred:.1} MB"
        );
        let row = Row {
            metric: format!("trace {verb}, memory: 100 times the packets"),
            unit: "MB",
            values: [vec![hundred], vec![one], vec![]],
            better: "lower",
            bar: 64.0,
            peer: "",
        };
        println!("{}", row.json());
    }
}

/// A line of the table: ours, a plain read (or the small capture), a peer.
struct Row {
    metric: String,
    unit: &'static str,
    values: [Vec<f64>; 3],
    better: &'static str,
    bar: f64,
    peer: &'static str,
}

impl Row {
    /// As `scripts/bench` reads it. The bar is one of the figure itself.
    fn json(&self) -> Value {
        let median = |values: &[f64]| {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            sorted.get(sorted.len() / 2).copied()
        };
        let spread = |values: &[f64]| {
            let low = values.iter().copied().reduce(f64::min);
            json!([low, values.iter().copied().reduce(f64::max)])
        };
        let [ours, native, peer] = self.values.each_ref().map(|values| median(values));
        let ours = ours.expect("at least one run");
        let holds = if self.better == "higher" { ours >= self.bar } else { ours <= self.bar };
        json!({
            "group": "trace", "metric": self.metric, "unit": self.unit, "ours": ours, "native": native, "peer": peer,
            "peer_name": self.peer, "ratio": native.map(|native| ours / native), "better": self.better, "bar": self.bar,
            "stretch": self.bar, "holds": holds,
            "spread": {"ours": spread(&self.values[0]), "native": spread(&self.values[1]), "peer": spread(&self.values[2])},
        })
    }
}
