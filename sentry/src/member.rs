//! A container of a sandbox, and how a program is started in it: its streams, its terminal, its identity.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::termios::WinSize;
use sentry_fs::stdio;
use sentry_fs::tty::console::{HostOutput, Pump, pump_input};
use sentry_fs::tty::{Attached, ProgramEnd, Terminal, Terminals};
use sentry_kernel::error::Error;
use sentry_kernel::file::{FdTable, FileDescription, OnExec};
use sentry_kernel::limits::{Limits, Privilege};
use sentry_kernel::task::{Container, ControllingTerminal, InitArgs};
use sentry_kernel::vfs::{FileType, OpenFlags, Path};

use crate::boot::{BootError, step};
use crate::config::{Home, HostTerminals, MissingWorkdir, Process, Stdio};
use crate::remote::Running;
use crate::tree::Tree;
use crate::world::World;

/// Bytes of /etc/passwd that are looked at.
const PASSWD_MAX: usize = 1 << 20;

/// A container with its files and its terminals.
pub(crate) struct Member {
    pub(crate) world: Arc<World>,
    pub(crate) container: Arc<Container>,
    pub(crate) tree: Tree,
    pub(crate) terminals: Arc<Terminals>,
}

/// Where a program stands among the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It is the container's first.
    First,
    /// It is added to those that run.
    Beside,
}

/// A terminal that is joined to one of the host.
pub(crate) struct Console {
    terminal: Arc<Terminal>,
    file: Arc<FileDescription>,
    /// Held for what its end does.
    _attached: Option<Attached>,
    _pump: Option<Pump>,
}

impl Console {
    pub(crate) fn resize(&self, size: platform::host::terminal::WindowSize) {
        self.terminal.set_window(win_size(size));
    }
}

fn win_size(size: platform::host::terminal::WindowSize) -> WinSize {
    WinSize {
        rows: size.rows,
        columns: size.columns,
        x_pixels: size.width_px,
        y_pixels: size.height_px,
    }
}

impl Member {
    /// Starts a program.
    pub(crate) fn start(
        &self,
        process: Process,
        stdio: Stdio,
        place: Place,
    ) -> Result<Running, BootError> {
        let (fds, console) = self.open_stdio(stdio, place)?;
        let args = self.arguments(process, fds, console.as_ref())?;
        let program = shown(&args.argv);
        let own_pids = !self.container.pids().has_init();
        let started = match place {
            Place::First if own_pids => self.container.spawn_init(args),
            // In another container's pid namespace it is a process like others.
            Place::First | Place::Beside => self.container.spawn_beside(args),
        };
        let group = started.map_err(|error| cannot_execute(program, &error))?;
        Ok(Running::new(group, console))
    }

    /// Whether [`Self::start`] would find the program and its working directory. A working directory that may be made is.
    pub(crate) fn check(&self, process: &Process) -> Result<(), BootError> {
        self.workdir(process)?;
        self.find_program(process).map(drop)
    }

    fn workdir(&self, process: &Process) -> Result<Path, BootError> {
        let workdir = process.workdir.as_os_str().as_bytes();
        let what = format!("change to the working directory {}", process.workdir.display());
        if process.missing_workdir == MissingWorkdir::Made {
            self.tree.make_directories(workdir, 0o755).map_err(step(what.clone()))?;
        }
        let cwd = self.tree.find(workdir).map_err(step(what.clone()))?;
        match cwd.file_type() {
            FileType::Directory => Ok(cwd),
            _ => Err(BootError::Step { what, errno: Errno::ENOTDIR }),
        }
    }

    fn arguments(
        &self,
        process: Process,
        fds: Arc<FdTable>,
        console: Option<&Console>,
    ) -> Result<InitArgs, BootError> {
        let fs = self.tree.context();
        fs.set_umask(process.umask);
        fs.set_cwd(self.workdir(&process)?);
        let path = self.find_program(&process)?;
        let envp = self.environment(&process);
        let mut limits = Limits::default();
        for (resource, limit) in process.limits {
            limits
                .set(resource, limit, Privilege::Held)
                .map_err(step(format!("set the limit {resource:?}")))?;
        }
        Ok(InitArgs {
            path,
            argv: process.argv,
            envp,
            fds,
            fs,
            credentials: process.credentials,
            limits,
            terminal: console
                .map(|console| console.terminal.clone() as Arc<dyn ControllingTerminal>),
        })
    }

    fn environment(&self, process: &Process) -> Vec<Vec<u8>> {
        let mut env = process.env.clone();
        if process.home == Home::OfUser && !env.iter().any(|v| v.starts_with(b"HOME=")) {
            let users = self.tree.read_file(b"/etc/passwd", PASSWD_MAX).unwrap_or_default();
            let home = home(&users, process.credentials.uid);
            env.push([b"HOME=", home.unwrap_or(b"/")].concat());
        }
        env
    }

