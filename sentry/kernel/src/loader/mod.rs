//! The loader: from an opened file to a new address space with the program in it (execve(2)).
//!
//! It must not know the path walk or permissions: the caller opens files for it ([`ExecOpener`]). It works on a new address space only,
//! so that a failure leaves the caller's program as it was.

pub mod elf;
pub mod script;
pub mod stack;
pub mod vdso;

mod image;

use std::sync::Arc;

use platform::{Platform, Prot};
use sentry_abi::mman::{MapFlags, MapType};
use sentry_abi::{Errno, PAGE_SIZE, UserAddr, auxv};

use crate::error::{Error, Result};
use crate::file::FileDescription;
use crate::io::SliceSink;
use crate::mm::{
    ImageRanges, Layout, LayoutRandom, MapSource, MemoryLimits, MemoryManager, MmapArgs,
};

pub use stack::{ArgBudget, read_strings};
pub use vdso::{MappedVdso, Vdso};

use elf::{Image, StackRights};
use image::Placed;

/// How many times a script's interpreter may be a script itself (exec_binprm).
const SCRIPTS_MAX: usize = 5;
/// Room that the stack has at once, beyond what is on it (setup_arg_pages).
const STACK_SLACK: u64 = 128 << 10;

/// Who the program runs as: what AT_UID and its relatives say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExecIdentity {
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
    /// AT_SECURE: the program has rights that its caller has not.
    pub secure: bool,
}

/// Opens files for the loader.
pub trait ExecOpener {
    /// Opens `path` (relative to the task's working directory) for execution: a regular file with execute permission, not on a noexec mount.
    /// Errors: ENOENT, EACCES, ENOTDIR, ELOOP, ENAMETOOLONG, ETXTBSY.
    fn open_exec(&self, path: &[u8]) -> Result<Arc<FileDescription>>;

    /// The identity that the program gets, by the final file's set-uid and set-gid bits.
    fn identity(&self, file: &FileDescription) -> ExecIdentity;
}

/// Random numbers for one program.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadRandom {
    /// For the places.
    pub layout: LayoutRandom,
    /// What AT_RANDOM shows.
    pub bytes: [u8; 16],
}

/// What the processor is, for the auxiliary vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// AT_HWCAP: CPUID.1:EDX.
    pub hwcap: u64,
    /// AT_HWCAP2: bit 1 says that the FSGSBASE instructions work.
    pub hwcap2: u64,
    /// AT_MINSIGSTKSZ: bytes of the largest signal frame.
    pub min_signal_stack: u64,
}

/// What to load.
pub struct LoadRequest<'a> {
    /// Where the program will run.
    pub platform: &'a Arc<dyn Platform>,
    /// The file, opened for execution.
    pub file: Arc<FileDescription>,
    /// The path as it was given: AT_EXECFN, and a script's name for its interpreter.
    pub path: &'a [u8],
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// Opens interpreters.
    pub opener: &'a dyn ExecOpener,
    /// Randomness.
    pub random: LoadRandom,
    /// Limits of the new address space.
    pub limits: MemoryLimits,
    /// The processor.
    pub machine: Machine,
    /// The vDSO, where the platform has one.
    pub vdso: Option<&'a Vdso>,
}

/// A program that is ready to run.
pub struct Loaded {
    /// Its address space; argument and environment ranges are in [`MemoryManager::image`].
    pub mm: Arc<MemoryManager>,
    /// First instruction (the interpreter's where there is one).
    pub entry: UserAddr,
    /// Stack pointer.
    pub sp: UserAddr,
    /// Name of the task: the last component of the path, at most 15 bytes.
    pub comm: Vec<u8>,
    /// The program's file (a script's interpreter, not the script).
    pub exe: Arc<FileDescription>,
    /// Who it runs as.
    pub identity: ExecIdentity,
    /// Where the vDSO lies.
    pub vdso: Option<MappedVdso>,
}

