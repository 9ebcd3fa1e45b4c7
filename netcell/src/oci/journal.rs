//! What the runtime tells its caller: lines on standard error and, where `--log` names a file, lines there that callers read errors from.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::ValueEnum;
use sentry::{Level, Log};

/// `--log-format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `time="…" level=… msg="…"`
    #[default]
    Text,
    /// An object a line, with `level`, `msg` and `time`.
    Json,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Where lines go.
#[derive(Debug)]
pub struct Journal {
    path: Option<PathBuf>,
    file: Option<File>,
    format: Format,
    most: Level,
}

impl Journal {
    /// Opens the file, where there is one, to append to it. Lines up to `most` are written.
    pub fn open(path: Option<&Path>, format: Format, most: Level) -> Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().append(true).create(true).open(path);
            file.with_context(|| format!("cannot write --log {}", path.display()))
        };
        let file = path.map(open).transpose()?;
        Ok(Self { path: path.map(Path::to_owned), file, format, most })
    }

    /// The words of the command line that give another process the same journal.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        if let Some(path) = &self.path {
            flags.extend(["--log".into(), path.display().to_string()]);
            flags.extend(["--log-format".into(), self.format.to_string()]);
        }
        if self.most >= Level::Debug {
            flags.push("--debug".into());
        }
        flags
    }

    /// Says why the command failed: in the file, and on standard error.
    pub fn fail(&self, message: &str) {
        self.line(Level::Error, message);
        if self.file.is_some() {
            eprintln!("netcell: {message}");
        }
    }

    /// Says what its reader should know.
    pub fn warn(&self, message: &str) {
        self.line(Level::Warn, message);
    }

    /// Says what explains what is seen inside.
    pub fn inform(&self, message: &str) {
        self.line(Level::Info, message);
    }

    fn line(&self, level: Level, message: &str) {
        if level > self.most {
            return;
        }
        let Some(mut file) = self.file.as_ref() else {
            eprintln!("netcell: {message}");
            return;
        };
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let level = match level {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        let line = match self.format {
            Format::Json => {
                serde_json::json!({ "level": level, "msg": message, "time": time }).to_string()
            }
            Format::Text => format!("time={time:?} level={level} msg={message:?}"),
        };
        // A full disk must not end what works; the exit status tells of a failure all the same.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

impl Log for Journal {
    fn enabled(&self, level: Level) -> bool {
        level <= self.most
    }

    fn write(&self, level: Level, line: fmt::Arguments<'_>) {
        self.line(level, &line.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_line_that_callers_can_read() {
        let path = std::env::temp_dir().join(format!("netcell-journal-{}", std::process::id()));
        let journal = Journal::open(Some(&path), Format::Json, Level::Warn).expect("a file");
        journal.fail("no \"such\"\nthing");
        journal.line(Level::Debug, "not asked for");
        let text = std::fs::read_to_string(&path).expect("the file");
        std::fs::remove_file(&path).expect("the file is there");
        let line: serde_json::Value = serde_json::from_str(&text).expect("one object");
        assert_eq!(line["level"], "error");
        assert_eq!(line["msg"], "no \"such\"\nthing");
        assert!(humantime::parse_rfc3339(line["time"].as_str().expect("a time")).is_ok());
    }
}
