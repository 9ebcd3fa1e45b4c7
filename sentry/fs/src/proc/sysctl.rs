//! /proc/sys: a row per setting. Settings that cannot be changed refuse writes.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::error::Result;
use sentry_kernel::kernel::Kernel;
use sentry_kernel::settings::Setting;
use sentry_kernel::task::{self, Container, PID_MAX};
use sentry_kernel::uts::{RELEASE, VERSION};
use sentry_kernel::vfs::FileType;

use super::Shared;
use super::node::{Body, Entries, Node, Owner, Write, number};
use crate::listing::Entry;

type Make = fn(&Shared, &Container) -> Vec<u8>;

/// A row: path below /proc, content.
const ROWS: [(&str, Make); 36] = [
    ("sys/fs/file-max", |_, _| line(9_223_372_036_854_775_807_u64)),
    ("sys/fs/file-nr", |_, _| b"0\t0\t9223372036854775807\n".to_vec()),
    ("sys/fs/inotify/max_queued_events", |_, _| line(16384)),
    ("sys/fs/inotify/max_user_instances", |_, _| line(128)),
    ("sys/fs/inotify/max_user_watches", |_, _| line(65536)),
    ("sys/fs/nr_open", |_, _| line(1_048_576)),
    ("sys/fs/pipe-max-size", |_, _| line(1_048_576)),
    ("sys/fs/pipe-user-pages-soft", |_, _| line(16384)),
    ("sys/fs/protected_hardlinks", |_, _| line(1)),
    ("sys/fs/protected_symlinks", |_, _| line(1)),
    ("sys/kernel/cap_last_cap", |_, _| line(40)),
    ("sys/kernel/core_pattern", |_, _| line("core")),
    ("sys/kernel/domainname", |_, container| bytes_line(container.uts().domainname())),
    ("sys/kernel/hostname", |_, container| bytes_line(container.uts().hostname())),
    ("sys/kernel/msgmax", |_, _| line(8192)),
    ("sys/kernel/ngroups_max", |_, _| line(65536)),
    ("sys/kernel/osrelease", |_, _| line(RELEASE)),
    ("sys/kernel/ostype", |_, _| line("Linux")),
    ("sys/kernel/overflowgid", |_, _| line(65534)),
    ("sys/kernel/overflowuid", |_, _| line(65534)),
    ("sys/kernel/pid_max", |_, _| line(PID_MAX)),
    ("sys/kernel/random/boot_id", |shared, _| line(&shared.boot_id)),
    ("sys/kernel/random/entropy_avail", |_, _| line(256)),
    ("sys/kernel/random/poolsize", |_, _| line(256)),
    ("sys/kernel/random/uuid", |_, container| line(uuid(container.kernel()))),
    ("sys/kernel/randomize_va_space", |_, _| line(2)),
    ("sys/kernel/sem", |_, _| b"32000\t1024000000\t500\t32000\n".to_vec()),
    ("sys/kernel/shmall", |_, _| line(18_446_744_073_692_774_399_u64)),
    ("sys/kernel/shmmax", |_, _| line(18_446_744_073_692_774_399_u64)),
    ("sys/kernel/threads-max", |_, _| line(PID_MAX)),
    ("sys/kernel/version", |_, _| line(VERSION)),
    ("sys/kernel/yama/ptrace_scope", |_, _| line(0)),
    ("sys/vm/max_map_count", |_, _| line(65530)),
    ("sys/vm/mmap_min_addr", |_, _| line(65536)),
    ("sys/vm/overcommit_memory", |_, _| line(1)),
    ("sys/vm/swappiness", |_, _| line(60)),
];

fn line(value: impl ToString) -> Vec<u8> {
    (value.to_string() + "\n").into_bytes()
}

fn bytes_line(mut value: Vec<u8>) -> Vec<u8> {
    value.push(b'\n');
    value
}

