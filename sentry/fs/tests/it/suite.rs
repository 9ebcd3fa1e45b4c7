//! Behaviours of single filesystems: holes, listings while entries go, limits, views, copy-up.

use std::path::Path;
use std::sync::Arc;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sentry_abi::Errno;
use sentry_fs::host::{HostFs, HostOptions, View};
use sentry_fs::tmpfs::{Options, Tmpfs};
use sentry_kernel::cred::Credentials;
use sentry_kernel::file::{FileOps, WriteAt};
use sentry_kernel::io::{SliceSource, VecSink};
use sentry_kernel::mm::Touch;
use sentry_kernel::vfs::{Change, FileSystem, FileType, Inode, NewNode, OpenFlags, RenameFlags};

use crate::world::{Op, Ours, Outcome, Scratch, Theirs, host, overlay, services, tmpfs};

fn regular(permissions: u32) -> NewNode<'static> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    NewNode { file_type: FileType::Regular, permissions, uid, gid, rdev: 0, target: b"" }
}

fn open(inode: &Arc<dyn Inode>) -> Arc<dyn FileOps> {
    inode.clone().open(OpenFlags::RDWR, &Credentials::root()).unwrap()
}

fn write(file: &Arc<dyn FileOps>, offset: u64, data: &[u8]) -> usize {
    file.write(WriteAt::Offset(offset), &mut SliceSource::new(data)).unwrap().len
}

fn read(file: &Arc<dyn FileOps>, offset: u64, len: usize) -> Vec<u8> {
    let mut sink = VecSink::new(len);
    file.read(offset, &mut sink).unwrap();
    sink.into_vec()
}

/// Runs `check` on an empty tree of each writable kind.
fn everywhere(check: impl Fn(&str, &Ours)) {
    let (volume, lower) = (Scratch::new(), Scratch::new());
    check("tmpfs", &Ours::new(tmpfs(&services())));
    check("volume", &Ours::new(host(&services(), &volume.0, HostOptions::read_write())));
    check("overlay", &Ours::new(overlay(&services(), &lower.0)));
}

#[test]
fn a_directory_can_be_emptied_while_it_is_listed() {
    everywhere(|kind, ours| {
        for i in 0..300 {
            ours.root.create(format!("f{i}").as_bytes(), &regular(0o644)).unwrap();
        }
        let dir = ours.root.clone().open(OpenFlags::DIRECTORY, &Credentials::root()).unwrap();
        let (mut from, mut seen) = (0, 0);
        loop {
            let mut names = Vec::new();
            dir.read_dir(from, &mut |entry| {
                if names.len() == 7 {
                    return false;
                }
                names.push(entry.name.to_vec());
                from = entry.next;
                true
            })
            .unwrap();
            if names.is_empty() {
                break;
            }
            for name in names.iter().filter(|name| name[0] != b'.') {
                ours.root.unlink(name).unwrap();
                seen += 1;
            }
        }
        assert_eq!(seen, 300, "{kind}");
        assert!(ours.names(&ours.root).unwrap().is_empty(), "{kind}");
    });
}

#[test]
fn holes_read_as_zeros_and_can_be_sought() {
    everywhere(|kind, ours| {
        let inode = ours.root.create(b"sparse", &regular(0o644)).unwrap();
        let file = open(&inode);
        assert_eq!(write(&file, 1 << 20, b"data"), 4);
        assert_eq!(file.end().unwrap(), (1 << 20) + 4, "{kind}");
        assert_eq!(file.next_data(0).unwrap(), 1 << 20, "{kind}");
        assert_eq!(file.next_hole(1 << 20).unwrap(), (1 << 20) + 4, "{kind}");
        assert!(file.next_data(2 << 20).unwrap_err().is(Errno::ENXIO), "{kind}");
        assert_eq!(read(&file, (1 << 20) - 2, 100), b"\0\0data", "{kind}");
        assert!(inode.attributes().unwrap().blocks <= 64, "{kind}");
    });
}

