//! Completions of shells and manual pages, made from the command line itself.

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::install::{COMPLETIONS, Manual};

/// Print the completions of a shell
///
/// `netcell install --only manuals` puts those of bash, fish and zsh in their places.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  source <(netcell completion bash)")]
pub struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// Prints the completions and gives the exit status.
pub fn completion(args: &CompletionArgs) -> Result<u8> {
    use std::io::Write;
    std::io::stdout().lock().write_all(&completions(args.shell))?;
    Ok(0)
}

fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "netcell", &mut text);
    text
}

/// What `netcell install` puts on a host for people: a page for each command, and completions.
pub(super) fn all() -> Result<Vec<Manual>> {
    let mut command = super::Cli::command().disable_help_subcommand(true);
    command.build();
    let shells = [Shell::Bash, Shell::Fish, Shell::Zsh];
    let places = COMPLETIONS.into_iter().zip(shells);
    let mut manuals: Vec<_> =
        places.map(|(place, shell)| Manual::new(place, completions(shell))).collect();
    add_pages(&command, &mut manuals)?;
    Ok(manuals)
}

/// The page of a command, and those of the commands below it.
fn add_pages(command: &clap::Command, manuals: &mut Vec<Manual>) -> Result<()> {
    let page = Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    manuals.push(Manual::new(format!("man/man1/{}", page.get_filename()), text));
    let shown = |below: &&clap::Command| !below.is_hide_set();
    command.get_subcommands().filter(shown).try_for_each(|below| add_pages(below, manuals))
}
