//! execve(2): a new program in a thread group, and the first program of all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use platform::arch::signal_frame;
use platform::{FpuState, Registers};
use sentry_abi::resource::{RLIM_INFINITY, Resource};
use sentry_abi::sched::SCHED_OTHER;
use sentry_abi::signal::{SS_DISABLE, SigSet, Signal, StackT};
use sentry_abi::{Errno, UserAddr};

use crate::cred::{Capabilities, Credentials};
use crate::error::{Error, Restart, Result};
use crate::file::{FdTable, FileDescription};
use crate::kernel::Kernel;
use crate::limits::Limits;
use crate::loader::{self, ExecIdentity, ExecOpener, LoadRandom, LoadRequest, Loaded};
use crate::mm::{LayoutRandom, MemoryLimits};
use crate::signal::SignalHandlers;
use crate::task::clone::spawn;
use crate::task::container::Container;
use crate::task::current::CurrentTask;
use crate::task::exit::release_user_memory;
use crate::task::group::ThreadGroup;
use crate::task::namespace::INIT_PID;
use crate::task::session::ControllingTerminal;
use crate::task::task::{Attention, Details, Resources, Scheduling, Task, TaskInit};
use crate::vfs::open::honours_setid;
use crate::vfs::{
    Access, DirRef, FileType, FsContext, LookupFlags, MountFlags, OpenFlags, ResolveCx, permission,
    resolve,
};

/// personality(2): no address-space randomization.
const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;
/// SECBIT_NOROOT: uid 0 means nothing for capabilities.
const SECBIT_NOROOT: u32 = 1;
/// SECBIT_KEEP_CAPS, which execve clears.
const SECBIT_KEEP_CAPS: u32 = 1 << 4;

/// What execve(2) and execveat(2) ask for.
pub struct ExecRequest {
    /// Where a relative path starts.
    pub dir: DirRef,
    /// The path.
    pub path: Vec<u8>,
    /// FOLLOW, EMPTY_PATH.
    pub lookup: LookupFlags,
    /// How the program is named to itself where `path` is empty or relative to a descriptor: `/dev/fd/N…`.
    pub shown_path: Vec<u8>,
    /// True where `shown_path` names a descriptor that exec closes: a script's interpreter could not open it.
    pub path_closes: bool,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
}

/// What a program starts with that no other program of the sandbox has started: the first one, and those that the sandbox's keeper adds.
pub struct InitArgs {
    /// Path in the tree of mounts.
    pub path: Vec<u8>,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// Descriptors: standard input, output, error.
    pub fds: Arc<FdTable>,
    /// Root, working directory, umask.
    pub fs: Arc<FsContext>,
    /// Identity.
    pub credentials: Credentials,
    /// Limits.
    pub limits: Limits,
    /// The controlling terminal of its session.
    pub terminal: Option<Arc<dyn ControllingTerminal>>,
}

/// Opens programs as a task with this context may.
struct Opener<'a> {
    cx: &'a ResolveCx,
}

impl Opener<'_> {
    fn open_at(
        &self,
        dir: &DirRef,
        path: &[u8],
        lookup: LookupFlags,
    ) -> Result<Arc<FileDescription>> {
        let found = resolve(self.cx, dir, path, lookup)?;
        let inode = found.dentry.inode().clone();
        match inode.file_type() {
            FileType::Regular => {}
            // Without O_NOFOLLOW a link was followed; one that is left was not to be.
            FileType::Symlink => return Err(Errno::ELOOP.into()),
            _ => return Err(Errno::EACCES.into()),
        }
        if found.mount.flags().contains(MountFlags::NOEXEC) {
            return Err(Errno::EACCES.into());
        }
        permission::check_path(&found, Access::EXEC, &self.cx.creds)?;
        // Reading permission is not asked for: a program may be executable only.
        let ops = inode.open(OpenFlags::empty(), &self.cx.creds)?;
        Ok(FileDescription::new(ops, Some(found), OpenFlags::empty()))
    }
}

