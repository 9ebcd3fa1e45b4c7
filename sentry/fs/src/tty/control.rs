//! Job control and the requests of ioctl_tty(2).

use std::sync::Arc;

use sentry_abi::resource::Resource;
use sentry_abi::signal::Signal;
use sentry_abi::termios::{self as abi, KernelTermios, KernelTermios2, LocalModes, WinSize};
use sentry_abi::{Errno, UserAddr, UserPtr};
use sentry_kernel::cred::Capabilities;
use sentry_kernel::error::Result;
use sentry_kernel::file::{FileDescription, OnExec};
use sentry_kernel::task::{ControllingTerminal, CurrentTask};
use sentry_kernel::vfs::{self, Access, DirRef, LookupFlags, OpenFlags, Path};

use crate::tty::ends::ProgramEnd;
use crate::tty::terminal::Terminal;

/// Bauds that TCGETS2 tells: what B38400 in the standard modes means.
const SPEED: u32 = 38400;

/// Stops a background task that reads, or writes under TOSTOP (tty_check_change and n_tty's job control).
pub(super) fn admit(terminal: &Terminal, task: &CurrentTask, access: Access) -> Result<()> {
    let signal = if access.contains(Access::READ) {
        Signal::SIGTTIN
    } else if terminal.lock().line.termios().local().contains(LocalModes::TOSTOP) {
        Signal::SIGTTOU
    } else {
        return Ok(());
    };
    task.check_job_control(terminal, signal)
}

/// Requests on the program's end. Errors: ENOTTY for what is no request of terminals.
// tidy: table
pub(super) fn program_ioctl(
    terminal: &Arc<Terminal>,
    task: &CurrentTask,
    request: u32,
    arg: UserAddr,
) -> Result<u64> {
    if terminal.is_hung_up() {
        return Err(Errno::EIO.into());
    }
    match request {
        abi::TCSETS
        | abi::TCSETSW
        | abi::TCSETSF
        | abi::TCSETS2
        | abi::TCSETSW2
        | abi::TCSETSF2
        | abi::TIOCSPGRP
        | abi::TCFLSH
        | abi::TCXONC
        | abi::TCSBRK
        | abi::TCSBRKP => task.check_job_control(terminal.as_ref(), Signal::SIGTTOU)?,
        _ => {}
    }
    match request {
        abi::TIOCGPGRP => {
            group_out(terminal.foreground_group(), is_ours(terminal, task), task, arg)
        }
        abi::TIOCGSID => group_out(terminal.session(), is_ours(terminal, task), task, arg),
        abi::TIOCSPGRP => set_foreground(terminal, task, arg),
        abi::TIOCSCTTY => take(terminal, task, arg.0),
        abi::TIOCNOTTY => {
            if !is_ours(terminal, task) {
                return Err(Errno::ENOTTY.into());
            }
            task.pids().release_terminal(task.pid())?;
            Ok(0)
        }
        abi::FIONREAD => int_out(task, arg, terminal.lock().line.available() as i32),
        _ => common_ioctl(terminal, task, request, arg),
    }
}

/// Requests on the master's end.
pub(super) fn master_ioctl(
    terminal: &Arc<Terminal>,
    task: &CurrentTask,
    request: u32,
    arg: UserAddr,
) -> Result<u64> {
    match request {
        abi::TIOCGPTN => int_out(task, arg, terminal.index() as i32),
        abi::TIOCSPTLCK => {
            let value: i32 = task.mm().read_obj(UserPtr::new(arg.0))?;
            terminal.lock().locked = value != 0;
            Ok(0)
        }
        abi::TIOCGPTLCK => int_out(task, arg, i32::from(terminal.lock().locked)),
        abi::TIOCGPTPEER => {
            let flags = OpenFlags::from_bits(arg.0 as u32).ok_or(Errno::EINVAL)?;
            let file =
                FileDescription::new(ProgramEnd::open(terminal)?, node_of(terminal, task), flags);
            let limit = task.thread_group().soft_limit(Resource::Nofile);
            let fd = task.fds().install(file, OnExec::from_flags(flags), limit)?;
            Ok(fd as u64)
        }
        abi::TIOCGPGRP => group_out(terminal.foreground_group(), true, task, arg),
        abi::TIOCGSID => group_out(terminal.session(), true, task, arg),
        abi::TIOCSPGRP => Err(Errno::ENOTTY.into()),
        abi::FIONREAD => int_out(task, arg, terminal.pending() as i32),
        _ => common_ioctl(terminal, task, request, arg),
    }
}

