//! Calls on paths: link, unlink, rename, mkdir, symlink, readlink, chdir, chroot, umask.

use crate::rows;

rows! {}
