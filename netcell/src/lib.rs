//! The library behind `netcell`: the command line, containers, and the sandbox's boot. It must not know system calls or protocols.
#![forbid(unsafe_code)]

pub mod cli;
mod container;
mod control;
mod install;
mod oci;
mod sandbox;
