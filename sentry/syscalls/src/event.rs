//! eventfd, timerfd, signalfd, inotify, memfd_create, pidfd descriptors.

use crate::rows;

rows! {}
