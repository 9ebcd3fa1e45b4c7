//! What /proc/PID shows of program memory: arguments, environment, auxiliary vector, areas.

use std::fmt::Write as _;
use std::ops::Range;

use sentry_abi::UserAddr;
use sentry_kernel::error::Result;
use sentry_kernel::mm::{Label, MapEntry, Prot, VmaFlags};
use sentry_kernel::task::Task;
use sentry_kernel::vfs::Path;

use super::Shared;
use super::process::viewpoint;

/// Bytes of arguments or environment shown at most: as many as execve takes.
const STRINGS_MAX: u64 = 2 << 20;
/// Column of the name in a line of maps.
const NAME_COLUMN: usize = 73;

/// A part of the task's memory; empty for one that has ended.
fn bytes(task: &Task, range: Range<u64>) -> Vec<u8> {
    let Some(resources) = task.resources() else { return Vec::new() };
    let len = range.end.saturating_sub(range.start).min(STRINGS_MAX);
    let mut buffer = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = resources.mm.read_partial(UserAddr(range.start), &mut buffer);
    buffer.truncate(read);
    buffer
}

fn image(task: &Task) -> sentry_kernel::mm::ImageRanges {
    task.resources().map(|resources| resources.mm.image()).unwrap_or_default()
}

/// The arguments. A program that overwrote their end (setproctitle(3)) shows them up to the first zero byte, also into the environment.
pub(super) fn cmdline(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    Ok(command_line(task))
}

/// What /proc/PID/cmdline shows of a task: words that end in zero bytes, and nothing where it has ended.
pub fn command_line(task: &Task) -> Vec<u8> {
    let image = image(task);
    let mut text = bytes(task, image.arg.clone());
    if text.last().is_some_and(|last| *last != 0) {
        text.extend(bytes(task, image.env));
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        text.truncate(end);
    }
    text
}

pub(super) fn environ(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    Ok(bytes(task, image(task).env))
}

pub(super) fn auxv(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    Ok(bytes(task, image(task).auxv))
}

fn entries(task: &Task) -> Vec<MapEntry> {
    task.resources().map(|resources| resources.mm.maps()).unwrap_or_default()
}

/// `START-END PERMS OFFSET MAJOR:MINOR INODE NAME`, a line.
fn line(entry: &MapEntry, root: &Path) -> Vec<u8> {
    let vma = &entry.vma;
    let letter = |on: bool, letter: char| if on { letter } else { '-' };
    let (dev, ino) = entry.device_and_inode;
    let mut text = format!(
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {ino}",
        vma.start,
        vma.end,
        letter(vma.prot.contains(Prot::READ), 'r'),
        letter(vma.prot.contains(Prot::WRITE), 'w'),
        letter(vma.prot.contains(Prot::EXEC), 'x'),
        if vma.flags.contains(VmaFlags::SHARED) { 's' } else { 'p' },
        entry.offset,
        sentry_kernel::device::major(dev),
        sentry_kernel::device::minor(dev),
    )
    .into_bytes();
    let name = match (&vma.label, entry.name) {
        (Label::File(path), _) => path.to_bytes(root),
        (_, Some(name)) => name.as_bytes().to_vec(),
        _ => Vec::new(),
    };
    text.push(b' ');
    if !name.is_empty() {
        text.resize(text.len().max(NAME_COLUMN), b' ');
        // A newline in a name would look like the end of the line.
        for byte in name {
            if byte == b'\n' { text.extend(b"\\012") } else { text.push(byte) }
        }
    }
    text.push(b'\n');
    text
}

pub(super) fn maps(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let entries = entries(task);
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let root = viewpoint(task)?;
    Ok(entries.iter().flat_map(|entry| line(entry, &root)).collect())
}

/// The sizes below a line of smaps, in bytes.
#[derive(Clone, Copy, Default)]
struct Sizes {
    size: u64,
    resident: u64,
    shared: u64,
    anonymous: u64,
    locked: u64,
}

fn sizes(entry: &MapEntry) -> Sizes {
    let shared = entry.vma.flags.contains(VmaFlags::SHARED);
    let locked = entry.vma.flags.contains(VmaFlags::LOCKED);
    Sizes {
        size: entry.vma.end - entry.vma.start,
        resident: entry.resident,
        shared: if shared { entry.resident } else { 0 },
        anonymous: if shared { 0 } else { entry.resident },
        locked: if locked { entry.resident } else { 0 },
    }
}

fn write_sizes(text: &mut String, sizes: Sizes) {
    let private = sizes.resident - sizes.shared;
    let rows = [
        ("Rss", sizes.resident),
        ("Pss", sizes.resident),
        ("Shared_Clean", 0),
        ("Shared_Dirty", sizes.shared),
        ("Private_Clean", 0),
        ("Private_Dirty", private),
        ("Referenced", sizes.resident),
        ("Anonymous", sizes.anonymous),
        ("LazyFree", 0),
        ("AnonHugePages", 0),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", sizes.locked),
    ];
    for (name, bytes) in rows {
        let _ = writeln!(text, "{:<16}{:8} kB", format!("{name}:"), bytes / 1024);
    }
}

pub(super) fn smaps(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let entries = entries(task);
    let mut text = Vec::new();
    for entry in &entries {
        text.extend(line(entry, &viewpoint(task)?));
        let sizes = sizes(entry);
        let mut rows = format!("{:<16}{:8} kB\n", "Size:", sizes.size / 1024);
        rows.push_str("KernelPageSize:        4 kB\nMMUPageSize:           4 kB\n");
        write_sizes(&mut rows, sizes);
        text.extend(rows.into_bytes());
    }
    Ok(text)
}

pub(super) fn smaps_rollup(_: &Shared, task: &Task) -> Result<Vec<u8>> {
    let entries = entries(task);
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Ok(Vec::new());
    };
    let mut text = format!("{:08x}-{:08x} ---p 00000000 00:00 0 ", first.vma.start, last.vma.end);
    let padding = NAME_COLUMN.saturating_sub(text.len());
    text.push_str(&" ".repeat(padding));
    text.push_str("[rollup]\n");
    let sum = entries.iter().map(sizes).fold(Sizes::default(), |a, b| Sizes {
        size: a.size + b.size,
        resident: a.resident + b.resident,
        shared: a.shared + b.shared,
        anonymous: a.anonymous + b.anonymous,
        locked: a.locked + b.locked,
    });
    write_sizes(&mut text, sum);
    Ok(text.into_bytes())
}