impl ExecOpener for Opener<'_> {
    fn open_exec(&self, path: &[u8]) -> Result<Arc<FileDescription>> {
        self.open_at(&DirRef::Cwd, path, LookupFlags::FOLLOW)
    }

    fn identity(&self, file: &FileDescription) -> ExecIdentity {
        let creds = credentials_after(&self.cx.creds, file);
        let secure = creds.euid != creds.uid
            || creds.egid != creds.gid
            || !self.cx.creds.permitted.contains(creds.permitted);
        ExecIdentity { uid: creds.uid, euid: creds.euid, gid: creds.gid, egid: creds.egid, secure }
    }
}

/// The identity that a program gets (execve(2), capabilities(7) "Transformation of capabilities during execve()").
fn credentials_after(old: &Credentials, file: &FileDescription) -> Credentials {
    let mut new = old.clone();
    let attrs = file.path().and_then(|p| Some((p, p.dentry.inode().attributes().ok()?)));
    if let Some((path, attrs)) = attrs
        && !old.no_new_privs
        && honours_setid(path, &attrs)
    {
        if attrs.permissions & 0o4000 != 0 {
            new.euid = attrs.uid;
        }
        // Without the group's execute bit, set-gid once meant mandatory locking.
        if attrs.permissions & 0o2010 == 0o2010 {
            new.egid = attrs.gid;
        }
    }
    let changed = new.euid != old.euid || new.egid != old.egid;
    (new.suid, new.fsuid, new.sgid, new.fsgid) = (new.euid, new.euid, new.egid, new.egid);
    if changed {
        new.ambient = Capabilities::empty();
    }
    let root = new.securebits & SECBIT_NOROOT == 0 && (new.uid == 0 || new.euid == 0);
    if root {
        new.permitted = new.inheritable | new.bounding;
        new.effective = if new.euid == 0 { new.permitted } else { new.ambient };
    } else {
        new.permitted = new.ambient;
        new.effective = new.ambient;
    }
    new.securebits &= !SECBIT_KEEP_CAPS;
    new
}

fn memory_limits(limits: &Limits, creds: &Credentials) -> MemoryLimits {
    let privileged = creds.has(Capabilities::IPC_LOCK);
    MemoryLimits {
        address_space: limits.soft(Resource::As),
        data: limits.soft(Resource::Data),
        stack: limits.soft(Resource::Stack),
        locked: if privileged { RLIM_INFINITY } else { limits.soft(Resource::Memlock) },
    }
}

fn load_random(kernel: &Kernel, personality: u32) -> LoadRandom {
    let mut words = [[0u8; 8]; 4];
    let mut bytes = [0u8; 16];
    kernel.fill_random(&mut bytes);
    if personality & ADDR_NO_RANDOMIZE == 0 {
        words.iter_mut().for_each(|w| kernel.fill_random(w));
    }
    let [mmap, stack, brk, image] = words.map(u64::from_ne_bytes);
    LoadRandom { layout: LayoutRandom { mmap, stack, brk, image }, bytes }
}

fn machine() -> loader::Machine {
    loader::Machine {
        hwcap: u64::from(std::arch::x86_64::__cpuid(1).edx),
        hwcap2: 0,
        min_signal_stack: signal_frame::min_stack_size() as u64,
    }
}

impl Container {
    /// Starts the first program of a pid namespace, as process 1 in a session of its own. Errors: as execve(2); ENOMEM, EAGAIN; EEXIST where there is one.
    pub fn spawn_init(self: &Arc<Self>, args: InitArgs) -> Result<Arc<ThreadGroup>> {
        self.check_tasks()?;
        let starting = self.load_program(args)?;
        let pid = self.pids().allocate()?;
        if pid != INIT_PID {
            return Err(Errno::EEXIST.into());
        }
        self.start_program(starting, pid)
    }

    /// Starts a program beside those that run, in a session of its own and without a parent, as one that enters a PID namespace from
    /// outside. Nobody waits for it: [`ThreadGroup::end_status`] tells how it ended. Errors: as [`Self::spawn_init`]; ESRCH once init ended.
    pub fn spawn_beside(self: &Arc<Self>, args: InitArgs) -> Result<Arc<ThreadGroup>> {
        self.check_tasks()?;
        let starting = self.load_program(args)?;
        let pid = self.pids().allocate()?;
        // pid_namespaces(7): without init, there are no new processes.
        if !self.runs() {
            return Err(Errno::ESRCH.into());
        }
        let group = self.start_program(starting, pid)?;
        if !self.runs() {
            // Init or the container ended meanwhile, and may not have seen this one when the others were ended.
            group.kill();
        }
        Ok(group)
    }

