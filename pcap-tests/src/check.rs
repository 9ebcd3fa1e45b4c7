//! A folder as a test run: scripts, scenarios and goldens are cases, cases run at the same time, and what came is told as lines and as
//! JUnit XML.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::golden::{self, Golden};
use crate::scenario::Plan;
use crate::script::{Script, Stop, System};

/// What a folder may hold, in words.
pub const KINDS: &str = "scripts (.pkt), scenarios (.toml), goldens (goldens.toml and captures)";

/// Something to run.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its file.
    pub path: PathBuf,
    /// Its name in the folder of that file.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Script,
    Scenario,
    Golden(Arc<Golden>),
    /// What is here cannot be run.
    Broken(String),
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should.
    Passed,
    /// Otherwise: what differs.
    Failed(String),
    /// It could not be run at all: why.
    Unreadable(String),
}

/// A case that was run.
#[derive(Clone, Debug)]
pub struct Done {
    /// Which.
    pub case: Case,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// Folders within each other, at most.
const MAX_DEPTH: u32 = 32;

impl Case {
    fn new(path: PathBuf, kind: Kind) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Self { path, name: name.unwrap_or_default(), kind }
    }

    /// Its name with its folder.
    pub fn full_name(&self) -> String {
        self.path.with_file_name(&self.name).display().to_string()
    }

    /// The golden that it is.
    pub fn golden(&self) -> Option<&Golden> {
        match &self.kind {
            Kind::Golden(golden) => Some(golden),
            _ => None,
        }
    }

    /// The cases of a file whose name tells what it is; a capture is of whom a manifest says it is.
    fn of(path: &Path) -> Vec<Self> {
        let is = |extension: &str| path.extension().is_some_and(|end| end == extension);
        if path.file_name().is_some_and(|name| name == golden::MANIFEST) {
            return Self::of_manifest(path);
        }
        let kind = match path {
            _ if is("pkt") => Kind::Script,
            _ if is("toml") => Kind::Scenario,
            _ if golden::is_capture(path) => {
                Kind::Broken(format!("no {} names this capture", golden::MANIFEST))
            }
            _ => return Vec::new(),
        };
        vec![Self::new(path.to_owned(), kind)]
    }

    fn of_manifest(path: &Path) -> Vec<Self> {
        match Golden::manifest(path) {
            Err(why) => vec![Self::new(path.to_owned(), Kind::Broken(why))],
            Ok(goldens) => goldens.into_iter().map(Self::of_golden).collect(),
        }
    }

    fn of_golden(golden: Golden) -> Self {
        let (path, name) = (golden.file.clone(), golden.name());
        Self { path, name, kind: Kind::Golden(Arc::new(golden)) }
    }
}

/// The cases of a folder and of those in it, in order; a file is itself, and a capture what the manifest beside it says of it. Links to
/// folders are not followed.
pub fn find(root: &Path) -> io::Result<Vec<Case>> {
    let mut found = Vec::new();
    if root.is_dir() {
        collect(root, 0, &mut found)?;
    } else {
        fs::metadata(root)?;
        found = Case::of(root);
        let beside = root.with_file_name(golden::MANIFEST);
        if golden::is_capture(root) && beside.is_file() {
            found.extend(Case::of_manifest(&beside));
            found.retain(|case| case.path == root || case.path == beside);
        }
        if found.is_empty() {
            let why = "no kind of case has this end of its name".into();
            found = vec![Case::new(root.to_owned(), Kind::Broken(why))];
        }
    }
    let named: BTreeSet<PathBuf> =
        found.iter().filter(|case| case.golden().is_some()).map(|case| case.path.clone()).collect();
    found.retain(|case| case.golden().is_some() || !named.contains(&case.path));
    found.sort_by_key(Case::full_name);
    Ok(found)
}

fn collect(folder: &Path, depth: u32, found: &mut Vec<Case>) -> io::Result<()> {
    if depth == MAX_DEPTH {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), depth + 1, found)?;
        } else {
            found.extend(Case::of(&entry.path()));
        }
    }
    Ok(())
}

/// Runs cases over a kernel, so many at the same time; `tell` hears of each as it ends. The answer is in the order of the cases.
pub fn run(cases: &[Case], system: System, jobs: usize, tell: &mut dyn FnMut(&Done)) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut done: Vec<(usize, Done)> = Vec::with_capacity(cases.len());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, cases.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { return };
                    // Who listens has gone only where this whole run was given up.
                    if sender.send((number, run_one(case, system))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (number, one) in receiver {
            tell(&one);
            done.push((number, one));
        }
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, done)| done).collect()
}

/// Rewrites the captures of goldens that failed in a run, and gives them with what came of it: whether it was rewritten, or why it could
/// not be.
pub fn update(done: &[Done]) -> Vec<(&Path, Result<bool, String>)> {
    let failed = done.iter().filter(|one| matches!(one.verdict, Verdict::Failed(_)));
    let files: BTreeSet<&Path> =
        failed.filter_map(|one| one.case.golden()).map(|golden| golden.file.as_path()).collect();
    let updated = files.into_iter().map(|file| {
        let goldens: Vec<&Golden> =
            done.iter().filter_map(|one| one.case.golden()).filter(|g| g.file == file).collect();
        (file, golden::update(file, &goldens))
    });
    updated.collect()
}

fn run_one(case: &Case, system: System) -> Done {
    let begun = Instant::now();
    Done { case: case.clone(), verdict: verdict_of(case, system), took: begun.elapsed() }
}

