//! End-to-end tests: the real command, real programs, the host's kernel as the judge. They need root.

mod bad_input;
mod capture;
mod cni;
mod harness;
mod install;
mod linux_files;
mod linux_tasks;
mod loopback;
mod network;
mod oci;
mod packet;
mod platforms;
mod programs;
mod sockets;
mod sockopt;
mod terminal;
mod tools;
mod trace;
mod tracepoints;
