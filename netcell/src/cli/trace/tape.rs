//! A capture that is written while a stack plays.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use netstack_host::pcapng::{self, Way};

/// LINKTYPE_RAW: packets from their IP header on.
const LINKTYPE_RAW: u16 = 101;

/// The file with what was played.
pub struct Tape<'a> {
    path: &'a Path,
    out: BufWriter<File>,
}

impl<'a> Tape<'a> {
    /// For Ethernet frames.
    pub fn create(path: &'a Path) -> Result<Self> {
        Self::of(path, ("eth0", pcapng::LINKTYPE_ETHERNET), "netcell trace replay")
    }

    /// For packets without a link layer.
    pub fn create_raw(path: &'a Path) -> Result<Self> {
        Self::of(path, ("eth0", LINKTYPE_RAW), "netcell trace script")
    }

    /// For the Ethernet frames of a link of a scenario.
    pub fn create_link(path: &'a Path, link: &str) -> Result<Self> {
        Self::of(path, (link, pcapng::LINKTYPE_ETHERNET), "netcell trace sim")
    }

    fn of(path: &'a Path, (interface, kind): (&str, u16), program: &str) -> Result<Self> {
        let name = || path.display().to_string();
        let mut out = BufWriter::new(File::create(path).with_context(name)?);
        pcapng::section(&mut out, program).with_context(name)?;
        pcapng::interface(&mut out, interface, kind).with_context(name)?;
        Ok(Self { path, out })
    }

    /// One packet.
    pub fn add(&mut self, time: Duration, is_ours: bool, bytes: &[u8]) -> std::io::Result<()> {
        let way = if is_ours { Way::Outbound } else { Way::Inbound };
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        pcapng::packet(&mut self.out, 0, nanos, way, bytes)
    }

    /// All of it is in the file.
    pub fn finish(mut self) -> Result<()> {
        self.out.flush().with_context(|| self.path.display().to_string())
    }
}