#[test]
fn an_open_file_survives_its_last_name() {
    everywhere(|kind, ours| {
        let inode = ours.root.create(b"gone", &regular(0o644)).unwrap();
        let file = open(&inode);
        write(&file, 0, b"still here");
        ours.root.unlink(b"gone").unwrap();
        assert_eq!(read(&file, 0, 100), b"still here", "{kind}");
        assert_eq!(inode.attributes().unwrap().nlink, 0, "{kind}");
        assert!(ours.root.lookup(b"gone").is_err_and(|error| error.is(Errno::ENOENT)), "{kind}");
    });
}

#[test]
fn mapped_pages_and_writes_are_the_same_bytes() {
    let services = services();
    let (volume, memory) = (Scratch::new(), services.memory.clone());
    let volume = host(&services, &volume.0, HostOptions::read_write());
    for ours in [Ours::new(tmpfs(&services)), Ours::new(volume)] {
        let inode = ours.root.create(b"mapped", &regular(0o644)).unwrap();
        let file = open(&inode);
        write(&file, 0, &[1; 10_000]);
        let mapping = file.mappable().unwrap();
        let run = mapping.pages(4096, 4096, Touch::Write).unwrap();
        write(&file, 4100, b"through the file");
        let mut bytes = [0; 16];
        memory.read_at(run.offset + 4, &mut bytes).unwrap();
        assert_eq!(&bytes, b"through the file");
        memory.write_at(run.offset + 100, b"through the map").unwrap();
        assert_eq!(read(&file, 4196, 15), b"through the map");
        assert!(mapping.pages(12_288, 4096, Touch::Read).is_err_and(|e| e.is(Errno::ENXIO)));
    }
}

#[test]
fn what_a_program_wrote_to_a_mapped_volume_reaches_the_host() {
    let services = services();
    let volume = Scratch::new();
    let ours = Ours::new(host(&services, &volume.0, HostOptions::read_write()));
    let inode = ours.root.create(b"mapped", &regular(0o644)).unwrap();
    let file = open(&inode);
    write(&file, 0, &[1; 5000]);
    let mapping = file.mappable().unwrap();
    let run = mapping.pages(4096, 4096, Touch::Write).unwrap();
    services.memory.write_at(run.offset, b"first").unwrap();
    mapping.sync().unwrap();
    let path = volume.0.join("mapped");
    assert_eq!(&std::fs::read(&path).unwrap()[4096..4101], b"first");
    services.memory.write_at(run.offset, b"later").unwrap();
    drop(mapping);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((&bytes[4096..4101], bytes.len()), (&b"later"[..], 5000));
    std::fs::write(&path, [2; 6000]).unwrap();
    let run = file.mappable().unwrap().pages(4096, 4096, Touch::Read).unwrap();
    let mut seen = [0; 4];
    services.memory.read_at(run.offset, &mut seen).unwrap();
    assert_eq!(seen, [2; 4], "a new mapping sees what the host changed");
}

#[test]
fn permissions_of_files_of_all_kinds_change_on_the_host_and_a_link_leads_nowhere() {
    use std::os::unix::fs::PermissionsExt;
    let (scratch, services) = (Scratch::new(), services());
    let options = HostOptions::read_write();
    let tree = host(&services, &scratch.0, options);
    let mode = |name: &str| std::fs::metadata(scratch.0.join(name)).unwrap().permissions().mode();
    let change = Change { permissions: Some(0o640), ..Change::default() };
    let kinds = [FileType::Regular, FileType::Directory, FileType::Fifo, FileType::Socket];
    for (name, file_type) in ["file", "directory", "fifo", "socket"].into_iter().zip(kinds) {
        let new = NewNode { file_type, ..regular(0o200) };
        let node = tree.root().create(name.as_bytes(), &new).unwrap();
        node.set_attributes(&change).unwrap();
        assert_eq!(mode(name) & 0o7777, 0o640, "{name}");
    }
    std::os::unix::fs::symlink("file", scratch.0.join("link")).unwrap();
    let link = tree.root().lookup(b"link").unwrap();
    let wider = Change { permissions: Some(0o777), ..Change::default() };
    assert_eq!(link.set_attributes(&wider).map_err(|e| e.errno()), Err(Errno::EOPNOTSUPP));
    assert_eq!(mode("file") & 0o7777, 0o640);
}