/// Loads a program. Errors as execve(2): ENOEXEC, E2BIG, ENOENT and the opener's for interpreters, ELIBBAD for a bad ELF interpreter, ELOOP for scripts of scripts, ENOMEM, EIO.
pub fn load(request: &LoadRequest<'_>) -> Result<Loaded> {
    let program = find_program(request)?;
    let mut budget = ArgBudget::new(request.limits.stack);
    for string in program.argv.iter().chain(&request.envp) {
        budget.take(string.len())?;
    }
    budget.take(request.path.len())?;
    let user = request.platform.user_range();
    let image = image::read(&program.file, &program.head, user.end)?;
    let interpreter = match &image.interpreter {
        Some(part) => Some(open_interpreter(request, &program.file, part, user.end)?),
        None => None,
    };
    let layout = Layout::new(user, request.limits.stack, request.random.layout);
    let mm = MemoryManager::new(request.platform, layout.clone())?;
    mm.set_limits(request.limits);

    let placed = image::map(&mm, &program.file, &image, place_of(&image, &layout))?;
    let base = match &interpreter {
        Some((file, image)) => Some(image::map(&mm, file, image, image::Place::Mmap)?),
        None => None,
    };
    set_brk(&mm, &image, &placed, &layout);
    let vdso = request.vdso.map(|vdso| vdso.map(&mm)).transpose()?;
    let identity = request.opener.identity(&program.file);
    let parts = Parts { program: &program, image: &image, placed: &placed, base: &base, vdso };
    let sp = put_stack(request, &mm, &layout, &parts, &identity)?;
    Ok(Loaded {
        entry: UserAddr(base.as_ref().map_or(placed.entry, |base| base.entry)),
        sp: UserAddr(sp),
        comm: comm_of(request.path),
        exe: program.file.clone(),
        identity,
        vdso,
        mm,
    })
}

/// True for a file that begins as a script. Errors: the file's.
pub fn is_script(file: &FileDescription) -> Result<bool> {
    Ok(script::is_script(&read_part(file, 0, 2)?))
}

/// The name that a task gets for a path.
pub fn comm_of(path: &[u8]) -> Vec<u8> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    name.get(..15).unwrap_or(name).to_vec()
}

/// The ELF file that is run in the end, with the arguments that it gets.
struct Program {
    file: Arc<FileDescription>,
    /// The file's first bytes.
    head: Vec<u8>,
    argv: Vec<Vec<u8>>,
}

/// Follows `#!` lines to a file that is no script.
fn find_program(request: &LoadRequest<'_>) -> Result<Program> {
    let mut argv = request.argv.clone();
    if argv.is_empty() {
        // Linux gives an empty argv[0] since 5.18, so that programs that count from 1 do not read the environment.
        argv.push(Vec::new());
    }
    let mut file = request.file.clone();
    let mut path = request.path.to_vec();
    for _ in 0..=SCRIPTS_MAX {
        let head = read_part(&file, 0, script::LINE_MAX)?;
        if !script::is_script(&head) {
            return Ok(Program { file, head, argv });
        }
        let found = script::parse(&head)?;
        // execve(2): interpreter [optional-arg] pathname arg...
        let mut arguments = vec![found.path.clone()];
        arguments.extend(found.argument);
        arguments.push(path);
        arguments.extend(argv.into_iter().skip(1));
        argv = arguments;
        file = request.opener.open_exec(&found.path)?;
        path = found.path;
    }
    Err(Errno::ELOOP.into())
}

