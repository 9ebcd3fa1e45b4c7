//! A program of a connection in lines: what it reads, writes and waits for.

use std::time::Duration;

/// The most that one line writes.
const MAX_WRITE: u64 = 1 << 40;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Reads so many bytes; none: until the other side has closed.
    Read(Option<u64>),
    /// Writes these bytes.
    Write(Vec<u8>),
    /// Writes so many bytes of a pattern.
    WriteCount(u64),
    /// Does nothing for a while.
    Wait(Duration),
    /// Writes no more.
    Close,
    /// Ends the connection with a reset.
    Reset,
}

/// What a program does, line by line. Each waits for the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// In order.
    pub lines: Vec<Line>,
}

impl std::str::FromStr for Script {
    type Err = String;

    /// Errors: with the number of the line.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let parsed = parsed(line.trim());
            lines.extend(parsed.map_err(|why| format!("line {number}: {why}"))?);
        }
        Ok(Self { lines })
    }
}

fn parsed(line: &str) -> Result<Option<Line>, String> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (rest, text) = match rest.trim() {
        quoted if quoted.starts_with('"') => ("", Some(quoted)),
        rest => (rest.split('#').next().unwrap_or_default().trim(), None),
    };
    let count = || match rest.parse() {
        Ok(count) if count <= MAX_WRITE => Ok(count),
        _ => Err(format!("{rest:?} is no number of bytes")),
    };
    let line = match (word.split('#').next().unwrap_or_default(), text) {
        ("", _) => return Ok(None),
        ("write", Some(text)) => Line::Write(unquoted(text)?),
        (_, Some(_)) => return Err(format!("{word:?} takes no text")),
        ("write", None) => Line::WriteCount(count()?),
        ("read", None) if rest.is_empty() => Line::Read(None),
        ("read", None) => Line::Read(Some(count()?)),
        ("wait", None) => {
            let seconds = rest.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
            Line::Wait(seconds.ok_or_else(|| format!("{rest:?} is no time in seconds"))?)
        }
        ("close" | "reset", None) if !rest.is_empty() => {
            return Err(format!("{word:?} stands alone"));
        }
        ("close", None) => Line::Close,
        ("reset", None) => Line::Reset,
        _ => {
            return Err(format!("{word:?} is none of read, write, wait, close, reset"));
        }
    };
    Ok(Some(line))
}

/// The bytes of a text in quotation marks: `\n`, `\r`, `\t`, `\\`, `\"` and `\x2a` are one byte each.
fn unquoted(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.strip_prefix('"').unwrap_or(text).chars();
    loop {
        match rest.next() {
            None => return Err("the text has no end".into()),
            Some('"') => break,
            Some('\\') => bytes.push(match rest.next() {
                Some('n') => b'\n',
                Some('r') => b'\r',
                Some('t') => b'\t',
                Some(same @ ('\\' | '"')) => same as u8,
                Some('x') => {
                    let digits: String = rest.by_ref().take(2).collect();
                    let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2);
                    byte.ok_or_else(|| format!("\\x{digits} is no byte"))?
                }
                other => return Err(format!("\\{} means nothing", other.unwrap_or(' '))),
            }),
            Some(plain) => bytes.extend(plain.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    match rest.as_str().trim() {
        after if after.is_empty() || after.starts_with('#') => Ok(bytes),
        after => Err(format!("{after:?} stands behind the text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_what_makes_no_sense_is_told_with_its_line() {
        let text = "# a server\nread 16\nwait 0.25   # it thinks\nwrite \"OK \\x41\\r\\n\" # and \"\nwrite 100\n\nread\nclose\nreset";
        let lines = text.parse::<Script>().expect("a script").lines;
        let expected = [
            Line::Read(Some(16)),
            Line::Wait(Duration::from_millis(250)),
            Line::Write(b"OK A\r\n".to_vec()),
            Line::WriteCount(100),
            Line::Read(None),
            Line::Close,
            Line::Reset,
        ];
        assert_eq!(lines, expected);
        for wrong in [
            "open",
            "read x",
            "read -1",
            "write",
            "write \"a",
            "write \"\\q\"",
            "write \"\\x1\"",
            "write \"a\" b",
            "wait",
            "wait -1",
            "wait 1e300",
            "close 1",
            "read \"a\"",
            "write 99999999999999999999",
        ] {
            let told = format!("close\n{wrong}").parse::<Script>().expect_err(wrong);
            assert!(told.starts_with("line 2: "), "{wrong}: {told}");
        }
    }
}