/// A random UUID (version 4), from the guest's random source.
pub(super) fn uuid(kernel: &Kernel) -> String {
    let mut bytes = [0; 16];
    kernel.fill_random(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The directory at a path below /proc.
pub(super) fn directory(shared: &Arc<Shared>, path: &str) -> Arc<Node> {
    let entries = Directory { shared: shared.clone(), prefix: format!("{path}/") };
    let body = Body::Directory(Box::new(entries));
    Node::new(shared, number(path), 0o555, Owner::Root, body)
}

/// Where the settings of the network are.
const NET: &str = "sys/net";

/// A node of the network's tree, at a path below it; `path` is that below /proc.
fn setting(shared: &Arc<Shared>, below: &str, path: &str) -> Result<Arc<Node>> {
    match shared.net.1.find(below).ok_or(Errno::ENOENT)? {
        Setting::Directory => Ok(directory(shared, path)),
        Setting::File { mode } => {
            let (reader, writer) = (shared.net.1.clone(), shared.net.1.clone());
            let (from, to) = (below.to_owned(), below.to_owned());
            let read = Box::new(move || reader.read(&from));
            let write: Write = Box::new(move |bytes| writer.write(&to, bytes));
            let write = (mode & 0o222 != 0).then_some(write);
            let body = Body::File { read, write };
            Ok(Node::new(shared, number(path), mode, Owner::Root, body))
        }
    }
}

struct Directory {
    shared: Arc<Shared>,
    prefix: String,
}

impl Directory {
    fn entry(&self, name: &str, kind: Setting) -> Entry {
        let file_type = match kind {
            Setting::Directory => FileType::Directory,
            Setting::File { .. } => FileType::Regular,
        };
        Entry::new(name.as_bytes(), number(format!("{}{name}", self.prefix).as_str()), file_type)
    }
}

/// What takes a write, for the settings that can be changed.
fn writer(shared: &Arc<Shared>, path: &str) -> Option<Write> {
    let set: fn(&Container, &[u8]) -> Result<()> = match path {
        "sys/kernel/hostname" => |container, name| container.uts().set_hostname(name),
        "sys/kernel/domainname" => |container, name| container.uts().set_domainname(name),
        _ => return None,
    };
    let shared = shared.clone();
    Some(Box::new(move |bytes| {
        let caller = task::current().ok_or(Errno::EPERM)?;
        if !caller.credentials().has(Capabilities::SYS_ADMIN) {
            return Err(Errno::EPERM.into());
        }
        let end = bytes.iter().position(|byte| *byte == b'\n' || *byte == 0).unwrap_or(bytes.len());
        set(&*shared.container()?, &bytes[..end])
    }))
}

impl Entries for Directory {
    fn find(&self, name: &[u8]) -> Result<Arc<Node>> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let path = format!("{}{name}", self.prefix);
        if let Some(below) = path.strip_prefix(NET).filter(|_| !name.is_empty()) {
            return setting(&self.shared, below.trim_start_matches('/'), &path);
        }
        if let Some((path, make)) = ROWS.iter().find(|(known, _)| *known == path) {
            let held = self.shared.clone();
            let read = Box::new(move || Ok(make(&held, &*held.container()?)));
            let write = writer(&self.shared, path);
            let permissions = if write.is_some() { 0o644 } else { 0o444 };
            let body = Body::File { read, write };
            return Ok(Node::new(&self.shared, number(path), permissions, Owner::Root, body));
        }
        let below = format!("{path}/");
        match ROWS.iter().any(|(known, _)| known.starts_with(&below)) {
            true => Ok(directory(&self.shared, &path)),
            false => Err(Errno::ENOENT.into()),
        }
    }

    fn list(&self) -> Result<Vec<Entry>> {
        if let Some(below) = self.prefix.strip_prefix("sys/net/") {
            let listed = self.shared.net.1.list(below.trim_end_matches('/'));
            return Ok(listed.into_iter().map(|(name, kind)| self.entry(&name, kind)).collect());
        }
        let mut all: Vec<Entry> = Vec::new();
        if self.prefix == "sys/" {
            all.push(self.entry("net", Setting::Directory));
        }
        for rest in ROWS.iter().filter_map(|(path, _)| path.strip_prefix(&self.prefix)) {
            let (name, file_type) = match rest.split_once('/') {
                Some((name, _)) => (name, FileType::Directory),
                None => (rest, FileType::Regular),
            };
            // Rows are sorted, so equal directories follow each other.
            if all.last().is_none_or(|last| &*last.name != name.as_bytes()) {
                let ino = number(format!("{}{name}", self.prefix).as_str());
                all.push(Entry::new(name.as_bytes(), ino, file_type));
            }
        }
        Ok(all)
    }
}