    /// Whether there may be new processes.
    fn runs(&self) -> bool {
        !self.is_over() && !self.kernel().is_over() && self.pids().has_init()
    }

    fn load_program(self: &Arc<Self>, args: InitArgs) -> Result<Starting> {
        let kernel = self.kernel();
        let creds = Arc::new(args.credentials);
        let cx = ResolveCx::new(&args.fs, creds.clone());
        let opener = Opener { cx: &cx };
        let file = opener.open_exec(&args.path)?;
        let loaded = loader::load(&LoadRequest {
            platform: kernel.platform(),
            file,
            path: &args.path,
            argv: args.argv,
            envp: args.envp,
            opener: &opener,
            random: load_random(kernel, 0),
            limits: memory_limits(&args.limits, &creds),
            machine: machine(),
            vdso: kernel.vdso(),
        })?;
        let credentials = Arc::new(credentials_after(&creds, &loaded.exe));
        let resources = Resources { mm: loaded.mm.clone(), fds: args.fds, fs: args.fs };
        resources.fds.close_on_exec();
        Ok(Starting {
            loaded,
            resources,
            credentials,
            limits: args.limits,
            terminal: args.terminal,
        })
    }

    fn start_program(self: &Arc<Self>, starting: Starting, pid: u32) -> Result<Arc<ThreadGroup>> {
        let Starting { loaded, resources, credentials, limits, terminal } = starting;
        let handlers = Arc::new(SignalHandlers::default());
        let group = ThreadGroup::new(self, pid, handlers, limits, None);
        group.set_executable(Some(loaded.exe.clone()));
        group.mark_executed();
        let task = Task::new(TaskInit {
            group: group.clone(),
            tid: pid,
            resources: resources.clone(),
            credentials,
            details: first_details(self.kernel(), loaded.comm.clone()),
            blocked: SigSet::EMPTY,
        });
        group.members.lock().tasks.push(task.clone());
        self.pids().insert(&task, 0);
        if let Some(terminal) = terminal {
            // A fresh session has no terminal, so this takes it.
            self.pids().set_terminal(pid, terminal)?;
        }
        let registers = Registers::at_entry(loaded.entry.0, loaded.sp.0);
        if spawn(task, resources, registers, None).is_err() {
            self.pids().forget(pid);
            return Err(Errno::EAGAIN.into());
        }
        Ok(group)
    }
}

/// A program that is loaded and has no process yet.
struct Starting {
    loaded: Loaded,
    resources: Resources,
    credentials: Arc<Credentials>,
    limits: Limits,
    terminal: Option<Arc<dyn ControllingTerminal>>,
}

fn first_details(kernel: &Kernel, comm: Vec<u8>) -> Details {
    let mut affinity = vec![0u64; kernel.cpus().div_ceil(64)];
    for cpu in 0..kernel.cpus() {
        affinity[cpu / 64] |= 1 << (cpu % 64);
    }
    Details {
        comm,
        robust_list: 0,
        clear_child_tid: 0,
        parent_death_signal: 0,
        timer_slack_ns: 50_000,
        scheduling: Scheduling {
            policy: SCHED_OTHER,
            priority: 0,
            nice: 0,
            reset_on_fork: false,
            affinity,
        },
    }
}

