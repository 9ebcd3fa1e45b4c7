//! The table: one row a system call, with its number, how much of it is there and a note. Everything else (dispatch, strace, docs) is made from it.

use std::sync::LazyLock;

use sentry_abi::Errno;
use sentry_kernel::Result;
use sentry_kernel::task::CurrentTask;

/// How much of a call is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// As on Linux, as far as a program can tell.
    Full,
    /// A part; the note says what is missing.
    Partial,
    /// Answers an error that Linux would give; the note says which and why.
    Refused,
}

/// One system call.
pub struct Row {
    /// Name as in the manual.
    pub name: &'static str,
    /// Number on x86-64.
    pub number: u32,
    /// How much is there.
    pub support: Support,
    /// What is missing; empty for full support.
    pub note: &'static str,
    /// How many argument words it takes.
    pub words: usize,
    /// Decodes the arguments and does it.
    pub call: fn(&mut CurrentTask, &[u64; 6]) -> Result<u64>,
}

/// Declares a family's rows: `name = number full;`, `name = number partial "what is missing";`
/// or `name = number refused "which error and why";`, each bound to the function of that name in the same module.
///
/// A handler is `fn name(task: &CurrentTask or &mut CurrentTask, args…) -> Result<u64, (), Fd, …>` with up to six
/// arguments of types that implement [`FromArg`](crate::args::FromArg).
#[macro_export]
macro_rules! rows {
    ($($name:ident = $number:literal $support:ident $($note:literal)?;)*) => {
        /// This family's rows of the table.
        pub const ROWS: &[$crate::table::Row] = &[$(
            $crate::table::Row {
                name: stringify!($name),
                number: $number,
                support: $crate::rows!(@ $support),
                note: concat!($($note)?),
                words: $crate::args::words_of(&$name),
                call: |task, words| $crate::args::Handler::call(&$name, task, words),
            },
        )*];
    };
    (@ full) => { $crate::table::Support::Full };
    (@ partial) => { $crate::table::Support::Partial };
    (@ refused) => { $crate::table::Support::Refused };
}

/// All families, in the order of the documentation. A new family is a line here and a `mod` line in the crate root.
pub const FAMILIES: &[(&str, &[Row])] = &[
    ("Files and descriptors", crate::file::ROWS),
    ("Paths", crate::fs_path::ROWS),
    ("Directories", crate::dir::ROWS),
    ("File attributes", crate::stat::ROWS),
    ("Extended attributes", crate::xattr::ROWS),
    ("Reading and writing", crate::rw::ROWS),
    ("Descriptor flags and locks", crate::fdflags::ROWS),
    ("Pipes", crate::pipe::ROWS),
    ("Polling", crate::poll::ROWS),
    ("epoll", crate::epoll::ROWS),
    ("Event descriptors", crate::event::ROWS),
    ("Mounts", crate::mount::ROWS),
    ("Memory", crate::mm::ROWS),
    ("System V shared memory", crate::ipc::ROWS),
    ("Sockets", crate::socket::ROWS),
    ("Sending and receiving", crate::sendrecv::ROWS),
    ("Processes", crate::process::ROWS),
    ("Signals", crate::signal::ROWS),
    ("Time", crate::time::ROWS),
    ("Futexes", crate::futex::ROWS),
    ("Scheduling", crate::sched::ROWS),
    ("Credentials", crate::cred::ROWS),
    ("System", crate::system::ROWS),
];

/// One more than the highest number that the table can hold.
pub const NUMBERS: usize = 512;

static INDEX: LazyLock<Vec<Option<&'static Row>>> = LazyLock::new(|| {
    let mut index = vec![None; NUMBERS];
    for row in FAMILIES.iter().flat_map(|(_, rows)| rows.iter()) {
        if let Some(slot) = index.get_mut(row.number as usize) {
            *slot = Some(row);
        }
    }
    index
});

/// The row of a number.
pub fn row(number: u64) -> Option<&'static Row> {
    usize::try_from(number).ok().and_then(|n| INDEX.get(n).copied().flatten())
}

/// Does a call. Errors: those of the call; ENOSYS for a number without a row.
pub fn dispatch(task: &mut CurrentTask, number: u64, words: &[u64; 6]) -> Result<u64> {
    match row(number) {
        Some(row) => (row.call)(task, words),
        None => Err(Errno::ENOSYS.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_number_and_name_has_one_row_and_gaps_have_a_note() {
        let mut numbers = BTreeMap::new();
        let mut names = BTreeMap::new();
        for row in FAMILIES.iter().flat_map(|(_, rows)| rows.iter()) {
            assert!((row.number as usize) < NUMBERS, "{} has a number that is too high", row.name);
            assert_eq!(numbers.insert(row.number, row.name), None, "number {} twice", row.number);
            assert_eq!(names.insert(row.name, row.number), None, "{} twice", row.name);
            assert_eq!(row.support == Support::Full, row.note.is_empty(), "note of {}", row.name);
        }
    }
}
