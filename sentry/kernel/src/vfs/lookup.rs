//! The path walk of path_resolution(7): components, `..`, symbolic and magic links, mounts, and the limits of openat2(2).

use std::sync::Arc;

use bitflags::bitflags;
use sentry_abi::Errno;

use crate::cred::Credentials;
use crate::error::Result;
use crate::file::FileDescription;
use crate::vfs::context::FsContext;
use crate::vfs::dentry::Dentry;
use crate::vfs::inode::{Access, FileType};
use crate::vfs::mount::top_at;
use crate::vfs::path::Path;
use crate::vfs::permission;

/// Longest path in bytes without its final zero (PATH_MAX - 1).
pub const PATH_MAX: usize = 4095;
/// Longest component in bytes.
pub const NAME_MAX: usize = 255;
/// Links followed in one walk before ELOOP.
const LINKS_MAX: u32 = 40;

bitflags! {
    /// How a path is walked.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct LookupFlags: u32 {
        /// Follow a symbolic link in the last component.
        const FOLLOW = 1;
        /// The result must be a directory (ENOTDIR).
        const DIRECTORY = 2;
        /// The empty path means the start (AT_EMPTY_PATH); otherwise it is ENOENT.
        const EMPTY_PATH = 4;
        /// RESOLVE_NO_XDEV: EXDEV at a mount.
        const NO_XDEV = 0x100;
        /// RESOLVE_NO_MAGICLINKS: ELOOP.
        const NO_MAGICLINKS = 0x200;
        /// RESOLVE_NO_SYMLINKS: ELOOP.
        const NO_SYMLINKS = 0x400;
        /// RESOLVE_BENEATH: EXDEV where the walk leaves the start.
        const BENEATH = 0x800;
        /// RESOLVE_IN_ROOT: the start is the root.
        const IN_ROOT = 0x1000;
    }
}

/// On whose behalf a path is walked: root, working directory, credentials, umask.
#[derive(Clone)]
pub struct ResolveCx {
    /// Where `/` leads.
    pub root: Path,
    /// Where relative paths start.
    pub cwd: Path,
    /// For the permission checks.
    pub creds: Arc<Credentials>,
    /// For new nodes.
    pub umask: u32,
}

impl ResolveCx {
    /// What a task with this context and identity sees now.
    pub fn new(fs: &FsContext, creds: Arc<Credentials>) -> Self {
        Self { root: fs.root(), cwd: fs.cwd(), creds, umask: fs.umask() }
    }
}

/// Where a relative path starts: the `dirfd` of the *at calls.
#[derive(Clone)]
pub enum DirRef {
    /// AT_FDCWD.
    Cwd,
    /// An open file, which must be a directory unless the path is empty.
    File(Arc<FileDescription>),
    /// A place known otherwise.
    Path(Path),
}

/// What the last component of a path is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Last {
    /// A name to look up, make or remove.
    Name {
        /// Without slashes, 1 to 255 bytes.
        name: Vec<u8>,
        /// True where a slash followed: it must be a directory.
        trailing_slash: bool,
    },
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// The path was only slashes.
    Root,
}

/// A directory and what the last component asks for in it.
pub struct Parent {
    /// The directory; its search permission is checked.
    pub dir: Path,
    /// The last component.
    pub last: Last,
}

/// Walks to a path. Errors: ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, EXDEV, EBADF.
pub fn resolve(cx: &ResolveCx, dir: &DirRef, path: &[u8], flags: LookupFlags) -> Result<Path> {
    let mut walk = Walk::start(cx, dir, path, flags)?;
    while let Some(component) = walk.next_component()? {
        let follow =
            !component.is_last || component.trailing_slash || flags.contains(LookupFlags::FOLLOW);
        let child = walk.step(&component.name)?.ok_or(Errno::ENOENT)?;
        if !(follow && walk.follow(&child)?) {
            walk.enter(child, &component)?;
        }
    }
    if flags.contains(LookupFlags::DIRECTORY) && walk.at.file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR.into());
    }
    Ok(walk.at)
}

