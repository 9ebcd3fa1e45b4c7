//! A seeded sequence of operations on one of our filesystems and on the host's must give the same answers.

use sentry_fs::host::HostOptions;
use sentry_kernel::vfs::{FileType, RenameFlags};

use crate::world::{Answer, Op, Ours, Outcome, Scratch, Theirs, host, overlay, services, tmpfs};

/// Steps of one sequence.
const STEPS: usize = 1500;
/// EXDEV
const EXDEV: i32 = 18;

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 32) % bound
    }

    fn path(&mut self) -> String {
        let names = ["a", "b", "c", "d"];
        let depth = 1 + self.below(3);
        let parts: Vec<_> = (0..depth).map(|_| names[self.below(4) as usize]).collect();
        parts.join("/")
    }

    fn data(&mut self) -> Vec<u8> {
        let len = match self.below(4) {
            0 => self.below(40_000),
            _ => self.below(300),
        };
        let first = self.next() as u8;
        (0..len).map(|i| first.wrapping_add(i as u8)).collect()
    }

    fn op(&mut self) -> Op {
        let path = self.path();
        match self.below(22) {
            0 | 1 => Op::Create(path, [0o644, 0o600, 0o755][self.below(3) as usize]),
            2 | 3 => Op::Mkdir(path, 0o755),
            4 => Op::Symlink(path, "nowhere".into()),
            5 => Op::Unlink(path),
            6 => Op::Rmdir(path),
            7 | 8 => Op::Link(path, self.path()),
            9..=11 => {
                let flags = match self.below(6) {
                    0 => RenameFlags::NOREPLACE,
                    1 => RenameFlags::EXCHANGE,
                    _ => RenameFlags::empty(),
                };
                Op::Rename(path, self.path(), flags)
            }
            12 | 13 => Op::Write(path, self.below(70_000), self.data()),
            14 => Op::Append(path, self.data()),
            15 => Op::Truncate(path, self.below(50_000)),
            16 => Op::Punch(path, self.below(50_000), 1 + self.below(20_000)),
            17 => Op::Chmod(path, [0o640, 0o755, 0o711][self.below(3) as usize]),
            18 => Op::Read(path),
            19 => Op::List(path),
            20 => Op::Readlink(path),
            _ => Op::Stat(path),
        }
    }
}

/// True where the VFS refuses the operation before a filesystem sees it: a directory moved below itself, or the reverse.
fn is_nested(op: &Op) -> bool {
    match op {
        Op::Rename(a, b, _) | Op::Link(a, b) => {
            let below = |a: &str, b: &str| b.strip_prefix(a).is_some_and(|r| r.starts_with('/'));
            below(a, b) || below(b, a)
        }
        _ => false,
    }
}

/// Compares everything that is there.
fn compare(ours: &Ours, theirs: &Theirs, path: &str, context: &str) {
    let list = Op::List(path.into());
    let names = ours.answer(&list);
    assert_eq!(names, theirs.answer(&list), "listing {path:?}, {context}");
    let Ok(Outcome::Names(names)) = names else { return };
    for (name, kind) in names {
        let name = String::from_utf8(name).unwrap();
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        for op in [Op::Stat(path.clone()), Op::Read(path.clone()), Op::Readlink(path.clone())] {
            let (a, b) = (ours.answer(&op), theirs.answer(&op));
            assert!(a == b, "{op:?}: {:?} and {:?}, {context}", brief(&a), brief(&b));
        }
        if kind == FileType::Directory {
            compare(ours, theirs, &path, context);
        }
    }
}

fn brief(answer: &Answer) -> String {
    let mut text = format!("{answer:?}");
    text.truncate(300);
    text
}

fn run(seed: u64, ours: &Ours, theirs: &Theirs) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for step in 0..STEPS {
        let op = random.op();
        if is_nested(&op) {
            continue;
        }
        let a = ours.answer(&op);
        if a == Err(EXDEV) {
            // Overlays do not move directories of the lower tree; programs copy then.
            continue;
        }
        let b = theirs.answer(&op);
        let (short, op) = ((brief(&a), brief(&b)), format!("{op:?}"));
        let op: String = op.chars().take(200).collect();
        assert!(a == b, "seed {seed} step {step} {op}: ours {} theirs {}", short.0, short.1);
        if step % 100 == 99 {
            compare(ours, theirs, "", &format!("seed {seed} step {step}"));
        }
    }
}