/// In a mount namespace of its own, with `read_only` a read-only mount of `writable`.
fn shown_twice(writable: &Path, read_only: &Path) {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    mount(Some(writable), read_only, nothing, MsFlags::MS_BIND, nothing).unwrap();
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(nothing, read_only, nothing, flags, nothing).unwrap();
    let services = services();
    let tree = |path| host(&services, path, HostOptions::read_write());
    let create = |tree: &HostFs, name: &[u8]| {
        tree.root().create(name, &regular(0o644)).map(drop).map_err(|error| error.errno())
    };
    let (refuses, takes) = (tree(read_only), tree(writable));
    assert_eq!(create(&refuses, b"a"), Err(Errno::EROFS));
    assert_eq!(create(&takes, b"a"), Ok(()));
    assert!(refuses.root().lookup(b"a").is_ok());
    assert!(Arc::ptr_eq(&takes, &tree(writable)), "by the same mount it is the same tree");
}

#[test]
fn a_read_only_mount_of_the_host_does_not_lend_its_refusal() {
    let (writable, read_only) = (Scratch::new(), Scratch::new());
    // The namespace ends with the thread.
    std::thread::scope(|scope| {
        scope.spawn(|| shown_twice(&writable.0, &read_only.0));
    });
}

#[test]
fn memory_comes_back_when_files_go() {
    let services = services();
    let before = services.memory.used_bytes();
    let filesystem = tmpfs(&services);
    let mut at = filesystem.root();
    for depth in 0..20_000 {
        let directory = NewNode { file_type: FileType::Directory, ..regular(0o755) };
        at = at.create(format!("d{}", depth % 10).as_bytes(), &directory).unwrap();
    }
    let file = open(&at.create(b"big", &regular(0o644)).unwrap());
    for chunk in 0..64 {
        write(&file, chunk << 16, &[5; 1 << 16]);
    }
    let run = file.mappable().unwrap().pages(0, 1 << 22, Touch::Read).unwrap();
    assert!(run.len >= 1 << 20, "sequential writes give long runs, not {} bytes", run.len);
    drop((file, at));
    drop(filesystem);
    assert_eq!(services.memory.used_bytes(), before);
}

#[test]
fn size_and_inodes_of_a_tmpfs_are_bounded() {
    let services = services();
    let options = Options::parse(b"size=64k,nr_inodes=4").unwrap();
    let filesystem = Tmpfs::new(&services, options).unwrap();
    let inode = filesystem.root().create(b"a", &regular(0o644)).unwrap();
    let file = open(&inode);
    assert_eq!(write(&file, 0, &[1; 100_000]), 65_536);
    let full = file.write(WriteAt::Offset(70_000), &mut SliceSource::new(b"x"));
    assert!(full.is_err_and(|error| error.is(Errno::ENOSPC)));
    assert_eq!(filesystem.stat().blocks_free, 0);
    inode.set_attributes(&Change { size: Some(0), ..Change::default() }).unwrap();
    assert_eq!(filesystem.stat().blocks_free, 16);
    for name in [b"b", b"c"] {
        filesystem.root().create(name, &regular(0o644)).unwrap();
    }
    let fifth = filesystem.root().create(b"d", &regular(0o644));
    assert!(fifth.is_err_and(|error| error.is(Errno::ENOSPC)));
}

