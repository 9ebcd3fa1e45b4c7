//! `%{ Python }%`: what a script asserts of the connection (TCP_INFO), run by a python3 of the host at the end of the script.

use std::io::Write;
use std::process::{Command, Stdio};

use serde::Serialize;

use super::{Failure, Stop};

/// A piece of Python with what the kernel told when it was its turn.
#[derive(Debug, Serialize)]
pub struct Code {
    /// The line of the script.
    pub line: usize,
    /// The text.
    pub text: String,
    /// Members of struct tcp_info.
    pub variables: Vec<(String, i64)>,
}

/// Runs the pieces one after another. They share their names, so that one may remember something for a later one.
const DRIVER: &str = include_str!("code.py");

/// Runs all pieces. Errors: the first assertion that does not hold; a host without Python.
pub fn run(codes: &[Code]) -> Result<(), Stop> {
    let Some(first) = codes.first() else { return Ok(()) };
    let refused = |why: String| Stop::Refused { line: first.line, why };
    let child = Command::new("python3")
        .args(["-I", "-c", DRIVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let mut child = child.map_err(|error| {
        refused(format!("%{{ }}% is Python, and python3 cannot be run here: {error}"))
    })?;
    let input = serde_json::to_vec(codes).map_err(|error| refused(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that is gone has told why.
        let _ = stdin.write_all(&input);
    }
    let output = child.wait_with_output().map_err(|error| refused(error.to_string()))?;
    let told = String::from_utf8_lossy(&output.stdout);
    match told.lines().last().and_then(|line| line.strip_prefix("netcell:")) {
        Some(" passed") => Ok(()),
        Some(failed) => {
            let (line, why) = failed.trim().split_once(' ').unwrap_or((failed, ""));
            let line = line.parse().unwrap_or(first.line);
            let code = codes.iter().find(|code| code.line == line);
            Err(Stop::Failed(Box::new(Failure {
                line,
                what: "an assertion".into(),
                expected: code.map_or(String::new(), |code| code.text.trim().to_owned()),
                came: why.to_owned(),
                rule: None,
                about: String::new(),
            })))
        }
        None => Err(refused("python3 ended before the assertions did".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: usize, text: &str) -> Code {
        Code { line, text: text.into(), variables: vec![("tcpi_snd_cwnd".into(), 10)] }
    }

    #[test]
    fn assertions_hold_or_are_told() {
        let right = [code(1, " before = tcpi_snd_cwnd "), code(2, "\n    assert before == 10\n")];
        run(&right).expect("it holds");
        let wrong = [code(1, "assert True"), code(7, "assert tcpi_snd_cwnd == 11, tcpi_snd_cwnd")];
        let Err(Stop::Failed(failure)) = run(&wrong) else { panic!("it does not hold") };
        assert_eq!(
            (failure.line, failure.came.as_str()),
            (7, "AssertionError: 10; tcpi_snd_cwnd = 10")
        );
        let Err(Stop::Failed(failure)) = run(&[code(3, "if")]) else { panic!("no Python") };
        assert_eq!(failure.line, 3);
        assert!(failure.came.starts_with("SyntaxError"), "{}", failure.came);
    }
}
