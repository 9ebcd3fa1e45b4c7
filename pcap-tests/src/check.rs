//! A folder as a test run: every file of a kind that is known here is a case, cases run at the same time, and what came is told as lines
//! and as JUnit XML.

use std::fmt::Write;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::scenario::Plan;
use crate::script::{Script, Stop, System};

/// A kind of case: the end of its files' names, and how one is run.
pub struct Kind {
    /// Without the point.
    pub extension: &'static str,
    /// In words.
    pub name: &'static str,
    run: fn(&Path, System) -> Verdict,
}

/// All kinds.
pub const KINDS: &[Kind] = &[
    Kind { extension: "pkt", name: "script", run: script },
    Kind { extension: "toml", name: "scenario", run: scenario },
];

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

/// A file to run.
#[derive(Clone, Copy)]
struct Case<'a> {
    path: &'a Path,
    kind: &'static Kind,
}

/// A case that was run.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its file.
    pub path: PathBuf,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// Folders within each other, at most.
const MAX_DEPTH: u32 = 32;

/// The kind of a file.
fn kind_of(path: &Path) -> Option<&'static Kind> {
    let extension = path.extension()?.to_str()?;
    KINDS.iter().find(|kind| kind.extension == extension)
}

/// The cases of a folder and of those in it, in order; a file is itself. Links to folders are not followed.
pub fn find(root: &Path) -> io::Result<Vec<PathBuf>> {
    if !root.is_dir() {
        fs::metadata(root)?;
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    collect(root, 0, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) -> io::Result<()> {
    if depth == MAX_DEPTH {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, depth + 1, found)?;
        } else if kind_of(&path).is_some() {
            found.push(path);
        }
    }
    Ok(())
}

/// Runs files over a kernel, so many at the same time; `tell` hears of each as it ends. The answer is in the order of the files.
pub fn run(
    files: &[PathBuf],
    system: System,
    jobs: usize,
    tell: &mut dyn FnMut(&Done),
) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut done: Vec<(usize, Done)> = Vec::with_capacity(files.len());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, files.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(path) = files.get(number) else { return };
                    // Who listens has gone only where this whole run was given up.
                    if sender.send((number, run_one(path, system))).is_err() {
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

fn run_one(path: &Path, system: System) -> Done {
    let begun = Instant::now();
    let verdict = match kind_of(path) {
        Some(kind) => verdict_of(Case { path, kind }, system),
        None => Verdict::Unreadable("no kind of case has this end of its name".into()),
    };
    Done { path: path.to_owned(), verdict, took: begun.elapsed() }
}

/// A panic of one case is that case's failure.
fn verdict_of(case: Case<'_>, system: System) -> Verdict {
    let ended = catch_unwind(AssertUnwindSafe(|| (case.kind.run)(case.path, system)));
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

/// Scenarios are played by our stack alone, whatever else is tested.
fn scenario(path: &Path, _: System) -> Verdict {
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

/// A run as JUnit XML: one suite, a case for each file, its folder as its class.
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
        let class = one.path.parent().map(|folder| folder.display().to_string());
        let name = one.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let _ = write!(
            out,
            "  <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
            escaped(&class.unwrap_or_default()),
            escaped(&name.unwrap_or_default()),
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
        let files = find(&folder).expect("the folder");
        let mut told = 0;
        let done = run(&files, System::Ours, 2, &mut |_| told += 1);
        let names: Vec<String> = done
            .iter()
            .map(|one| one.path.strip_prefix(&folder).expect("inside").display().to_string())
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