#[test]
fn hidden_names_of_the_host_do_not_exist() {
    let scratch = Scratch::new();
    let theirs = Theirs(scratch.0.clone());
    for op in [
        Op::Mkdir("etc".into(), 0o755),
        Op::Create("etc/passwd".into(), 0o644),
        Op::Create("etc/shadow".into(), 0o600),
        Op::Mkdir("root".into(), 0o700),
    ] {
        theirs.answer(&op).unwrap();
    }
    let view = View::nothing().show("etc").hide("etc/shadow");
    let options = HostOptions { view, ..HostOptions::read_only() };
    let ours = Ours::new(host(&services(), &scratch.0, options));
    let names = vec![(b"passwd".to_vec(), FileType::Regular)];
    assert_eq!(ours.answer(&Op::List("etc".into())), Ok(Outcome::Names(names)));
    for hidden in ["etc/shadow", "root"] {
        assert_eq!(ours.answer(&Op::Stat(hidden.into())), Err(Errno::ENOENT.number()));
    }
    let refused = ours.answer(&Op::Create("etc/new".into(), 0o644));
    assert_eq!(refused, Err(Errno::EROFS.number()));
}

#[test]
fn few_descriptors_suffice_for_a_deep_host_tree() {
    let scratch = Scratch::new();
    let mut path = scratch.0.clone();
    for _ in 0..40 {
        path.push("d");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("f"), b"x").unwrap();
    }
    let options = HostOptions { directory_fds_max: 4, ..HostOptions::read_only() };
    let ours = Ours::new(host(&services(), &scratch.0, options));
    let mut directories = vec![ours.root.clone()];
    while let Ok(next) = directories[directories.len() - 1].lookup(b"d") {
        directories.push(next);
    }
    assert_eq!(directories.len(), 41);
    for directory in directories.iter().skip(1) {
        assert_eq!(directory.lookup(b"f").unwrap().attributes().unwrap().size, 1);
    }
}

#[test]
fn copying_up_keeps_number_times_and_content() {
    let scratch = Scratch::new();
    let theirs = Theirs(scratch.0.clone());
    theirs.answer(&Op::Create("file".into(), 0o644)).unwrap();
    theirs.answer(&Op::Write("file".into(), 0, b"lower content".to_vec())).unwrap();
    let ours = Ours::new(overlay(&services(), &scratch.0));
    let inode = ours.root.lookup(b"file").unwrap();
    let reader = inode.clone().open(OpenFlags::empty(), &Credentials::root()).unwrap();
    let before = inode.attributes().unwrap();
    let listed = ours.names(&ours.root).unwrap()[0].2;
    let permissions = Some(0o600);
    inode.set_attributes(&Change { permissions, ..Change::default() }).unwrap();
    let after = inode.attributes().unwrap();
    assert_eq!((after.ino, after.dev, after.size), (before.ino, before.dev, before.size));
    assert_eq!((after.mtime, after.permissions), (before.mtime, 0o600));
    assert_eq!(ours.names(&ours.root).unwrap()[0].2, listed);
    assert_eq!(listed, before.ino);
    ours.root.rename(b"file", &ours.root, b"moved", RenameFlags::empty()).unwrap();
    assert_eq!(ours.read("moved").unwrap(), b"lower content");
    write(&open(&inode), 0, b"upper");
    assert_eq!(read(&reader, 0, 100), b"upper content");
    assert_eq!(inode.attributes().unwrap().ino, before.ino);
    assert_eq!(std::fs::read(scratch.0.join("file")).unwrap(), b"lower content");
    drop((inode, reader));
    assert_eq!(ours.root.lookup(b"moved").unwrap().attributes().unwrap().ino, before.ino);
}

#[test]
fn unnamed_files_can_be_named_once() {
    for ours in [Ours::new(tmpfs(&services())), {
        let scratch = Scratch::new();
        Ours::new(overlay(&services(), &scratch.0))
    }] {
        let inode = ours.root.create_unnamed(&regular(0o644)).unwrap();
        assert_eq!(inode.attributes().unwrap().nlink, 0);
        ours.root.link(b"named", &inode).unwrap();
        assert_eq!(inode.attributes().unwrap().nlink, 1);
        ours.root.unlink(b"named").unwrap();
        let again = ours.root.link(b"again", &inode);
        assert!(again.is_err_and(|error| error.is(Errno::ENOENT)));
    }
}
