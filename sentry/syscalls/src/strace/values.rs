//! Values of program memory as strace(1) shows them. A bad address is shown as a bare pointer: a trace never fails a call.

use sentry_abi::resource::{RLIM_INFINITY, Rlimit};
use sentry_abi::sched::CloneFlags;
use sentry_abi::signal::{SI_USER, SIG_DFL, SIG_IGN, SigAction, SigInfo, SigSet, Signal};
use sentry_abi::time::TimeSpec;
use sentry_abi::{UserAddr, UserPtr};
use sentry_kernel::task::CurrentTask;

use super::flags;
use super::formats::Format;

/// Bytes of a string that are shown (strace -s).
const SHOWN: usize = 32;
/// Strings of an array that are shown.
const STRINGS: u64 = 32;

/// Small numbers in decimal, others in hexadecimal.
pub fn word(value: u64) -> String {
    if value < 65_536 { value.to_string() } else { format!("{value:#x}") }
}

/// NULL or an address.
pub fn pointer(value: u64) -> String {
    if value == 0 { "NULL".to_owned() } else { format!("{value:#x}") }
}

/// Bytes in quotes, escaped; `...` where more follow.
pub fn quoted(bytes: &[u8], more: Cut) -> String {
    let mut text = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\r' => text.push_str("\\r"),
            0x20..0x7f => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\{other:o}")),
        }
    }
    text.push('"');
    if more == Cut::Yes {
        text.push_str("...");
    }
    text
}

/// Whether a string was cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// It was.
    Yes,
    /// It is whole.
    No,
}

fn text(task: &CurrentTask, addr: u64) -> String {
    match task.mm().read_cstring(UserAddr(addr), 4096) {
        Ok(bytes) => quoted(&bytes, Cut::No),
        Err(_) => pointer(addr),
    }
}

fn bytes(task: &CurrentTask, addr: u64, len: u64) -> String {
    let part = usize::try_from(len).unwrap_or(SHOWN).min(SHOWN);
    let mut buffer = vec![0u8; part];
    match task.mm().read(UserAddr(addr), &mut buffer) {
        Ok(()) => quoted(&buffer, if len > part as u64 { Cut::Yes } else { Cut::No }),
        Err(_) => pointer(addr),
    }
}

fn strings(task: &CurrentTask, addr: u64) -> String {
    let mut parts = Vec::new();
    for n in 0..STRINGS {
        let Ok(item) = UserPtr::<u64>::new(addr).element(n) else { break };
        match task.mm().read_obj(item) {
            Ok(0) => return format!("[{}]", parts.join(", ")),
            Ok(at) => parts.push(text(task, at)),
            Err(_) => return pointer(addr),
        }
    }
    format!("[{}, ...]", parts.join(", "))
}

fn count(task: &CurrentTask, addr: u64) -> String {
    let mut n = 0u64;
    while n < 100_000 {
        match UserPtr::<u64>::new(addr).element(n).map(|p| task.mm().read_obj(p)) {
            Ok(Ok(0)) => return format!("{addr:#x} /* {n} vars */"),
            Ok(Ok(_)) => n += 1,
            _ => break,
        }
    }
    pointer(addr)
}

fn set(value: SigSet) -> String {
    let name = |s: Signal| s.to_string().trim_start_matches("SIG").to_owned();
    // Nearly full sets read better as what they lack.
    if value.0.count_ones() > 32 {
        let names: Vec<_> = SigSet(!value.0).iter().map(name).collect();
        return format!("~[{}]", names.join(" "));
    }
    format!("[{}]", value.iter().map(name).collect::<Vec<_>>().join(" "))
}

fn action(value: &SigAction) -> String {
    let handler = match value.handler {
        SIG_DFL => "SIG_DFL".to_owned(),
        SIG_IGN => "SIG_IGN".to_owned(),
        addr => format!("{addr:#x}"),
    };
    let flags = flags::bits(value.flags, flags::SA);
    format!("{{sa_handler={handler}, sa_mask={}, sa_flags={flags}}}", set(value.mask))
}

/// `{si_signo=SIGCHLD, si_code=CLD_EXITED, …}`.
pub fn siginfo(info: &SigInfo) -> String {
    let name = Signal::new(info.signo).map_or_else(|_| info.signo.to_string(), |s| s.to_string());
    let rest = match Signal::new(info.signo) {
        Ok(Signal::SIGCHLD) if info.code > 0 => {
            format!(", si_pid={}, si_uid={}, si_status={}", info.pid(), info.uid(), info.status())
        }
        Ok(s) if info.code > 0 && SigSet::SYNCHRONOUS.contains(s) => {
            format!(", si_addr={:#x}", info.addr())
        }
        _ if info.code <= SI_USER => format!(", si_pid={}, si_uid={}", info.pid(), info.uid()),
        _ => String::new(),
    };
    format!("{name} {{si_signo={name}, si_code={}{rest}}}", info.code)
}

fn object<T: zerocopy::FromBytes + zerocopy::IntoBytes>(
    task: &CurrentTask,
    addr: u64,
    show: impl FnOnce(T) -> String,
) -> String {
    match UserPtr::<T>::new(addr).non_null().map(|p| task.mm().read_obj(p)) {
        Some(Ok(value)) => show(value),
        _ => pointer(addr),
    }
}

fn limit(value: u64) -> String {
    if value == RLIM_INFINITY { "RLIM64_INFINITY".to_owned() } else { value.to_string() }
}

fn limits(task: &CurrentTask, addr: u64) -> String {
    object(task, addr, |l: Rlimit| {
        format!("{{rlim_cur={}, rlim_max={}}}", limit(l.cur), limit(l.max))
    })
}

