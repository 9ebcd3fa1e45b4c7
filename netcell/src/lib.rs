//! The library behind `netcell`: the command line and the sandbox's boot. It must not know system calls or protocols.
#![forbid(unsafe_code)]

pub mod cli;
mod control;
mod install;
mod sandbox;
