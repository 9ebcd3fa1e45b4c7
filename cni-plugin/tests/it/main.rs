//! The plugin driven as runtimes drive it: the specification's environment and standard input, in network namespaces of the
//! test's own, with the reference plugins of Debian (containernetworking-plugins) before it.
#![forbid(unsafe_code)]

mod bad_input;
mod chained;
mod harness;
mod main_modes;
mod ports;
mod tap;
