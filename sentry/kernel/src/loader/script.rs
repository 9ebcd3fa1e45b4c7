//! Scripts: the `#!` line (execve(2), "Interpreter scripts"; binfmt_script.c).

use sentry_abi::Errno;

/// Bytes of a file that are looked at (BINPRM_BUF_SIZE).
pub const LINE_MAX: usize = 256;

/// What a `#!` line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interpreter {
    /// Path of the interpreter.
    pub path: Vec<u8>,
    /// The rest of the line, as one argument.
    pub argument: Option<Vec<u8>>,
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// True for bytes that begin a script.
pub fn is_script(head: &[u8]) -> bool {
    head.starts_with(b"#!")
}

/// Parses the first bytes of a script (at most [`LINE_MAX`] count). Errors: ENOEXEC for a line without an interpreter, or one whose path is cut off.
pub fn parse(head: &[u8]) -> Result<Interpreter, Errno> {
    let head = head.get(..LINE_MAX).unwrap_or(head);
    let line = head.strip_prefix(b"#!").ok_or(Errno::ENOEXEC)?;
    let end = line.iter().position(|byte| *byte == b'\n');
    // Without a newline in a full buffer the line goes on; only its argument may be cut off.
    let cut_off = end.is_none() && head.len() == LINE_MAX;
    // Linux keeps the buffer's last byte for its own NUL.
    let end = end.unwrap_or(line.len() - usize::from(cut_off));
    let line = line.get(..end).unwrap_or(line);
    let line = line.split(|byte| *byte == 0).next().unwrap_or(line);
    let start = line.iter().position(|byte| !is_blank(byte)).ok_or(Errno::ENOEXEC)?;
    let line = line.get(start..).unwrap_or_default();
    let path_len = line.iter().position(is_blank);
    if path_len.is_none() && cut_off {
        return Err(Errno::ENOEXEC);
    }
    let (path, rest) = line.split_at(path_len.unwrap_or(line.len()));
    let first = rest.iter().position(|byte| !is_blank(byte));
    let last = rest.iter().rposition(|byte| !is_blank(byte));
    let argument = match (first, last) {
        (Some(first), Some(last)) => rest.get(first..=last).map(<[u8]>::to_vec),
        _ => None,
    };
    Ok(Interpreter { path: path.to_vec(), argument })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(head: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), Errno> {
        parse(head).map(|found| (found.path, found.argument))
    }

    #[test]
    fn the_rest_of_the_line_is_one_argument() {
        assert_eq!(line(b"#!/bin/sh\n"), Ok((b"/bin/sh".to_vec(), None)));
        let found = line(b"#! \t/usr/bin/env  python3 -u \t\nrest");
        assert_eq!(found, Ok((b"/usr/bin/env".to_vec(), Some(b"python3 -u".to_vec()))));
        assert_eq!(line(b"#!/bin/sh"), Ok((b"/bin/sh".to_vec(), None)));
    }

    #[test]
    fn lines_without_an_interpreter_are_refused() {
        for head in [&b"#!"[..], b"#!\n", b"#!  \t\n/bin/sh", b"#", b""] {
            assert_eq!(line(head), Err(Errno::ENOEXEC), "{head:?}");
        }
    }

    #[test]
    fn a_cut_off_path_is_refused_and_a_cut_off_argument_is_not() {
        let mut head = b"#!/".to_vec();
        head.resize(400, b'a');
        assert_eq!(line(&head), Err(Errno::ENOEXEC));
        let mut head = b"#!/bin/sh ".to_vec();
        head.resize(400, b'a');
        let (path, argument) = line(&head).unwrap();
        assert_eq!((path, argument.map(|a| a.len())), (b"/bin/sh".to_vec(), Some(245)));
    }
}
