//! `netcell install` and `netcell uninstall`: shows what changes on the host, asks, and does it.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::install::{self, Part, Plan, Sources};

/// Make netcell known to containerd, Docker and CNI on this host
///
/// Copies `netcell` and containerd's shim to /usr/local/bin and `netcell-cni` to /opt/cni/bin, adds the runtime `netcell` to
/// /etc/containerd/config.toml and /etc/docker/daemon.json where their folders are there, puts a sample list of CNI plugins
/// into /etc/cni/net.d, and manual pages and completions of shells below /usr/local/share.
/// What changes is shown first. No service is restarted.
#[derive(Args, Debug)]
pub struct InstallArgs {
    /// Install these parts alone, may be repeated
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// The CNI plugin [default: netcell-cni beside netcell]
    #[arg(long, value_name = "FILE")]
    cni_plugin: Option<PathBuf>,
    /// The shim of containerd [default: containerd-shim-netcell-v1 beside netcell]
    #[arg(long, value_name = "FILE")]
    shim: Option<PathBuf>,
    #[command(flatten)]
    consent: Consent,
}

/// Take back what `netcell install` did
#[derive(Args, Debug)]
pub struct UninstallArgs {
    #[command(flatten)]
    consent: Consent,
}

/// Where, and whether to ask.
#[derive(Args, Debug)]
struct Consent {
    /// The folder that stands for / (the host's root in a container)
    #[arg(long, value_name = "DIR", default_value = "/")]
    prefix: PathBuf,
    /// Do not ask
    #[arg(long, short, conflicts_with = "dry_run")]
    yes: bool,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
}

/// Installs and gives the exit status.
pub fn install(args: &InstallArgs) -> Result<u8> {
    let own = std::env::current_exe().context("cannot find the executable of netcell")?;
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let named_or_beside = |named: &Option<PathBuf>, name: &str| {
        let beside = own.with_file_name(name);
        let path = named.as_ref().or_else(|| beside.exists().then_some(&beside));
        path.map(|path| read(path)).transpose()
    };
    let sources = Sources {
        netcell: read(&own)?,
        cni_plugin: named_or_beside(&args.cni_plugin, "netcell-cni")?,
        shim: named_or_beside(&args.shim, "containerd-shim-netcell-v1")?,
        manuals: super::manuals::all()?,
    };
    let plan = Plan::install(&args.consent.prefix, &args.only, &sources)?;
    let done = "Restart containerd and Docker where their files changed.";
    settle(&plan, &args.consent, "is installed already", done)
}

/// Uninstalls and gives the exit status.
pub fn uninstall(args: &UninstallArgs) -> Result<u8> {
    let plan = Plan::uninstall(&args.consent.prefix)?;
    let done = "Restart containerd and Docker where their files changed.";
    settle(&plan, &args.consent, "is not installed", done)
}

fn settle(plan: &Plan, consent: &Consent, nothing: &str, done: &str) -> Result<u8> {
    let mut out = std::io::stdout().lock();
    if plan.changes().is_empty() {
        writeln!(out, "Nothing to do: netcell {nothing}.")?;
        return Ok(0);
    }
    for change in plan.changes() {
        write!(out, "{}", install::diff(change))?;
    }
    if consent.dry_run {
        return Ok(0);
    }
    if !consent.yes && !asks_and_hears_yes(&mut out)? {
        bail!("nothing was changed");
    }
    plan.carry_out()?;
    writeln!(out, "{done}")?;
    Ok(0)
}

fn asks_and_hears_yes(out: &mut impl Write) -> Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("nothing was changed: nobody is there to ask (--yes does it without)");
    }
    write!(out, "Change these files? [y/N] ")?;
    out.flush()?;
    let mut line = String::new();
    input.lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
