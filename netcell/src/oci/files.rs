//! The root, mounts, devices and hidden paths of a configuration as the files of a sandbox. Everything of the host is opened here.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{self, LinuxDevice, LinuxDeviceType, Spec};
use sentry::{
    Access, Console, ContainerFiles, DeviceKind, DeviceNode, Mount, MountFlags, MountKind,
};
use serde::{Deserialize, Serialize};

use super::spec::rootfs;

/// Permission bits of a device where none are given.
const DEVICE_PERMISSIONS: u32 = 0o666;

/// What a container sees of files, and what of its configuration it does not see.
pub struct Opened {
    /// The files.
    pub files: ContainerFiles,
    /// Mounts that are left out, with the reason.
    pub left_out: Vec<String>,
}

/// Something of the host that a mount needs, as it was found when it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// A directory, which a descriptor comes for.
    Directory,
    /// A file, by its name in the directory that a descriptor comes for.
    File {
        /// The name.
        name: String,
    },
    /// A device of the sandbox's own with this number.
    Device {
        /// As makedev(3) has it.
        number: u64,
    },
}

/// What one process has opened for another: the root directory first, then a source for each bind mount, in their order.
#[derive(Debug)]
pub struct HandedOver {
    /// What there is for each bind mount.
    pub sources: Vec<Source>,
    /// The root directory, and what goes with the sources.
    pub descriptors: Vec<OwnedFd>,
}

/// Opens what a checked configuration names. Relative paths are the bundle's.
pub fn open(spec: &Spec, bundle: &Path) -> Result<Opened> {
    let root = open_directory(&rootfs(spec, bundle)?).context("root.path")?;
    assemble(spec, root, &mut |source| bind(&bundle.join(source)))
}

/// What has to go to another process for it to [`take_over`] these files.
pub fn hand_over(files: ContainerFiles) -> HandedOver {
    let (mut sources, mut descriptors) = (Vec::new(), vec![files.root]);
    for mount in files.mounts {
        let (source, descriptor) = match mount.what {
            MountKind::Directory(directory) => (Source::Directory, Some(directory)),
            MountKind::File(directory, name) => (Source::File { name }, Some(directory)),
            MountKind::Device(number) => (Source::Device { number }, None),
            MountKind::Tmpfs(_) | MountKind::Proc | MountKind::Sysfs | MountKind::Devpts => {
                continue;
            }
        };
        sources.push(source);
        descriptors.extend(descriptor);
    }
    HandedOver { sources, descriptors }
}

/// The files of a checked configuration, with what another process has opened for it.
pub fn take_over(spec: &Spec, handed: HandedOver) -> Result<Opened> {
    let (mut sources, mut descriptors) =
        (handed.sources.into_iter(), handed.descriptors.into_iter());
    let root = descriptors.next().context("the root directory is missing")?;
    let mut next = |_: &Path| {
        let told = "what was opened is less than the configuration names";
        let mut descriptor = || descriptors.next().context(told);
        Ok(match sources.next().context(told)? {
            Source::Directory => MountKind::Directory(descriptor()?),
            Source::File { name } => MountKind::File(descriptor()?, name),
            Source::Device { number } => MountKind::Device(number),
        })
    };
    let opened = assemble(spec, root, &mut next)?;
    let rest = sources.next().is_some() || descriptors.next().is_some();
    ensure!(!rest, "what was opened is more than the configuration names");
    Ok(opened)
}

/// Finds what a bind mount's source is.
type Find<'a> = &'a mut dyn FnMut(&Path) -> Result<MountKind>;

fn assemble(spec: &Spec, root: OwnedFd, find: Find<'_>) -> Result<Opened> {
    let read_only = spec.root().as_ref().and_then(runtime::Root::readonly).unwrap_or(false);
    let mut mounts = Vec::new();
    let mut left_out = Vec::new();
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let target = mount.destination().as_os_str().as_bytes().to_vec();
        let asked = kind(mount, find);
        match asked.with_context(|| format!("mounts[{index}] {}", mount.destination().display()))? {
            Asked::Mount(what, flags) => mounts.push(Mount { target, what, flags }),
            Asked::LeftOut(why) => {
                left_out.push(format!("{}: {why}", mount.destination().display()));
            }
        }
    }
    let linux = spec.linux().as_ref();
    let devices = linux.and_then(|linux| linux.devices().as_ref());
    let devices = devices.into_iter().flatten().map(device).collect::<Result<_>>()?;
    let bytes = |paths: Option<&Vec<String>>| -> Vec<Vec<u8>> {
        paths.into_iter().flatten().map(|path| path.clone().into_bytes()).collect()
    };
    let terminal = spec.process().as_ref().and_then(runtime::Process::terminal).unwrap_or(false);
    let files = ContainerFiles {
        root,
        root_access: if read_only { Access::ReadOnly } else { Access::ReadWrite },
        mounts,
        devices,
        console: if terminal { Console::Present } else { Console::Absent },
        masked: bytes(linux.and_then(|linux| linux.masked_paths().as_ref())),
        read_only: bytes(linux.and_then(|linux| linux.readonly_paths().as_ref())),
    };
    Ok(Opened { files, left_out })
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    ensure!(file.metadata()?.is_dir(), "{} is not a directory", path.display());
    Ok(file.into())
}