/// A panic of one case is that case's failure.
fn verdict_of(case: &Case, system: System) -> Verdict {
    let ended = catch_unwind(AssertUnwindSafe(|| match &case.kind {
        Kind::Script => script(&case.path, system),
        Kind::Scenario => scenario(&case.path),
        Kind::Golden(golden) => golden_plays(golden, system),
        Kind::Broken(why) => Verdict::Unreadable(why.clone()),
    }));
    ended.unwrap_or_else(|panic| {
        let told = panic.downcast_ref::<String>().map(String::as_str);
        let told = told.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("");
        Verdict::Failed(format!("panicked: {told}"))
    })
}

/// A script in the language of packetdrill.
fn script(path: &Path, system: System) -> Verdict {
    let script = match fs::read_to_string(path) {
        Ok(text) => Script::parse(&text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let script = match script {
        Ok(script) => script,
        Err(why) => return Verdict::Unreadable(why),
    };
    match system.play(&script, &mut |_| ()) {
        Ok(()) => Verdict::Passed,
        Err(Stop::Failed(failure)) => Verdict::Failed(failure.to_string()),
        Err(other) => Verdict::Unreadable(other.to_string()),
    }
}

/// A capture to which the stack is held.
fn golden_plays(golden: &Golden, system: System) -> Verdict {
    let played = match golden.replay(system) {
        Ok(played) => played,
        Err(error) => return Verdict::Unreadable(error.to_string()),
    };
    match golden.complaint(&played) {
        Ok(None) => Verdict::Passed,
        Ok(Some(complaint)) => Verdict::Failed(complaint),
        Err(why) => Verdict::Unreadable(why),
    }
}

/// Scenarios are played by our stack alone, whatever else is tested.
fn scenario(path: &Path) -> Verdict {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return Verdict::Unreadable(error.to_string()),
    };
    let played = Plan::parse(&text).and_then(|plan| plan.play(plan.seed, None));
    match played {
        Ok(outcome) if outcome.passed() => Verdict::Passed,
        Ok(outcome) => {
            let complaints: Vec<String> = outcome.complaints().collect();
            Verdict::Failed(format!("seed {}: {}", outcome.seed, complaints.join("\n")))
        }
        Err(error) => Verdict::Unreadable(error.to_string()),
    }
}

/// A run as JUnit XML: one suite, a case for each of the run, its folder as its class.
pub fn junit(suite: &str, done: &[Done]) -> String {
    let count = |is: fn(&Verdict) -> bool| done.iter().filter(|one| is(&one.verdict)).count();
    let took: Duration = done.iter().map(|one| one.took).sum();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\">",
        escaped(suite),
        done.len(),
        count(|verdict| matches!(verdict, Verdict::Failed(_))),
        count(|verdict| matches!(verdict, Verdict::Unreadable(_))),
        took.as_secs_f64()
    );
    for one in done {
        let class = one.case.path.parent().map(|folder| folder.display().to_string());
        let _ = write!(
            out,
            "  <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
            escaped(&class.unwrap_or_default()),
            escaped(&one.case.name),
            one.took.as_secs_f64()
        );
        let _ = match &one.verdict {
            Verdict::Passed => writeln!(out, "/>"),
            Verdict::Failed(why) => {
                writeln!(out, "><failure>{}</failure></testcase>", escaped(why))
            }
            Verdict::Unreadable(why) => {
                writeln!(out, "><error>{}</error></testcase>", escaped(why))
            }
        };
    }
    out.push_str("</testsuite>\n");
    out
}

/// Text for XML. What XML 1.0 has no place for (most control characters) becomes a question mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' | ' '.. if c != '\u{fffe}' && c != '\u{ffff}' => out.push(c),
            _ => out.push('?'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own.
    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("netcell-check-{}", std::process::id()));
        fs::create_dir_all(folder.join("deep")).expect("a folder");
        folder
    }

    #[test]
    fn a_folder_is_run_and_told() {
        let folder = folder();
        for (name, text) in [
            ("a.pkt", "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3"),
            ("deep/b.pkt", "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 listen(3, 1) = 7"),
            ("deep/c.pkt", "0 nonsense"),
            ("d.txt", "no case"),
        ] {
            fs::write(folder.join(name), text).expect("a file");
        }
        let cases = find(&folder).expect("the folder");
        let mut told = 0;
        let done = run(&cases, System::Ours, 2, &mut |_| told += 1);
        let names: Vec<String> = done
            .iter()
            .map(|one| one.case.path.strip_prefix(&folder).expect("inside").display().to_string())
            .collect();
        let alone = find(&folder.join("d.txt")).expect("a file");
        let refused = run(&alone, System::Ours, 1, &mut |_| ());
        fs::remove_dir_all(&folder).expect("the folder goes");
        assert_eq!((names.join(" ").as_str(), told), ("a.pkt deep/b.pkt deep/c.pkt", 3));
        assert_eq!(done[0].verdict, Verdict::Passed);
        assert!(matches!(&done[1].verdict, Verdict::Failed(why) if why.contains("line 2")));
        assert!(matches!(&done[2].verdict, Verdict::Unreadable(why) if why.contains("column 11")));
        assert!(matches!(refused[0].verdict, Verdict::Unreadable(_)));
        let xml = junit("all <of> it", &done);
        assert!(xml.contains("name=\"all &lt;of&gt; it\" tests=\"3\" failures=\"1\" errors=\"1\""));
        assert!(xml.contains("name=\"a.pkt\"") && xml.ends_with("</testsuite>\n"));
    }

    #[test]
    fn xml_has_no_characters_that_it_must_not() {
        assert_eq!(escaped("a\u{1}<&>\"\n\u{ffff}"), "a?&lt;&amp;&gt;&quot;\n?");
    }
}
