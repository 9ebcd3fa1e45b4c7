//! `netcell trace replay`: the stack plays one side of a capture.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use pcap_tests::replay::{self, App, Outcome, Role, Script, Settings, Sink};

use super::on::On;
use super::progress;
use super::tape::Tape;
use super::terms::TermArgs;

/// A program of connections by its name.
fn app(name: &str) -> Result<App, String> {
    match (name, name.strip_prefix("script:")) {
        ("echo", _) => Ok(App::Echo),
        ("discard", _) => Ok(App::Discard),
        ("chargen", _) => Ok(App::Chargen),
        (_, Some(file)) => {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
            let script = text.parse::<Script>().map_err(|why| format!("{file}: {why}"))?;
            Ok(App::Script(Arc::new(script)))
        }
        _ => Err("it is none of echo, discard, chargen, script:FILE".into()),
    }
}

/// Let the stack play one side of a capture, in virtual time, and compare. Or let Linux.
///
/// What the other side sent is fed in when it was recorded. What the program on our side did (connect, write, close, reset)
/// is read from the record. The stack's sequence numbers and timestamps are mapped onto the recorded ones.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  netcell trace replay broken.pcapng --as 10.0.0.2:80          our stack as the server
  netcell trace replay broken.pcapng --as fd00::1 --strict acks
  netcell trace replay broken.pcapng --as 10.0.0.2 --on linux  the same by the host's Linux (root, real time)
  netcell trace replay broken.pcapng --as 10.0.0.2:80 --app script:server.txt
  netcell trace replay broken.pcapng --as 10.0.0.2 --write ours.pcapng && netcell trace plot ours.pcapng -o ours.svg

A script of --app has a line for each thing that the program does, one after the other:
  read 100, read         reads so many bytes; until the other side has closed
  write \"text\\r\\n\"      writes a text (also \\n \\t \\\\ \\\" \\x2a)
  write 1000             writes so many bytes of a pattern
  wait 0.5               seconds
  close, reset           writes no more; ends the connection

Replayed are TCP connections whose beginning is in the capture, datagrams, echoes that were asked of our side, and ICMP errors about all of them. The exit status is 0 where the stack did what was recorded,
1 where it did otherwise, 2 where the capture cannot be read.")]
pub struct ReplayArgs {
    /// pcap or pcapng, also compressed with gzip or zstd
    file: PathBuf,
    /// Whom the stack plays; may be given more than once
    #[arg(long = "as", value_name = "HOST[:PORT]", required = true)]
    roles: Vec<Role>,
    /// Keep what was played in this file
    #[arg(long, value_name = "OUT.pcapng")]
    write: Option<PathBuf>,
    /// What the programs of its connections do, where it is not what was recorded of them
    #[arg(long, value_name = "echo|discard|chargen|script:FILE", value_parser = app)]
    app: Option<App>,
    /// Whose kernel plays
    #[arg(long, value_enum, default_value_t)]
    on: On,
    /// In real time: wait no longer than this for the next frame while something is under way, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Settings::MAX_GAP.as_secs())]
    max_gap: u64,
    #[command(flatten)]
    terms: TermArgs,
}

pub fn run(args: &ReplayArgs) -> Result<u8> {
    let name = args.file.display().to_string();
    let mut out = args.write.as_deref().map(Tape::create).transpose()?;
    let mut keep = out
        .as_mut()
        .map(|tape| |time: Duration, is_ours: bool, bytes: &[u8]| tape.add(time, is_ours, bytes));
    let sink = keep.as_mut().map(|keep| keep as Sink<'_>);
    let open = || progress::open(&args.file);
    let settings = Settings {
        system: args.on.into(),
        max_gap: Duration::from_secs(args.max_gap),
        terms: args.terms.terms(),
        app: args.app.clone().unwrap_or_default(),
        ..Settings::of(&args.roles)
    };
    let outcome = replay::replay(&open, &settings, sink).with_context(|| name.clone())?;
    if let Some(tape) = out {
        tape.finish()?;
    }
    for note in &outcome.notes {
        eprintln!("netcell: {name}: {note}");
    }
    if outcome.flows == 0 {
        match outcome.left_out.first() {
            Some((flow, why)) => bail!("{name}: nothing to replay: flow {flow}: {why}"),
            None => bail!("{name}: nobody of that address is in the capture"),
        }
    }
    let status = super::told_verdict(&outcome.verdict, args.terms.quiet)?;
    if !args.terms.quiet {
        tell_rest(&name, &outcome);
    }
    // What could not be fed is no agreement.
    Ok(if outcome.notes.is_empty() { status } else { status.max(super::EXIT_DIFFERENT) })
}

/// What the verdict does not speak of.
fn tell_rest(name: &str, outcome: &Outcome) {
    if !outcome.left_out.is_empty() {
        eprintln!("netcell: {name}: {} flows were not replayed:", outcome.left_out.len());
        outcome.left_out.iter().for_each(|(flow, why)| eprintln!("  flow {flow}: {why}"));
    }
    let whiles =
        ["while nothing was under way", "longer than --max-gap while something was under way"];
    for ((count, sum), during) in outcome.shortened.iter().zip(whiles).filter(|((n, _), _)| *n > 0)
    {
        eprintln!("netcell: {name}: {count} gaps {during} were cut short, by {sum:.1?} in all");
    }
}
