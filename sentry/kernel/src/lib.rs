//! The application kernel: tasks, signals, memory, files and time. It must not know any filesystem, protocol or system-call number by name.
//!
//! A filesystem is reached through [`vfs::Inode`] and [`file::FileOps`], a socket family through [`socket::SocketFamily`],
//! program memory through [`io::Sink`] and [`io::Source`]. `sentry-fs` and `sentry-net` implement those traits,
//! `sentry-syscalls` calls the methods here, `sentry` composes them.
//!
//! # Lock order
//!
//! A thread takes locks downwards only; `sync::lock_order` holds the same list as ranks and debug builds check it.
//!
//! ```text
//! file position → kernel → pid namespace → thread group → task → signal
//!   fd table → mount namespace → rename → dentry → inode
//!     socket → endpoint · pipe
//!       futex → mm map → mappings → mm pages → page cache → memory file
//!         wait queue → timer
//! ```
#![forbid(unsafe_code)]

pub mod cred;
pub mod device;
pub mod error;
pub mod file;
pub mod futex;
pub mod io;
pub mod ipc;
pub mod kernel;
pub mod limits;
pub mod loader;
pub mod log;
pub mod mm;
pub mod namespaces;
pub mod settings;
pub mod signal;
pub mod socket;
pub mod stats;
pub mod sync;
pub mod task;
pub mod time;
pub mod uts;
pub mod vfs;
pub mod wait;

pub use error::{Error, Result};
