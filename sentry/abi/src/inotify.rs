//! linux/inotify.h: event bits and the records that are read.

/// IN_ACCESS
pub const IN_ACCESS: u32 = 0x1;
/// IN_MODIFY
pub const IN_MODIFY: u32 = 0x2;
/// IN_ATTRIB
pub const IN_ATTRIB: u32 = 0x4;
/// IN_CLOSE_WRITE
pub const IN_CLOSE_WRITE: u32 = 0x8;
/// IN_CLOSE_NOWRITE
pub const IN_CLOSE_NOWRITE: u32 = 0x10;
/// IN_OPEN
pub const IN_OPEN: u32 = 0x20;
/// IN_MOVED_FROM
pub const IN_MOVED_FROM: u32 = 0x40;
/// IN_MOVED_TO
pub const IN_MOVED_TO: u32 = 0x80;
/// IN_CREATE
pub const IN_CREATE: u32 = 0x100;
/// IN_DELETE
pub const IN_DELETE: u32 = 0x200;
/// IN_DELETE_SELF
pub const IN_DELETE_SELF: u32 = 0x400;
/// IN_MOVE_SELF
pub const IN_MOVE_SELF: u32 = 0x800;
/// IN_ALL_EVENTS
pub const IN_ALL_EVENTS: u32 = 0xfff;
/// IN_Q_OVERFLOW: events were lost.
pub const IN_Q_OVERFLOW: u32 = 0x4000;
/// IN_IGNORED: the watch is gone.
pub const IN_IGNORED: u32 = 0x8000;
/// IN_ONLYDIR
pub const IN_ONLYDIR: u32 = 0x0100_0000;
/// IN_DONT_FOLLOW
pub const IN_DONT_FOLLOW: u32 = 0x0200_0000;
/// IN_EXCL_UNLINK
pub const IN_EXCL_UNLINK: u32 = 0x0400_0000;
/// IN_MASK_CREATE
pub const IN_MASK_CREATE: u32 = 0x1000_0000;
/// IN_MASK_ADD
pub const IN_MASK_ADD: u32 = 0x2000_0000;
/// IN_ISDIR
pub const IN_ISDIR: u32 = 0x4000_0000;
/// IN_ONESHOT
pub const IN_ONESHOT: u32 = 0x8000_0000;

/// Bytes before the name of `struct inotify_event`: wd, mask, cookie, len.
pub const EVENT_HEADER: usize = 16;

/// A `struct inotify_event` with its name, padded with zeros to a multiple of the header.
pub fn event(wd: i32, mask: u32, cookie: u32, name: &[u8]) -> Vec<u8> {
    let len = if name.is_empty() { 0 } else { (name.len() + 1).next_multiple_of(EVENT_HEADER) };
    let mut record = Vec::with_capacity(EVENT_HEADER + len);
    record.extend_from_slice(&wd.to_ne_bytes());
    record.extend_from_slice(&mask.to_ne_bytes());
    record.extend_from_slice(&cookie.to_ne_bytes());
    record.extend_from_slice(&(len as u32).to_ne_bytes());
    record.extend_from_slice(name);
    record.resize(EVENT_HEADER + len, 0);
    record
}
