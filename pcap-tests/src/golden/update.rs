//! Goldens rewritten: what the stack and the recorded other side exchange now takes the place of what was recorded.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use netstack_host::pcapng::{self, Way};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::{Exchanged, Golden};
use crate::script::System;

/// Two sides of one capture, each played by the stack, may change it in turns; more often than that they contradict each other.
const MAX_ROUNDS: usize = 4;

/// Rewrites a capture until all its goldens pass; one whose goldens pass already stays as it is, byte for byte. Gives whether it was
/// rewritten. Errors: it cannot be read or written, or does not pass however often it is rewritten; it stays as it was.
pub fn update(path: &Path, goldens: &[&Golden]) -> Result<bool, String> {
    let mut file: Arc<[u8]> = fs::read(path).map_err(|error| error.to_string())?.into();
    let mut is_new = false;
    for _ in 0..MAX_ROUNDS {
        let mut passed = true;
        for golden in goldens {
            let played =
                golden.replay_of(&file, System::Ours).map_err(|error| error.to_string())?;
            if golden.complaint(&played)?.is_none() {
                continue;
            }
            passed = false;
            file = written(path, &played.frames).map_err(|error| error.to_string())?.into();
            is_new = true;
        }
        if passed {
            if is_new {
                replace(path, &file).map_err(|error| error.to_string())?;
            }
            return Ok(is_new);
        }
    }
    Err("rewritten it would not pass, either: it stays as it was".into())
}

/// What was played as a capture of the format that the name tells.
pub(super) fn written(path: &Path, frames: &[Exchanged]) -> io::Result<Vec<u8>> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let (plain, packing) = name.rsplit_once('.').unwrap_or((&name, ""));
    let is_packed = matches!(packing, "gz" | "zst");
    let format = if is_packed { plain } else { &name };
    let bytes = if format.ends_with(".pcap") { pcap(frames) } else { pcapng(frames)? };
    match packing {
        "gz" => {
            let mut out = GzEncoder::new(Vec::new(), Compression::best());
            out.write_all(&bytes)?;
            out.finish()
        }
        "zst" => Ok(compress_to_vec(bytes.as_slice(), CompressionLevel::Fastest)),
        _ => Ok(bytes),
    }
}

fn pcapng(frames: &[Exchanged]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    pcapng::section(&mut out, "netcell trace check --update")?;
    pcapng::interface(&mut out, "eth0", pcapng::LINKTYPE_ETHERNET)?;
    for (time, is_ours, bytes) in frames {
        let way = if *is_ours { Way::Outbound } else { Way::Inbound };
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        pcapng::packet(&mut out, 0, nanos, way, bytes)?;
    }
    Ok(out)
}

/// The magic number of a pcap file with nanoseconds.
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const SNAP_LEN: u32 = 262_144;

fn pcap(frames: &[Exchanged]) -> Vec<u8> {
    let words = |words: [u32; 4]| words.map(u32::to_le_bytes).concat();
    let version = 2 | 4 << 16;
    let mut out = words([NANOSECONDS, version, 0, 0]);
    out.extend(SNAP_LEN.to_le_bytes());
    out.extend(u32::from(pcapng::LINKTYPE_ETHERNET).to_le_bytes());
    for (time, _, bytes) in frames {
        let second = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        out.extend(words([second, Duration::subsec_nanos(time), len, len]));
        out.extend(bytes);
    }
    out
}

/// Puts a whole file in the place of another, or leaves that one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // The error that is told is the first.
        let _ = fs::remove_file(&beside);
    }
    written
}
