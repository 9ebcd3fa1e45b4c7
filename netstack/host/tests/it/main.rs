//! The stack over a real TAP device against the host's kernel. Each test runs in a network namespace of its own thread, which
//! disappears with it; without the privilege or the device the tests say so and end.

mod interop;
mod packet;
mod tap;
