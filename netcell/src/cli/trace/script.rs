//! `netcell trace script`: scripts in the language of packetdrill over the stack.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use pcap_tests::script::{Note, Script, Stop, System, Way};

use super::on::On;
use super::tape::Tape;
use super::{EXIT_DIFFERENT, EXIT_UNREADABLE};

/// Run scripts in the language of packetdrill: system calls, packets that arrive, packets that must be sent.
///
/// The stack runs in this process and in virtual time: no root, no network, no waiting. A script that fails says the line, what it
/// expected, what came, and the rule where one is known.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  netcell trace script handshake.pkt
  netcell trace script -v lost.pkt                 every packet and call as it happens
  netcell trace script lost.pkt --write lost.pcapng && netcell trace plot lost.pcapng -o lost.svg
  netcell trace script --on linux lost.pkt         does Linux do the same? (root, real time)

A script:
  0    socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0   bind(3, ..., ...) = 0
  +0   listen(3, 1) = 0
  +0   < S 0:0(0) win 65535 <mss 1000>
  +0   > S. 0:0(0) ack 1 <...>
  +.1  < . 1:1(0) ack 1 win 65535
  +0   accept(3, ..., ...) = 4
  +0   write(4, ..., 100) = 100
  +0   > P. 1:101(100) ack 1
  +.2~+.3 > P. 1:101(100) ack 1

The exit status is 0 where all scripts passed, 1 where one failed, 2 where one cannot be read or run. docs/traces.md has the language.")]
pub struct ScriptArgs {
    /// Scripts (.pkt)
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Whose kernel is tested
    #[arg(long, value_enum, default_value_t)]
    on: On,
    /// Tell every packet and call as it happens
    #[arg(long, short)]
    verbose: bool,
    /// Keep the packets in this file (of one script)
    #[arg(long, value_name = "OUT.pcapng")]
    write: Option<PathBuf>,
}

pub fn run(args: &ScriptArgs) -> Result<u8> {
    if args.write.is_some() && args.files.len() > 1 {
        anyhow::bail!(
            "--write keeps the packets of one script, and these are {}",
            args.files.len()
        );
    }
    let mut status = 0;
    for file in &args.files {
        let name = file.display();
        match run_one(args, file)? {
            Ok(()) => println!("{name}: passed"),
            Err(Stop::Failed(failure)) => {
                println!("{name}: failed\n{failure}");
                status = status.max(EXIT_DIFFERENT);
            }
            Err(refused) => {
                eprintln!("netcell: {name}: {refused}");
                status = EXIT_UNREADABLE;
            }
        }
    }
    Ok(status)
}

fn run_one(args: &ScriptArgs, file: &Path) -> Result<Result<(), Stop>> {
    let name = || file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(name)?;
    let script = match Script::parse(&text) {
        Ok(script) => script,
        Err(error) => {
            let why = format!("column {}: {}", error.column, error.what);
            return Ok(Err(Stop::Refused { line: error.line, why }));
        }
    };
    let mut tape = match &args.write {
        Some(path) => Some(Tape::create_raw(path)?),
        None => None,
    };
    let mut broken = None;
    let verbose = args.verbose;
    let played = System::from(args.on).play(&script, &mut |note| match note {
        Note::Packet(at, way, bytes) => {
            if let Some(tape) = &mut tape
                && let Err(error) = tape.add(at, way == Way::Out, bytes)
            {
                broken.get_or_insert(error);
            }
        }
        Note::Line(at, line) if verbose => println!("{:.6} {line}", at.as_secs_f64()),
        Note::Line(..) => {}
    });
    if let Some(tape) = tape {
        tape.finish()?;
    }
    broken.map_or(Ok(()), Err)?;
    Ok(played)
}