    /// Opens descriptors 0, 1 and 2: a terminal for those that are one, the host's file for others.
    fn open_stdio(
        &self,
        stdio: Stdio,
        place: Place,
    ) -> Result<(Arc<FdTable>, Option<Console>), BootError> {
        let table = FdTable::new();
        let mut console: Option<Console> = None;
        let mut streams: Vec<(OwnedFd, Arc<FileDescription>)> = Vec::new();
        let connected = stdio.terminals == HostTerminals::Connected;
        for (number, descriptor) in (0i32..).zip(stdio.descriptors) {
            let Some(descriptor) = descriptor else { continue };
            let file = if connected && platform::host::terminal::is_terminal(descriptor.as_fd()) {
                let opened = match &mut console {
                    Some(console) => console,
                    None => console.insert(self.open_console(&descriptor, place)?),
                };
                if number == 0 {
                    opened._pump = Some(pump_input(opened.terminal.clone(), descriptor)?);
                }
                opened.file.clone()
            } else {
                // `> file 2>&1` is one open file with one position, inside as outside.
                let same = streams
                    .iter()
                    .find(|(other, _)| stdio::share_position(other.as_fd(), descriptor.as_fd()));
                let file = match same {
                    Some((_, file)) => Arc::clone(file),
                    None => stdio::open_stream(&self.world.watcher, descriptor.as_fd())
                        .map_err(step(format!("pass descriptor {number} on")))?,
                };
                streams.push((descriptor, file.clone()));
                file
            };
            table
                .install_at(number, file, OnExec::Keep, 3)
                .map_err(step("install the standard streams"))?;
        }
        Ok((table, console))
    }

    fn open_console(&self, host: &OwnedFd, place: Place) -> Result<Console, BootError> {
        let failed = || step("open the terminal");
        let output = Arc::new(HostOutput(host.try_clone()?));
        let (terminal, attached) = match place {
            Place::First => (self.terminals.make_console(output).map_err(failed())?, None),
            Place::Beside => {
                let attached = self.terminals.make_attached(output).map_err(failed())?;
                (attached.terminal().clone(), Some(attached))
            }
        };
        if let Ok(size) = platform::host::terminal::window_size(host.as_fd()) {
            terminal.set_window(win_size(size));
        }
        // Without devpts it has no name.
        let path = self.tree.find(format!("/dev/pts/{}", terminal.index()).as_bytes()).ok();
        let end = ProgramEnd::open(&terminal).map_err(failed())?;
        let file = FileDescription::new(end, path, OpenFlags::RDWR);
        Ok(Console { terminal, file, _attached: attached, _pump: None })
    }

    /// The path of a program: itself with a slash in it, else the first match in PATH, as execvp(3) has it.
    fn find_program(&self, process: &Process) -> Result<Vec<u8>, BootError> {
        let missing = || BootError::NotFound { program: shown(&process.argv) };
        let name = process.argv.first().filter(|name| !name.is_empty()).ok_or_else(missing)?;
        if name.contains(&b'/') {
            // A relative one is the kernel's to find, from the working directory.
            let there = !name.starts_with(b"/") || self.tree.find(name).is_ok();
            return if there { Ok(name.clone()) } else { Err(missing()) };
        }
        let path = process.env.iter().find_map(|v| v.strip_prefix(b"PATH="));
        let candidates = path
            .unwrap_or(b"/usr/bin:/bin")
            .split(|b| *b == b':')
            .map(|dir| [if dir.is_empty() { b"." } else { dir }, b"/", name].concat());
        let is_file = |path: &Vec<u8>| {
            self.tree.find(path).is_ok_and(|found| found.file_type() == FileType::Regular)
        };
        candidates.into_iter().find(is_file).ok_or_else(missing)
    }
}

/// The home of a user by passwd(5): `name:password:uid:gid:gecos:home:shell`, a line.
fn home(users: &[u8], uid: u32) -> Option<&[u8]> {
    let uid = uid.to_string();
    users.split(|b| *b == b'\n').find_map(|line| {
        let fields: Vec<_> = line.split(|b| *b == b':').collect();
        let home = (fields.get(2) == Some(&uid.as_bytes())).then(|| fields.get(5).copied())??;
        (!home.is_empty()).then_some(home)
    })
}

fn shown(argv: &[Vec<u8>]) -> String {
    String::from_utf8_lossy(argv.first().map_or(b"".as_slice(), Vec::as_slice)).into_owned()
}

fn cannot_execute(program: String, error: &Error) -> BootError {
    match error.errno() {
        Errno::ENOENT => BootError::NotFound { program },
        Errno::ENOEXEC => BootError::NotExecutable {
            program,
            reason: "not a program for this machine (x86-64 Linux)",
        },
        Errno::ELIBBAD => {
            BootError::NotExecutable { program, reason: "its interpreter is damaged" }
        }
        Errno::EISDIR => BootError::NotExecutable { program, reason: "Is a directory" },
        Errno::EACCES => BootError::NotExecutable { program, reason: "Permission denied" },
        errno => BootError::Step { what: format!("start {program}"), errno },
    }
}

#[cfg(test)]
mod tests {
    use super::home;

    #[test]
    fn a_home_is_found_by_number_and_broken_lines_are_passed_over() {
        let users = b"x\n:::\nroot:x:0:0:root:/root:/bin/sh\nu:x:7:7:::\nv:x:7:7::/home/v:\n";
        assert_eq!(home(users, 0), Some(&b"/root"[..]));
        assert_eq!(home(users, 7), Some(&b"/home/v"[..]));
        assert_eq!(home(users, 8), None);
    }
}
