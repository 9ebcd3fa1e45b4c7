//! Processes, threads, signals, time, futexes, memory and credentials behave as on the host: programs that print a line
//! for each checked behaviour, compiled here and run on both sides.

use crate::harness::{Scratch, same_program_as_host, sh};

/// What all the programs include.
const CHECK_H: &str = include_str!("linux/check.h");

/// Compiles a program and expects the same lines from the host and the sandbox. The program is at the same path in both:
/// it may execute itself.
fn same(name: &str, source: &str) {
    let (folder, program) = compiled(name, source);
    same_program_as_host(&["--volume", &volume(&folder)], &[&program]);
}

/// Compiles a program; its folder and its path.
pub fn compiled(name: &str, source: &str) -> (Scratch, String) {
    let folder = Scratch::new();
    std::fs::write(folder.file("check.h"), CHECK_H).expect("check.h");
    let (c, program) = (folder.file(&format!("{name}.c")), folder.file(name));
    std::fs::write(&c, source).expect("source");
    sh(&format!("gcc -O1 -w -mavx -pthread -o {program} {c}"));
    (folder, program)
}

/// The folder at the same path in the sandbox, for `--volume`.
pub fn volume(folder: &Scratch) -> String {
    format!("{0}:{0}:ro", folder.path().display())
}

macro_rules! programs {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            same(stringify!($name), include_str!(concat!("linux/", stringify!($name), ".c")));
        })*
    };
}

programs! {
    threads
    calls
    clone
    family
    signals
    exec
    wait
    interrupt
    faults
    timers
    futexes
    memory
    limits
    credentials
}