/// Walks to the directory of the last component, which is not looked up.
pub fn resolve_parent(
    cx: &ResolveCx,
    dir: &DirRef,
    path: &[u8],
    flags: LookupFlags,
) -> Result<Parent> {
    let mut walk = Walk::start(cx, dir, path, flags - LookupFlags::EMPTY_PATH)?;
    walk.walk_to_last()
}

struct Component {
    name: Vec<u8>,
    is_last: bool,
    trailing_slash: bool,
}

/// A walk under way.
pub(crate) struct Walk<'a> {
    cx: &'a ResolveCx,
    flags: LookupFlags,
    root: Path,
    pub(crate) at: Path,
    rest: Vec<u8>,
    pos: usize,
    links: u32,
}

impl<'a> Walk<'a> {
    pub(crate) fn start(
        cx: &'a ResolveCx,
        dir: &DirRef,
        path: &[u8],
        flags: LookupFlags,
    ) -> Result<Self> {
        if path.len() > PATH_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        if path.is_empty() && !flags.contains(LookupFlags::EMPTY_PATH) {
            return Err(Errno::ENOENT.into());
        }
        let scoped = flags.intersects(LookupFlags::BENEATH | LookupFlags::IN_ROOT);
        let absolute = path.first() == Some(&b'/');
        let at = if absolute && !scoped { cx.root.clone() } else { start_of(cx, dir, path)? };
        if absolute && flags.contains(LookupFlags::BENEATH) {
            return Err(Errno::EXDEV.into());
        }
        let root = if scoped { at.clone() } else { cx.root.clone() };
        Ok(Self { cx, flags, root, at, rest: path.to_vec(), pos: 0, links: 0 })
    }

    /// Consumes up to the last component and returns it without looking it up.
    pub(crate) fn walk_to_last(&mut self) -> Result<Parent> {
        loop {
            self.skip_slashes();
            if self.pos >= self.rest.len() {
                return Ok(Parent { dir: self.at.clone(), last: Last::Root });
            }
            let component = self.take_component()?;
            self.check_search()?;
            if component.is_last {
                let last = match &component.name[..] {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    _ => Last::Name {
                        name: component.name,
                        trailing_slash: component.trailing_slash,
                    },
                };
                return Ok(Parent { dir: self.at.clone(), last });
            }
            if self.dots(&component)? {
                continue;
            }
            let child = self.step(&component.name)?.ok_or(Errno::ENOENT)?;
            if !self.follow(&child)? {
                self.enter(child, &component)?;
            }
        }
    }

    fn skip_slashes(&mut self) {
        while self.rest.get(self.pos) == Some(&b'/') {
            self.pos += 1;
        }
    }

    fn take_component(&mut self) -> Result<Component> {
        let start = self.pos;
        while self.rest.get(self.pos).is_some_and(|b| *b != b'/') {
            self.pos += 1;
        }
        let name = self.rest[start..self.pos].to_vec();
        let trailing_slash = self.rest.get(self.pos) == Some(&b'/');
        self.skip_slashes();
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        let is_last = self.pos >= self.rest.len();
        Ok(Component { name, is_last, trailing_slash: trailing_slash && is_last })
    }

    /// The next component that is a name; `.` and `..` are done on the way. `None` at the end.
    fn next_component(&mut self) -> Result<Option<Component>> {
        loop {
            self.skip_slashes();
            if self.pos >= self.rest.len() {
                return Ok(None);
            }
            let component = self.take_component()?;
            self.check_search()?;
            if !self.dots(&component)? {
                return Ok(Some(component));
            }
        }
    }

