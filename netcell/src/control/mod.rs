//! The way to a sandbox that runs: a folder for each, with what it is and a socket to talk to it.
//!
//! A message is a JSON object in a packet of the socket (SOCK_SEQPACKET), with descriptors beside it where a request says so. The folder is
//! its owner's alone, and who connects must be that owner or root.

mod client;
mod folder;
mod message;
mod server;
mod session;

pub use client::Connection;
pub use folder::{About, Folder, default_root, running};
pub(crate) use folder::{SOCKET, check_id, listen, lock, remove};
pub use message::{Addition, Answer, Joined, ProcessLine, Request};
pub(crate) use message::{receive, send};
pub use server::{Serve, Server};
pub(crate) use session::heed;