enum Asked {
    Mount(MountKind, MountFlags),
    LeftOut(&'static str),
}

fn kind(mount: &runtime::Mount, find: Find<'_>) -> Result<Asked> {
    let options = Options::parse(mount.options().as_deref().unwrap_or_default())?;
    let flags = options.flags;
    let kind = mount.typ().as_deref().unwrap_or_default();
    if options.is_bind || kind == "bind" {
        options.expect_no_data()?;
        let source = mount.source().as_ref().context("source is missing")?;
        return Ok(Asked::Mount(find(source)?, flags));
    }
    let what = match kind {
        "tmpfs" => return Ok(Asked::Mount(MountKind::Tmpfs(options.data.join(",")), flags)),
        "proc" => MountKind::Proc,
        "sysfs" => MountKind::Sysfs,
        "devpts" => {
            check_devpts(&options.data)?;
            return Ok(Asked::Mount(MountKind::Devpts, flags));
        }
        "mqueue" => return Ok(Asked::LeftOut("there are no POSIX message queues here")),
        "cgroup" | "cgroup2" => return Ok(Asked::LeftOut("cgroups are not shown inside")),
        "" => bail!("type is missing"),
        other => bail!("type {other} is not supported"),
    };
    options.expect_no_data()?;
    Ok(Asked::Mount(what, flags))
}

/// Our devpts has what everybody asks for, and nothing else.
fn check_devpts(options: &[String]) -> Result<()> {
    for option in options {
        let known =
            ["newinstance", "ptmxmode=0666", "ptmxmode=666", "mode=0620", "mode=620", "gid=5"];
        ensure!(known.contains(&option.as_str()), "option {option} is not supported by devpts");
    }
    Ok(())
}

/// A file or directory of the host, links followed.
fn bind(source: &Path) -> Result<MountKind> {
    let told = || format!("source {}", source.display());
    let path = source.canonicalize().with_context(told)?;
    let found = path.metadata().with_context(told)?;
    if found.is_dir() {
        return Ok(MountKind::Directory(open_directory(&path).with_context(told)?));
    }
    if found.file_type().is_char_device() {
        return Ok(MountKind::Device(found.rdev()));
    }
    ensure!(!found.file_type().is_block_device(), "{}: block devices stay the host's", told());
    let above = path.parent().with_context(told)?;
    let name = path.file_name().and_then(|name| name.to_str()).with_context(told)?;
    // The way to hide names has patterns.
    ensure!(!name.contains('*'), "{}: a file's name must not hold a *", told());
    Ok(MountKind::File(open_directory(above).with_context(told)?, name.to_owned()))
}

fn device(device: &LinuxDevice) -> Result<DeviceNode> {
    let told = || format!("devices: {}", device.path().display());
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => bail!("{}: type a is no device", told()),
    };
    let number = |number: i64, most: u32| {
        let fits = u32::try_from(number).ok().filter(|number| *number <= most);
        fits.with_context(|| format!("{}: {number} is no device number", told()))
    };
    let rdev = match kind {
        DeviceKind::Fifo => 0,
        _ => {
            let (major, minor) =
                (number(device.major(), 0xfff)?, number(device.minor(), 0xf_ffff)?);
            nix::sys::stat::makedev(major.into(), minor.into())
        }
    };
    Ok(DeviceNode {
        path: device.path().as_os_str().as_bytes().to_vec(),
        kind,
        rdev,
        permissions: device.file_mode().unwrap_or(DEVICE_PERMISSIONS) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

/// The options of a mount: flags, and what is left for the filesystem.
#[derive(Debug)]
struct Options {
    flags: MountFlags,
    is_bind: bool,
    data: Vec<String>,
}

impl Options {
    /// Takes the words of mount(8) (config.md, "Linux mount options"). Errors: what cannot be had.
    fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self { flags: MountFlags::RELATIME, is_bind: false, data: Vec::new() };
        for word in words {
            options.apply(word)?;
        }
        Ok(options)
    }

    fn apply(&mut self, word: &str) -> Result<()> {
        let (set, flag) = match word {
            "bind" | "rbind" => {
                self.is_bind = true;
                return Ok(());
            }
            "ro" | "rro" => (true, MountFlags::RDONLY),
            "rw" | "rrw" => (false, MountFlags::RDONLY),
            "nosuid" | "rnosuid" => (true, MountFlags::NOSUID),
            "suid" | "rsuid" => (false, MountFlags::NOSUID),
            "nodev" | "rnodev" => (true, MountFlags::NODEV),
            "dev" | "rdev" => (false, MountFlags::NODEV),
            "noexec" | "rnoexec" => (true, MountFlags::NOEXEC),
            "exec" | "rexec" => (false, MountFlags::NOEXEC),
            "noatime" | "rnoatime" => (true, MountFlags::NOATIME),
            "atime" | "ratime" => (false, MountFlags::NOATIME),
            "nodiratime" | "rnodiratime" => (true, MountFlags::NODIRATIME),
            "diratime" | "rdiratime" => (false, MountFlags::NODIRATIME),
            "relatime" | "rrelatime" => (true, MountFlags::RELATIME),
            "strictatime" | "norelatime" | "rstrictatime" | "rnorelatime" => {
                (false, MountFlags::RELATIME)
            }
            // What is mounted on the host below a bound directory is seen, and nothing that is mounted inside reaches the host.
            "private" | "rprivate" | "slave" | "rslave" | "unbindable" | "runbindable" => {
                return Ok(());
            }
            "defaults" | "async" | "nomand" | "noiversion" | "silent" | "loud" => return Ok(()),
            "shared" | "rshared" => {
                bail!("option {word}: no mount of a container reaches the host")
            }
            "idmap" | "ridmap" => bail!("option {word}: ids cannot be mapped"),
            "sync" | "dirsync" | "mand" | "remount" | "nosymfollow" | "rnosymfollow"
            | "tmpcopyup" | "iversion" | "lazytime" => bail!("option {word} is not supported"),
            other => {
                self.data.push(other.to_owned());
                return Ok(());
            }
        };
        self.flags.set(flag, set);
        Ok(())
    }

    fn expect_no_data(&self) -> Result<()> {
        ensure!(self.data.is_empty(), "option {} is not known", self.data.join(","));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(mount: serde_json::Value) -> Result<Asked> {
        kind(&serde_json::from_value(mount).expect("a mount"), &mut |source| bind(source))
    }

    fn refusal(mount: serde_json::Value) -> String {
        ask(mount).err().map_or(String::new(), |error| format!("{error:#}"))
    }

    #[test]
    fn options_are_flags_or_the_filesystems_own() {
        let words = ["nosuid", "ro", "rw", "noexec", "size=64k", "mode=755"].map(str::to_owned);
        let options = Options::parse(&words).expect("options");
        let expected = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::RELATIME;
        assert_eq!(options.flags, expected);
        assert_eq!(options.data, ["size=64k", "mode=755"]);
    }

    #[test]
    fn what_is_bound_is_opened_by_what_it_is() {
        let bound = |source: &str| {
            let mount = json!({ "destination": "/x", "source": source, "options": ["rbind"] });
            match ask(mount).expect("a mount") {
                Asked::Mount(what, _) => what,
                Asked::LeftOut(why) => panic!("{why}"),
            }
        };
        assert!(matches!(bound("/etc"), MountKind::Directory(_)));
        assert!(matches!(bound("/etc/passwd"), MountKind::File(_, name) if name == "passwd"));
        assert!(matches!(bound("/dev/null"), MountKind::Device(rdev) if rdev == 0x103));
    }

    #[test]
    fn what_cannot_be_mounted_is_refused() {
        let cases = [
            (json!({ "destination": "/x" }), "type is missing"),
            (json!({ "destination": "/x", "type": "ext4" }), "type ext4 is not supported"),
            (json!({ "destination": "/x", "type": "bind" }), "source is missing"),
            (json!({ "destination": "/x", "type": "bind", "source": "/none" }), "No such file"),
            (json!({ "destination": "/x", "type": "proc", "options": ["hidepid=2"] }), "hidepid"),
            (json!({ "destination": "/x", "type": "devpts", "options": ["gid=6"] }), "gid=6"),
            (
                json!({ "destination": "/x", "source": "/etc", "options": ["bind", "rshared"] }),
                "reaches the host",
            ),
        ];
        for (mount, expected) in cases {
            let told = refusal(mount.clone());
            assert!(told.contains(expected), "{mount}: {told:?}");
        }
    }
}
