//! What programs see of files, pipes, locks, readiness and sockets is what they see on Linux: the same program, line by line.

use crate::harness::{Scratch, host, netcell, run};

const PYTHON: &str = "/usr/bin/python3";
const PRELUDE: &str = include_str!("linux_files/prelude.py");

/// Where a program works inside: behaviours are those of the filesystem there.
enum Place<'a> {
    /// tmpfs, at /tmp.
    Memory,
    /// A directory of the host, mapped read-write.
    Volume,
    /// A directory of the host below a layer in memory; what is in it was made by this program.
    Layer(&'a str),
}

/// Output lines of a program that must succeed.
fn lines(output: &std::process::Output, side: &str) -> Vec<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{side}: {:?}\n{text}\n{errors}", output.status);
    text.lines().map(str::to_owned).collect()
}

/// Runs a program on the host and inside; every line must be the same, but for those that begin with an exception's label,
/// which must differ (an exception that is not needed any more goes).
fn same(program: &str, place: &Place<'_>, exceptions: &[(&str, &str)]) {
    let source = format!("{PRELUDE}{program}");
    let program = [PYTHON, "-c", &source];
    let (outside, inner) = (Scratch::new(), Scratch::new());
    if let Place::Layer(prepare) = place {
        for folder in [&outside, &inner] {
            lines(&run(&mut host(&[PYTHON, "-c", prepare], folder.path()), b""), "preparation");
        }
    }
    let expected = lines(&run(&mut host(&program, outside.path()), b""), "host");
    let folder = inner.path().to_string_lossy().into_owned();
    let volume = match place {
        Place::Memory => String::new(),
        Place::Volume => format!("{folder}:/v"),
        Place::Layer(_) => format!("{folder}:/v:overlay"),
    };
    let flags = match place {
        Place::Memory => vec!["--workdir", "/tmp"],
        _ => vec!["--volume", &volume, "--workdir", "/v"],
    };
    let given = lines(&run(&mut netcell(&flags, &program), b""), "sandbox");
    let excepted = |line: &str| exceptions.iter().any(|(label, _)| line.starts_with(label));
    let mut differences = Vec::new();
    for at in 0..expected.len().max(given.len()) {
        let (want, got) = (expected.get(at), given.get(at));
        let label = want.or(got).map_or("", |line| line.as_str());
        if (want == got) == excepted(label) {
            differences.push(format!("Linux:   {want:?}\nsandbox: {got:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A test for each program, in a place, with exceptions and their reasons.
macro_rules! conformance {
    ($($test:ident: $file:literal in $place:expr $(, except $label:literal because $reason:literal)*;)*) => {$(
        #[test]
        fn $test() {
            same(include_str!(concat!("linux_files/", $file)), &$place, &[$(($label, $reason)),*]);
        }
    )*};
}

conformance! {
    open_flags_and_errors: "open.py" in Place::Memory;
    openat2_resolve_flags: "resolve.py" in Place::Memory;
    permissions_of_users_and_modes: "permissions.py" in Place::Memory;
    names_directories_and_roots: "names.py" in Place::Memory;
    times_sizes_holes_and_copies: "times_and_space.py" in Place::Memory;
}