/// A tree for a lower layer: directories, files, links, a file with two names.
fn plant(theirs: &Theirs) {
    let ops = [
        Op::Mkdir("a".into(), 0o755),
        Op::Mkdir("a/b".into(), 0o755),
        Op::Create("a/b/c".into(), 0o644),
        Op::Write("a/b/c".into(), 100, vec![7; 9000]),
        Op::Create("b".into(), 0o600),
        Op::Write("b".into(), 0, vec![9; 300]),
        Op::Link("b".into(), "a/d".into()),
        Op::Mkdir("c".into(), 0o755),
        Op::Mkdir("c/c".into(), 0o755),
        Op::Symlink("c/a".into(), "nowhere".into()),
        Op::Create("c/c/a".into(), 0o644),
    ];
    for op in ops {
        theirs.answer(&op).unwrap();
    }
}

#[test]
fn tmpfs_answers_as_the_hosts_filesystem() {
    for seed in 1..=20 {
        let scratch = Scratch::new();
        run(seed, &Ours::new(tmpfs(&services())), &Theirs(scratch.0.clone()));
    }
}

#[test]
fn a_volume_answers_as_the_hosts_filesystem() {
    for seed in 1..=10 {
        let (volume, scratch) = (Scratch::new(), Scratch::new());
        let ours = host(&services(), &volume.0, HostOptions::read_write());
        run(seed, &Ours::new(ours), &Theirs(scratch.0.clone()));
    }
}

#[test]
fn an_overlay_answers_as_the_hosts_filesystem_and_leaves_its_lower_tree_alone() {
    for seed in 1..=30 {
        let (lower, untouched, scratch) = (Scratch::new(), Scratch::new(), Scratch::new());
        for place in [&lower, &untouched, &scratch] {
            plant(&Theirs(place.0.clone()));
        }
        let ours = Ours::new(overlay(&services(), &lower.0));
        run(seed, &ours, &Theirs(scratch.0.clone()));
        let lower = host(&services(), &lower.0, HostOptions::read_only());
        compare(&Ours::new(lower), &Theirs(untouched.0.clone()), "", "the lower tree");
    }
}

/// Removes everything below a directory.
fn clear(ours: &Ours, path: &str) {
    let Ok(Outcome::Names(names)) = ours.answer(&Op::List(path.into())) else {
        panic!("{path:?} cannot be listed");
    };
    for (name, kind) in names {
        let name = String::from_utf8(name).unwrap();
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        let answer = match kind {
            FileType::Directory => {
                clear(ours, &path);
                ours.answer(&Op::Rmdir(path.clone()))
            }
            _ => ours.answer(&Op::Unlink(path.clone())),
        };
        assert_eq!(answer, Ok(Outcome::Done), "removing {path}");
    }
}

/// True unless the operation moves something to another depth: then threads together could tie a knot, which the VFS's lock of renames prevents.
fn keeps_depth(op: &Op) -> bool {
    let depth = |path: &str| path.split('/').count();
    match op {
        Op::Rename(a, b, _) => depth(a) == depth(b),
        _ => true,
    }
}

#[test]
fn many_threads_leave_a_tree_that_can_be_removed_without_a_trace() {
    let services = services();
    let (volume, lower) = (Scratch::new(), Scratch::new());
    plant(&Theirs(lower.0.clone()));
    let before = services.memory.used_bytes();
    for ours in [
        Ours::new(tmpfs(&services)),
        Ours::new(host(&services, &volume.0, HostOptions::read_write())),
        Ours::new(overlay(&services, &lower.0)),
    ] {
        std::thread::scope(|scope| {
            for seed in 1..=4 {
                let ours = &ours;
                scope.spawn(move || {
                    let mut random = Random(seed);
                    for _ in 0..STEPS {
                        let op = random.op();
                        if !is_nested(&op) && keeps_depth(&op) {
                            let _ = ours.answer(&op);
                        }
                    }
                });
            }
        });
        clear(&ours, "");
        let empty = ours.answer(&Op::List(String::new()));
        assert_eq!(empty, Ok(Outcome::Names(Vec::new())));
    }
    assert_eq!(services.memory.used_bytes(), before);
}