    /// True where the component was `.` or `..` and is done.
    fn dots(&mut self, component: &Component) -> Result<bool> {
        match &component.name[..] {
            b"." => Ok(true),
            b".." => {
                self.dot_dot()?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn dot_dot(&mut self) -> Result<()> {
        if self.at == self.root {
            // `..` of the root is the root; RESOLVE_BENEATH forbids even that.
            return if self.flags.contains(LookupFlags::BENEATH) {
                Err(Errno::EXDEV.into())
            } else {
                Ok(())
            };
        }
        let up = self.at.parent(&self.root);
        self.check_mount_change(&up)?;
        self.at = up;
        Ok(())
    }

    fn check_mount_change(&self, to: &Path) -> Result<()> {
        let crosses = !Arc::ptr_eq(&self.at.mount, &to.mount);
        if crosses && self.flags.contains(LookupFlags::NO_XDEV) {
            return Err(Errno::EXDEV.into());
        }
        Ok(())
    }

    /// ENOTDIR where the walk stands on no directory, EACCES where it may not be searched.
    pub(crate) fn check_search(&self) -> Result<()> {
        if self.at.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        permission::check(&**self.at.inode(), Access::EXEC, &self.cx.creds)
    }

    /// Looks up a name in the directory that the walk stands on.
    pub(crate) fn step(&self, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
        self.at.dentry.lookup(name)
    }

    fn enter(&mut self, child: Arc<Dentry>, component: &Component) -> Result<()> {
        self.enter_dentry(child)?;
        if component.trailing_slash && self.at.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        Ok(())
    }

    /// Goes to a child and over any mount on it.
    pub(crate) fn enter_dentry(&mut self, child: Arc<Dentry>) -> Result<()> {
        let next = top_at(Path { mount: self.at.mount.clone(), dentry: child });
        self.check_mount_change(&next)?;
        self.at = next;
        Ok(())
    }

    /// Follows `child` where it is a symbolic link; false where it is none. The walk then stands where its target starts.
    pub(crate) fn follow(&mut self, child: &Arc<Dentry>) -> Result<bool> {
        if child.inode().file_type() != FileType::Symlink {
            return Ok(false);
        }
        self.links += 1;
        if self.links > LINKS_MAX || self.flags.contains(LookupFlags::NO_SYMLINKS) {
            return Err(Errno::ELOOP.into());
        }
        if let Some(to) = child.inode().magic_link() {
            self.follow_magic(to?)?;
            return Ok(true);
        }
        self.check_protected_symlink(child)?;
        let mut target = child.inode().readlink()?;
        if target.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        if target[0] == b'/' {
            if self.flags.contains(LookupFlags::BENEATH) {
                return Err(Errno::EXDEV.into());
            }
            let root = self.root.clone();
            self.check_mount_change(&root)?;
            self.at = root;
        }
        if self.pos < self.rest.len() || self.rest.last() == Some(&b'/') {
            target.push(b'/');
            target.extend_from_slice(&self.rest[self.pos..]);
        }
        self.rest = target;
        self.pos = 0;
        Ok(true)
    }

    fn follow_magic(&mut self, to: Path) -> Result<()> {
        if self.flags.contains(LookupFlags::NO_MAGICLINKS) {
            return Err(Errno::ELOOP.into());
        }
        if self.flags.intersects(LookupFlags::BENEATH | LookupFlags::IN_ROOT) {
            return Err(Errno::EXDEV.into());
        }
        self.check_mount_change(&to)?;
        self.at = to;
        if self.pos >= self.rest.len()
            && self.rest.last() == Some(&b'/')
            && self.at.file_type() != FileType::Directory
        {
            return Err(Errno::ENOTDIR.into());
        }
        Ok(())
    }

    /// fs.protected_symlinks=1: in a sticky directory that all may write, a link is followed only by its owner or where the
    /// directory's owner made it.
    fn check_protected_symlink(&self, link: &Arc<Dentry>) -> Result<()> {
        let dir = self.at.inode().attributes()?;
        if dir.permissions & 0o1002 != 0o1002 {
            return Ok(());
        }
        let owner = link.inode().attributes()?.uid;
        if owner == self.cx.creds.fsuid || owner == dir.uid {
            Ok(())
        } else {
            Err(Errno::EACCES.into())
        }
    }
}

fn start_of(cx: &ResolveCx, dir: &DirRef, path: &[u8]) -> Result<Path> {
    match dir {
        DirRef::Cwd => Ok(cx.cwd.clone()),
        DirRef::Path(path) => Ok(path.clone()),
        DirRef::File(file) => match file.path() {
            Some(at) if path.is_empty() || at.file_type() == FileType::Directory => Ok(at.clone()),
            _ => Err(Errno::ENOTDIR.into()),
        },
    }
}
