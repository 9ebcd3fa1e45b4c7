//! The OCI runtime, on bundles that are made on the spot from busybox: what runc does with them is what is expected.

mod bad;
mod bundle;
mod containerd;
mod cri;
mod docker;
mod handoff;
mod life;
mod many;
mod networks;
mod node;
mod pod;
mod podman;
mod programs;
mod same;
mod services;
mod streams;