impl CurrentTask {
    /// execve(2): replaces the program. On `Ok` the registers are those of the new one; on an error the old one goes on.
    /// Errors: as the manual; an interruption where the group ends meanwhile.
    pub fn execute(&mut self, request: ExecRequest) -> Result<()> {
        let cx = self.resolve_cx();
        let opener = Opener { cx: &cx };
        let file = opener.open_at(&request.dir, &request.path, request.lookup)?;
        if request.path_closes && loader::is_script(&file)? {
            return Err(Errno::ENOENT.into());
        }
        let group = self.thread_group().clone();
        let kernel = self.kernel().clone();
        let loaded = loader::load(&LoadRequest {
            platform: kernel.platform(),
            file,
            path: &request.shown_path,
            argv: request.argv,
            envp: request.envp,
            opener: &opener,
            random: load_random(&kernel, group.personality()),
            limits: memory_limits(&group.limits(), &cx.creds),
            machine: machine(),
            vdso: kernel.vdso(),
        })?;
        self.end_siblings(&group)?;
        let new_creds = credentials_after(&cx.creds, &loaded.exe);
        self.install_program(&group, loaded, new_creds);
        Ok(())
    }

    /// Ends the other tasks of the group and takes over the leader's id. Errors: an interruption where the whole group ends.
    fn end_siblings(&self, group: &Arc<ThreadGroup>) -> Result<()> {
        {
            let mut members = group.members.lock();
            if members.exiting.is_some() || members.exec.is_some() {
                return Err(Error::interrupted(Restart::Always));
            }
            members.exec = Some(self.task.clone());
            for task in members.tasks.iter().filter(|t| !Arc::ptr_eq(t, &self.task)) {
                task.demand(Attention::EXIT);
            }
        }
        loop {
            {
                let mut members = group.members.lock();
                if members.exiting.is_some() {
                    members.exec = None;
                    return Err(Error::interrupted(Restart::Always));
                }
                if members.tasks.len() == 1 {
                    members.exec = None;
                    members.leader_status = None;
                    break;
                }
            }
            self.park(None);
        }
        if !self.task.is_leader() {
            self.pids().become_leader(&self.task);
        }
        Ok(())
    }

    /// Past the point of no return: the old program is gone.
    fn install_program(&mut self, group: &Arc<ThreadGroup>, loaded: Loaded, creds: Credentials) {
        release_user_memory(&self.task, &self.resources.mm);
        // One count is this struct's, one the task's own: more means another task. A table of its own keeps its identity, and its locks.
        let shared = Arc::strong_count(&self.resources.fds) > 2;
        let old = self.resources.clone();
        let mut resources = Resources { mm: loaded.mm.clone(), ..old.clone() };
        if shared {
            resources.fds = old.fds.fork();
        }
        resources.fds.close_on_exec();
        self.replace_resources(resources);
        drop(old);
        group.set_handlers(group.handlers().fork_for_exec());
        group.set_exit_signal(Signal::SIGCHLD);
        group.timers().clear_posix();
        group.set_executable(Some(loaded.exe.clone()));
        group.mark_executed();
        let privileged = loaded.identity.secure;
        group.set_dumpable(if privileged { 0 } else { 1 });
        {
            let mut own = self.task.signals.lock();
            own.alt_stack = StackT { flags: SS_DISABLE, ..StackT::default() };
            own.saved_mask = None;
        }
        self.task.details(|d| {
            d.comm = loaded.comm.clone();
            if privileged {
                d.parent_death_signal = 0;
            }
        });
        self.task.set_credentials(creds);
        self.registers = Registers::at_entry(loaded.entry.0, loaded.sp.0);
        self.registers_replaced = true;
        self.restart_block = None;
        self.trap = signal_frame::Trap::default();
        self.task.vfork_done();
        if self.context.load_fpu(&FpuState::initial()).is_err() {
            self.kill_by_segv();
        }
    }

    /// The address of the next instruction and the stack pointer, for messages about a fresh program.
    pub fn entry_state(&self) -> (UserAddr, UserAddr) {
        (UserAddr(self.registers.rip), UserAddr(self.registers.rsp))
    }
}

impl Task {
    /// Tells the memory manager the limits of now: after setrlimit(2), and before calls that depend on capabilities too.
    pub fn update_memory_limits(&self) {
        if let Some(resources) = self.resources() {
            let limits = memory_limits(&self.thread_group().limits(), &self.credentials());
            resources.mm.set_limits(limits);
        }
    }

    fn vfork_done(&self) {
        if let Some(done) = self.vfork.lock().take() {
            done.complete();
        }
        self.sleeping.store(false, Ordering::Relaxed);
    }
}
