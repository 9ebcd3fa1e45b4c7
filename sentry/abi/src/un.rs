//! Local sockets (linux/un.h).

/// Longest path in `sun_path`, in bytes.
pub const UNIX_PATH_MAX: usize = 108;
/// Offset of `sun_path` in struct sockaddr_un.
pub const SUN_PATH_OFFSET: usize = 2;