/// Reads up to `len` bytes at `offset`; fewer at the end of the file.
fn read_part(file: &FileDescription, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        let mut sink = SliceSink::new(&mut bytes[filled..]);
        let count = file.ops().read(offset.saturating_add(filled as u64), &mut sink)?;
        if count == 0 {
            break;
        }
        filled = (filled + count).min(len);
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn open_interpreter(
    request: &LoadRequest<'_>,
    program: &FileDescription,
    part: &elf::FilePart,
    user_end: u64,
) -> Result<(Arc<FileDescription>, Image)> {
    let name = read_part(program, part.offset, part.len as usize)?;
    // It must end with its NUL; what C sees of it ends at the first one.
    if name.len() as u64 != part.len || name.last() != Some(&0) {
        return Err(Error::with_msg(Errno::ENOEXEC, "the interpreter's name is malformed"));
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let file = request.opener.open_exec(name)?;
    let head = read_part(&file, 0, script::LINE_MAX)?;
    let image = image::read(&file, &head, user_end).map_err(|error| {
        // execve(2): ELIBBAD, an ELF interpreter was not in a recognized format.
        if error.is(Errno::ENOEXEC) { Errno::ELIBBAD.into() } else { error }
    })?;
    Ok((file, image))
}

fn place_of(image: &Image, layout: &Layout) -> image::Place {
    match (image.header.placement, &image.interpreter) {
        (elf::Placement::Fixed, _) => image::Place::AsLinked,
        // Programs have their own place; a static-PIE program or the dynamic linker started as one goes where mmap would put it.
        (elf::Placement::Anywhere, Some(_)) => image::Place::At(layout.image_base),
        (elf::Placement::Anywhere, None) => image::Place::Mmap,
    }
}

fn set_brk(mm: &MemoryManager, image: &Image, placed: &Placed, layout: &Layout) {
    let alone = image.header.placement == elf::Placement::Anywhere && image.interpreter.is_none();
    let end = if alone { layout.image_base } else { placed.end };
    mm.set_brk_start(UserAddr(end.saturating_add(layout.brk_gap)));
}

/// What the stack tells of the load.
struct Parts<'a> {
    program: &'a Program,
    image: &'a Image,
    placed: &'a Placed,
    base: &'a Option<Placed>,
    vdso: Option<MappedVdso>,
}

fn aux_vector(
    request: &LoadRequest<'_>,
    parts: &Parts<'_>,
    identity: &ExecIdentity,
) -> Vec<(u64, u64)> {
    let Parts { image, placed, base, vdso, .. } = parts;
    let table = image.table_addr();
    let mut vector = Vec::with_capacity(20);
    if let Some(vdso) = vdso {
        vector.push((auxv::AT_SYSINFO_EHDR, vdso.image.0));
    }
    vector.extend([
        (auxv::AT_MINSIGSTKSZ, request.machine.min_signal_stack),
        (auxv::AT_HWCAP, request.machine.hwcap),
        (auxv::AT_PAGESZ, PAGE_SIZE),
        (auxv::AT_CLKTCK, 100),
        (auxv::AT_PHDR, if table == 0 { 0 } else { placed.bias.wrapping_add(table) }),
        (auxv::AT_PHENT, size_of::<sentry_abi::elf::ProgramHeader>() as u64),
        (auxv::AT_PHNUM, u64::from(image.header.count)),
        (auxv::AT_BASE, base.as_ref().map_or(0, |base| base.start)),
        (auxv::AT_FLAGS, 0),
        (auxv::AT_ENTRY, placed.entry),
        (auxv::AT_UID, u64::from(identity.uid)),
        (auxv::AT_EUID, u64::from(identity.euid)),
        (auxv::AT_GID, u64::from(identity.gid)),
        (auxv::AT_EGID, u64::from(identity.egid)),
        (auxv::AT_SECURE, u64::from(identity.secure)),
        (auxv::AT_HWCAP2, request.machine.hwcap2),
    ]);
    vector
}

/// Maps the stack and writes what the program finds on it; returns the stack pointer.
fn put_stack(
    request: &LoadRequest<'_>,
    mm: &Arc<MemoryManager>,
    layout: &Layout,
    parts: &Parts<'_>,
    identity: &ExecIdentity,
) -> Result<u64> {
    let shift = request.random.layout.stack.rotate_left(32) % 8192;
    let built = stack::build(&stack::Contents {
        top: layout.stack_top,
        filename: request.path,
        argv: &parts.program.argv,
        envp: &request.envp,
        random: request.random.bytes,
        shift,
        platform: b"x86_64",
        auxv: &aux_vector(request, parts, identity),
    })?;
    let slack = STACK_SLACK.min(request.limits.stack);
    let start = built.sp.saturating_sub(slack) / PAGE_SIZE * PAGE_SIZE;
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXEC, parts.image.stack == StackRights::Executable);
    let area = MmapArgs {
        addr: UserAddr(start),
        len: layout.stack_top - start,
        prot,
        kind: MapType::Private,
        flags: MapFlags::FIXED_NOREPLACE | MapFlags::GROWSDOWN,
        source: MapSource::Anonymous,
    };
    mm.mmap(area).map_err(|_| Error::with_msg(Errno::ENOMEM, "no room for the stack"))?;
    mm.write(UserAddr(built.sp), &built.bytes)?;
    mm.set_image(ImageRanges {
        code: parts.placed.code.clone(),
        data: parts.placed.data.clone(),
        stack: built.sp,
        arg: built.arg,
        env: built.env,
        auxv: built.auxv,
    });
    Ok(built.sp)
}

#[cfg(test)]
mod tests;