fn time(task: &CurrentTask, addr: u64) -> String {
    object(task, addr, |t: TimeSpec| format!("{{tv_sec={}, tv_nsec={}}}", t.sec, t.nsec))
}

/// Mode and size of a stat: at bytes 24 and 48 on x86-64.
fn stat(task: &CurrentTask, addr: u64) -> String {
    object(task, addr, |words: [u64; 18]| {
        format!("{{st_mode={:#o}, st_size={}, ...}}", words[3] as u32, words[6])
    })
}

fn wait_status(task: &CurrentTask, addr: u64) -> String {
    object(task, addr, |status: i32| {
        let signal = |n: i32| Signal::new(n).map_or_else(|_| n.to_string(), |s| s.to_string());
        match status & 0x7f {
            0 => format!("[{{WIFEXITED(s) && WEXITSTATUS(s) == {}}}]", (status >> 8) & 0xff),
            0x7f if status == 0xffff => "[{WIFCONTINUED(s)}]".to_owned(),
            0x7f => {
                format!("[{{WIFSTOPPED(s) && WSTOPSIG(s) == {}}}]", signal((status >> 8) & 0xff))
            }
            n => format!("[{{WIFSIGNALED(s) && WTERMSIG(s) == {}}}]", signal(n)),
        }
    })
}

/// A socket address of `len` bytes.
pub fn address(bytes: &[u8]) -> String {
    let port = |b: &[u8]| u16::from_be_bytes([b[2], b[3]]);
    match bytes {
        [1, 0, path @ ..] => {
            let (mark, name) = match path {
                [0, name @ ..] if !name.is_empty() => ("@", name),
                path => ("", path),
            };
            let end = if mark.is_empty() { name.iter().position(|b| *b == 0) } else { None };
            let name = &name[..end.unwrap_or(name.len())];
            format!("{{sa_family=AF_UNIX, sun_path={mark}{}}}", quoted(name, Cut::No))
        }
        [2, 0, _, _, a, b, c, d, ..] => format!(
            "{{sa_family=AF_INET, sin_port=htons({}), sin_addr=inet_addr(\"{a}.{b}.{c}.{d}\")}}",
            port(bytes)
        ),
        [10, 0, _, _, _, _, _, _, rest @ ..] if rest.len() >= 16 => {
            let mut octets = [0u8; 16];
            octets.copy_from_slice(&rest[..16]);
            let ip = std::net::Ipv6Addr::from(octets);
            format!("{{sa_family=AF_INET6, sin6_port=htons({}), sin6_addr=\"{ip}\"}}", port(bytes))
        }
        [low, high, ..] => {
            let family = u16::from_ne_bytes([*low, *high]);
            format!("{{sa_family={}, ...}}", flags::named("family", family.into()))
        }
        _ => "{}".to_owned(),
    }
}

fn address_at(task: &CurrentTask, addr: u64, len: u64) -> String {
    let mut buffer = vec![0u8; usize::try_from(len).unwrap_or(0).min(128)];
    if addr == 0 || task.mm().read(UserAddr(addr), &mut buffer).is_err() {
        return pointer(addr);
    }
    address(&buffer)
}

fn clone_flags(value: u64) -> String {
    let signal = Signal::new((value & 0xff) as i32).map(|s| s.to_string());
    match (CloneFlags::from_bits_truncate(value & !0xff).bits(), signal) {
        (0, Ok(signal)) => signal,
        (bits, Ok(signal)) => format!("{}|{signal}", flags::bits(bits, flags::CLONE)),
        (bits, Err(_)) => flags::bits(bits, flags::CLONE),
    }
}

/// Argument `at` of a call; `result` is there once the call has succeeded.
// tidy: table
pub fn show(
    task: &CurrentTask,
    format: Format,
    words: &[u64; 6],
    at: usize,
    result: Option<u64>,
) -> String {
    let Some(value) = words.get(at).copied() else { return String::new() };
    let next = words.get(at + 1).copied().unwrap_or(0);
    match format {
        Format::Word => word(value),
        Format::Int => (value as i32).to_string(),
        Format::Long => (value as i64).to_string(),
        Format::Unsigned => value.to_string(),
        Format::Hex | Format::Pointer => pointer(value),
        Format::Mode => format!("0{:o}", value as u32),
        Format::Dir if value as i32 == -100 => "AT_FDCWD".to_owned(),
        Format::Dir => (value as i32).to_string(),
        Format::Text => text(task, value),
        Format::Bytes => bytes(task, value, next),
        Format::Filled => {
            bytes(task, value, result.unwrap_or(0).min(next.max(result.unwrap_or(0))))
        }
        Format::Strings => strings(task, value),
        Format::Count => count(task, value),
        Format::Named(table) => flags::named(table, value),
        Format::Signal => match Signal::new(value as i32) {
            Ok(signal) => signal.to_string(),
            Err(_) => (value as i32).to_string(),
        },
        Format::SetIn | Format::SetOut => object(task, value, set),
        Format::ActionIn | Format::ActionOut => object(task, value, |a: SigAction| action(&a)),
        Format::TimeIn | Format::TimeOut => time(task, value),
        Format::Stat => stat(task, value),
        Format::AddressIn => address_at(task, value, next),
        Format::AddressOut => {
            let len = task.mm().read_obj(UserPtr::<u32>::new(next)).unwrap_or(0);
            address_at(task, value, len.into())
        }
        Format::IntOut => object(task, value, |v: i32| format!("[{v}]")),
        Format::PairOut => object(task, value, |v: [i32; 2]| format!("[{}, {}]", v[0], v[1])),
        Format::Status => match result {
            Some(0) => pointer(value),
            _ => wait_status(task, value),
        },
        Format::LimitIn | Format::LimitOut => limits(task, value),
        Format::Clone => clone_flags(value),
    }
}