// tidy: table
fn common_ioctl(
    terminal: &Arc<Terminal>,
    task: &CurrentTask,
    request: u32,
    arg: UserAddr,
) -> Result<u64> {
    let mm = task.mm();
    match request {
        abi::TCGETS => {
            let termios = *terminal.lock().line.termios();
            mm.write_obj(UserPtr::new(arg.0), &termios)?;
        }
        abi::TCGETS2 => {
            let termios = *terminal.lock().line.termios();
            mm.write_obj(
                UserPtr::new(arg.0),
                &KernelTermios2 { termios, ispeed: SPEED, ospeed: SPEED },
            )?;
        }
        abi::TCSETS | abi::TCSETSW | abi::TCSETSF => {
            let termios: KernelTermios = mm.read_obj(UserPtr::new(arg.0))?;
            set_modes(terminal, termios, request == abi::TCSETSF);
        }
        abi::TCSETS2 | abi::TCSETSW2 | abi::TCSETSF2 => {
            let termios: KernelTermios2 = mm.read_obj(UserPtr::new(arg.0))?;
            set_modes(terminal, termios.termios, request == abi::TCSETSF2);
        }
        abi::TIOCGWINSZ => {
            let window = terminal.lock().window;
            mm.write_obj(UserPtr::new(arg.0), &window)?;
        }
        abi::TIOCSWINSZ => {
            let window: WinSize = mm.read_obj(UserPtr::new(arg.0))?;
            terminal.set_window(window);
        }
        abi::TIOCOUTQ => return int_out(task, arg, terminal.pending() as i32),
        abi::TIOCGETD => return int_out(task, arg, 0),
        // Output leaves at once: there is nothing to drain and no line to break.
        abi::TCSBRK | abi::TCSBRKP => {}
        abi::TCFLSH => flush(terminal, arg.0)?,
        abi::TCXONC => flow(terminal, arg.0)?,
        abi::TIOCSTI if !task.credentials().has(Capabilities::SYS_ADMIN) => {
            return Err(Errno::EIO.into());
        }
        abi::TIOCSTI => {
            let byte: u8 = mm.read_obj(UserPtr::new(arg.0))?;
            terminal.type_bytes(&[byte]);
        }
        _ => return Err(Errno::ENOTTY.into()),
    }
    Ok(0)
}

fn set_modes(terminal: &Terminal, termios: KernelTermios, flush: bool) {
    if flush {
        terminal.lock().line.flush_input();
    }
    terminal.set_termios(termios);
}

/// TCFLSH: 0 input, 1 output, 2 both.
fn flush(terminal: &Terminal, queue: u64) -> Result<()> {
    if queue > 2 {
        return Err(Errno::EINVAL.into());
    }
    if queue != 1 {
        terminal.lock().line.flush_input();
    }
    if queue != 0 {
        terminal.flush_output();
    }
    Ok(())
}

/// TCXONC: 0 stops output, 1 starts it, 2 and 3 tell the other side, which is no serial line.
fn flow(terminal: &Terminal, action: u64) -> Result<()> {
    match action {
        0 => terminal.lock().line.hold_output(),
        1 => {
            terminal.lock().line.release_output();
            terminal.program_queue.notify(sentry_kernel::wait::Events::OUT);
        }
        2 | 3 => {}
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(())
}

/// The terminal's node, so that ttyname(3) finds it; `None` where /dev/pts is not the usual one.
fn node_of(terminal: &Terminal, task: &CurrentTask) -> Option<Path> {
    let name = format!("/dev/pts/{}", terminal.index());
    let node =
        vfs::resolve(&task.resolve_cx(), &DirRef::Cwd, name.as_bytes(), LookupFlags::empty());
    let is_it = |node: &Path| node.inode().attributes().is_ok_and(|a| a.rdev == terminal.rdev());
    node.ok().filter(is_it)
}

fn is_ours(terminal: &Terminal, task: &CurrentTask) -> bool {
    let group = task.pids().process_group_of(task.pid());
    group.is_some_and(|g| terminal.session() == Some(g.session().id()))
}

fn int_out(task: &CurrentTask, arg: UserAddr, value: i32) -> Result<u64> {
    task.mm().write_obj(UserPtr::new(arg.0), &value)?;
    Ok(0)
}

fn group_out(id: Option<u32>, ours: bool, task: &CurrentTask, arg: UserAddr) -> Result<u64> {
    if !ours {
        return Err(Errno::ENOTTY.into());
    }
    int_out(task, arg, id.unwrap_or(0) as i32)
}

fn set_foreground(terminal: &Terminal, task: &CurrentTask, arg: UserAddr) -> Result<u64> {
    if !is_ours(terminal, task) {
        return Err(Errno::ENOTTY.into());
    }
    let id: i32 = task.mm().read_obj(UserPtr::new(arg.0))?;
    let id = u32::try_from(id).map_err(|_| Errno::EINVAL)?;
    let group = task.pids().process_group(id).ok_or(Errno::ESRCH)?;
    if terminal.session() != Some(group.session().id()) {
        return Err(Errno::EPERM.into());
    }
    terminal.set_foreground_group(Some(id));
    Ok(0)
}

/// TIOCSCTTY, and the open(2) of a session leader without a terminal: makes it the session's. `force` 1 takes it from another session.
pub(super) fn take(
    terminal: &Arc<Terminal>,
    task: &sentry_kernel::task::Task,
    force: u64,
) -> Result<u64> {
    let pids = task.pids();
    let group = pids.process_group_of(task.pid()).ok_or(Errno::ESRCH)?;
    let session = group.session().id();
    if session == task.pid() && terminal.session() == Some(session) {
        return Ok(0);
    }
    if session != task.pid() || group.session().terminal().is_some() {
        return Err(Errno::EPERM.into());
    }
    if terminal.session().is_some()
        && !(force == 1 && task.credentials().has(Capabilities::SYS_ADMIN))
    {
        return Err(Errno::EPERM.into());
    }
    pids.set_terminal(task.pid(), terminal.clone())?;
    Ok(0)
}
