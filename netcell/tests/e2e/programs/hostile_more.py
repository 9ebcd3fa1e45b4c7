"""Hostile calls of the families that hostile.py leaves out: a table of calls, and the errno of each, one line a call."""
import ctypes, errno, os, signal, socket, struct, threading

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
WILD = [0, 1, 0x1000, 0x7FFF_FFFF_F000, -4096, -1]
kept = []
# A number of its own type, since 1 is also an argument.
OWN = type("Own", (int,), {})(os.getpid())

def call(name, number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in args])
    print(name, *map(shown, args), "=", errno.errorcode.get(ctypes.get_errno(), 0) if result == -1 else "ok")
    return result

def shown(word):
    if word is OWN:
        return "self"
    if -4096 <= word < 1 << 16:
        return word
    # Pointers differ from run to run.
    return hex(word & (1 << 64) - 1) if word in WILD or abs(word) < 1 << 20 or word & (word - 1) == 0 else "*"

def memory(data, size=0):
    kept.append(ctypes.create_string_buffer(bytes(data), max(size, len(data), 1)))
    return ctypes.addressof(kept[-1])

def path(text):
    return memory(text.encode() + b"\0")

def words(*values):
    return memory(struct.pack("%dq" % len(values), *values))

def ints(*values):
    return memory(struct.pack("%di" % len(values), *values))

os.chdir("/tmp")
os.makedirs("hostile.d", exist_ok=True)
os.chdir("hostile.d")
os.umask(0o22)
with open("file", "wb") as made:
    made.write(b"x" * 5000)
# Descriptors at fixed numbers, so that both sides print the same.
def fixed(fd, number):
    os.dup2(fd, number, False)
    os.close(fd)
    return number

FILE = fixed(os.open("file", os.O_RDWR), 50)
READER = fixed(os.open("file", os.O_RDONLY), 51)
WRITER = fixed(os.open("file", os.O_WRONLY), 52)
APPEND = fixed(os.open("file", os.O_WRONLY | os.O_APPEND), 53)
DIR = fixed(os.open(".", os.O_RDONLY), 54)
PATH = fixed(os.open("file", os.O_PATH), 55)
NULL = fixed(os.open("/dev/null", os.O_RDWR), 56)
ZERO = fixed(os.open("/dev/zero", os.O_RDWR), 57)
r, w = os.pipe()
PIPE_R, PIPE_W = fixed(r, 58), fixed(w, 59)
for fd in (PIPE_R, PIPE_W):
    os.set_blocking(fd, False)
TCP = fixed(socket.socket().detach(), 60)
UDP = fixed(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(), 61)
a, b = socket.socketpair()
UNIX, PEER = fixed(a.detach(), 62), fixed(b.detach(), 63)
LISTEN = socket.socket()
LISTEN.bind(("127.0.0.1", 0))
LISTEN.listen(5)
LISTEN = fixed(LISTEN.detach(), 64)
EPOLL = fixed(libc.epoll_create1(0), 65)
EVENT = fixed(libc.eventfd(0, 0o4000), 66)
TIMER = fixed(libc.timerfd_create(1, 0o4000), 67)
for fd in (TCP, UDP, UNIX, PEER, LISTEN):
    os.set_blocking(fd, False)
ODD = [-1, 999, FILE, READER, WRITER, DIR, PATH, NULL, PIPE_R, PIPE_W, TCP, UDP, UNIX, EPOLL, EVENT, TIMER]
SOCKETS = [FILE, TCP, UDP, UNIX, LISTEN]
ADDRESS = memory(struct.pack("=H", 2) + struct.pack("!H", 9) + bytes([127, 0, 0, 1]) + bytes(8))
ROOM = memory(b"", 4096)

# Sockets.
for s in SOCKETS:
    for p in WILD:
        call("bind", 49, s, p, 16)
        call("connect", 42, s, p, 16)
        call("accept", 43, s, p, p)
        call("accept4", 288, s, p, p, 0)
        call("getsockname", 51, s, p, p)
        call("getpeername", 52, s, p, p)
        call("sendto", 44, s, p, 10, 0x4040, 0, 0)
        call("recvfrom", 45, s, p, 10, 0x40, 0, 0)
        call("sendmsg", 46, s, p, 0x4040)
        call("recvmsg", 47, s, p, 0x40)
        call("sendmmsg", 307, s, p, 1, 0x4040)
        call("recvmmsg", 299, s, p, 1, 0x40, 0)
        call("setsockopt", 54, s, 1, 2, p, 4)
        call("getsockopt", 55, s, 1, 2, p, p)
        call("getsockopt", 55, s, 1, 2, ROOM, p)
    for length in (-1, 0, 1, 2, 8, 15, 17, 110, 128, 129, 1 << 20):
        call("bind", 49, s, ADDRESS, length) if length not in (17, 110, 128) else None
        call("connect", 42, s, ADDRESS, length) if length in (-1, 0, 1, 129) else None
        call("getsockname", 51, s, ROOM, ints(length)) if length < 128 else None
        call("setsockopt", 54, s, 1, 2, ints(1), length)
        call("getsockopt", 55, s, 1, 2, ROOM, ints(length))
        call("sendto", 44, s, ROOM, 1, 0x4040, ADDRESS, length) if length not in (17, 110, 128) else None
    for level, option in ((1, 999), (6, 999), (0, 999), (41, 999), (17, 999), (255, 1), (-1, 1), (999, 1)):
        call("setsockopt", 54, s, level, option, ints(1), 4)
        call("getsockopt", 55, s, level, option, ROOM, ints(4))
    for flags in (1, 0x800 | 1, 0x80000 | 0x800, -1):
        call("accept4", 288, s, ROOM, ints(16), flags)
    call("shutdown", 48, s, 3)
    call("shutdown", 48, s, -1)
    for count in (0, 1, 1024, 1025, 1 << 32, -1):
        iov = memory(struct.pack("2Q", ROOM, 1) * 1026)
        header = words(0, 0, iov, count, 0, 0, 0)
        call("recvmsg iov", 47, s, header, 0x40)
        call("recvmmsg", 299, s, memory(struct.pack("8q", 0, 0, iov, count, 0, 0, 0, 0)), 1, 0x40, 0)
    for base, length in ((0, 1), (1, 10), (-1, 1), (ROOM, -1), (ROOM, 1 << 63), (0, 0)):
        iov = words(base, length - (1 << 64) if length >= 1 << 63 else length)
        call("recvmsg base", 47, s, words(0, 0, iov, 1, 0, 0, 0), 0x40)
        call("sendmsg base", 46, s, words(0, 0, iov, 1, 0, 0, 0), 0x4040)
    for control, size in ((0, 16), (1, 16), (ROOM, 1), (words(0, 0, 0), 24), (words(1000, 1, 1), 24), (words(16, 1 | 1 << 32), 16), (memory(struct.pack("qii2i", 20, 1, 1, 999, 0)), 24), (ROOM, 1 << 40)):
        iov = words(ROOM, 1)
        call("sendmsg control", 46, s, words(0, 0, iov, 1, control, size, 0), 0x4040) if s == UNIX else None
for domain, kind, protocol in ((0, 1, 0), (1, 0, 0), (1, 1, 99), (1, 9, 0), (2, 3, 0), (2, 1, 17), (2, 2, 6), (2, 5, 0), (2, 1 | 1 << 20, 0), (10, 1, 17), (16, 2, 99), (16, 3, 0), (16, 1, 0), (45, 1, 0), (-1, 1, 0), (1 << 31, 1, 0)):
    fd = call("socket", 41, domain, kind, protocol)
    fd >= 0 and os.close(fd)
    for p in (0, 1, -1):
        call("socketpair", 53, domain, kind, protocol, p)
for s in SOCKETS + [PIPE_R, TIMER, DIR, -1]:
    for request in (0x5401, 0x5413, 0x541B, 0x5421, 0x8910, 0x8912, 0x8913, 0x8927, 0x8933, 0x89FF, 0, -1, 0x5450, 0x5451, 0x5452, 0x5460):
        for p in (0, 1, -1):
            call("ioctl", 16, s, request, p)
for p in WILD:
    call("ioctl null", 16, NULL, 0x5401, p)

# Memory.
for prot in (0, 1, 2, 3, 4, 7, 8, 0x1000000, 0x2000000, -1):
    for flags in (0, 1, 2, 3, 0x20, 0x21, 0x22, 0x1022, 1 << 31 | 0x22):
        at = call("mmap", 9, 0, 8192, prot, flags, -1, 0)
        at > 0 and libc.syscall(11, ctypes.c_long(at), ctypes.c_long(8192))
for fd in ODD:
    for flags in (1, 2, 3, 0x12):
        for prot in (1, 3):
            at = call("mmap file", 9, 0 if flags != 0x12 else 1, 4096, prot, flags, fd, 0)
            at > 0 and libc.syscall(11, ctypes.c_long(at), ctypes.c_long(4096))
for at, size, offset in ((0, 0, 0), (1, 4096, 0), (0, 4096, 1), (0, 4096, -4096), (0, 1 << 47, 0), (0, -4096, 0), (0x7FFF_FFFF_F000, 4096, 0), (1 << 47, 4096, 0), (-4096, 4096, 0), (0, 4096, 1 << 62)):
    # Left out: the page 0, which the host lets root map.
    for flags in (0x11, 0x12, 0x32) if at else (1, 2):
        call("mmap at", 9, at, size, 1, flags, FILE, offset)
for number, name in ((10, "mprotect"), (26, "msync"), (28, "madvise"), (149, "mlock"), (150, "munlock"), (325, "mlock2"), (11, "munmap"), (27, "mincore")):
    for at, size, extra in ((1, 4096, 0), (0x1000, 0, 0), (0x1000, 4096, 0), (0x1000, 4096, 99), (0x1000, -1, 0), (0x1000, -4096, 0), (-4096, 4096, 0), (-4096, 8192, 0), (1 << 47, 4096, 1), (0x7FFF_FFFF_F000, 8192, 0)):
        call(name, number, at, size, extra)
for args in ((1, 4096, 4096, 0, 0), (0x1000, 0, 4096, 0, 0), (0x1000, 4096, 0, 0, 0), (0x1000, 4096, 4096, 8, 0), (0x1000, 4096, 4096, 2, 0x2000), (0x1000, 4096, 4096, 3, 1), (0x1000, 4096, 4096, 3, 0x1000), (-4096, 4096, 8192, 1, 0), (0x1000, 4096, -1, 1, 0), (0x1000, 4096, 8192, 4, 0)):
    call("mremap", 25, *args)
for flags in (0, 1, 7, 8, -1):
    call("mlockall", 151, flags) if flags in (0, 8, -1) else None
    fd = call("memfd_create", 319, path("m"), flags) if flags != 7 else -1
    fd >= 0 and os.close(fd)
for p in WILD:
    call("memfd_create", 319, p, 0)
    call("mincore", 27, ROOM & ~4095, 4096, p)
call("memfd_create", 319, path("m" * 249), 0) >= 0 and os.close(3)
call("memfd_create", 319, path("m" * 250), 0)
call("brk", 12, 0)
call("brk", 12, -1)
call("pkey_alloc", 330, 99, 99)
call("set_mempolicy", 238, 99, 0, 0)
call("membarrier", 324, 1 << 20, 0, 0)
call("process_vm_readv", 310, 0x7FFFFFF, ROOM, 1, ROOM, 1, 0)
call("process_vm_readv", 310, OWN, ROOM, 1, ROOM, 1, 9)
call("process_vm_readv", 310, OWN, 1, 1, 1, 1, 0)
call("process_vm_readv", 310, OWN, ROOM, 9999, ROOM, 1, 0)

# Processes.
for flags in (0x100, 0x800, 0x10000, 0x10000 | 0x800, 0x200 | 0x20000, 0x20000000 | 0x10000000 | 0x200, 0x10000 | 0x800 | 0x20000000, 0x1000 | 0x10000 | 0x800 | 0x100, 0x1000 | 0x100000):
    if flags not in (0x100,):
        pid = call("clone", 56, flags, 0, 1, 1, 0) if flags != 0x1000 | 0x100000 else call("clone", 56, flags, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
for size in (0, 8, 63, 64, 80, 88, 89, 4096, 4097, -1):
    call("clone3", 435, words(*[0x10000] + [0] * 600), size)
for fields in ([1 << 40], [0x10000], [0x800], [0, 0, 0, 0, 17 << 32], [0, 0, 0, 0, 65], [0, 0, 0, 0, 17, 1, 0], [0, 0, 0, 0, 17, 0, 4096], [0, 0, 0, 0, 0, 0, 0, 0, ROOM, 99], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0x1000 | 0x100000, 0], [0x200000000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 999]):
    pid = call("clone3 args", 435, words(*(fields + [0] * (11 - len(fields)))), 88)
    if pid == 0:
        os._exit(0)
TRUE = path("/bin/true")
for p in WILD:
    call("execve path", 59, p, 0, 0)
    call("execve argv", 59, TRUE, p, 0) if p else None
    call("execve envp", 59, TRUE, words(TRUE, 0), p) if p else None
    call("execve argv[0]", 59, TRUE, words(p, 0), 0) if p else None
    call("execveat", 322, -100, p, 0, 0, 0)
call("execve dir", 59, path("/tmp"), words(TRUE, 0), 0)
call("execve file", 59, path("file"), words(TRUE, 0), 0)
call("execve none", 59, path("none"), words(TRUE, 0), 0)
call("execve empty", 59, path(""), words(TRUE, 0), 0)
call("execve through", 59, path("file/x"), words(TRUE, 0), 0)
call("execve long", 59, path("x" * 5000), words(TRUE, 0), 0)
call("execve name", 59, path("x" * 256), words(TRUE, 0), 0)
call("execve argument", 59, TRUE, words(path("x" * 140000), 0), 0)
call("execveat flags", 322, -100, TRUE, words(TRUE, 0), 0, 0x8000)
call("execveat empty", 322, FILE, path(""), words(TRUE, 0), 0, 0)
call("execveat file", 322, FILE, path(""), words(TRUE, 0), 0, 0x1000)
call("execveat dirfd", 322, FILE, path("x"), words(TRUE, 0), 0, 0)
call("execveat bad", 322, 999, path("x"), words(TRUE, 0), 0, 0)
for options in (0, 1, 8, 16, 1 << 20, 0x20000000, -1):
    call("wait4", 61, -1, 0, options, 0)
    call("waitid", 247, 0, 0, 0, options, 0)
for kind in (0, 1, 2, 3, 4, -1):
    for ident in (0, 1, -1, FILE, 0x7FFFFFF):
        call("waitid", 247, kind, ident, 1, 4 | 1, 0)
for number, name in ((109, "setpgid"), (121, "getpgid"), (124, "getsid"), (62, "kill"), (200, "tkill"), (234, "tgkill"), (145, "sched_getscheduler"), (204, "sched_getaffinity"), (434, "pidfd_open"), (140, "getpriority"), (302, "prlimit64")):
    for value in (-1, -5, 0x7FFFFFF, 1 << 31):
        call(name, number, value, 0, 0, 0) if not (name == "kill" and value == -1) else None
for resource in (-1, 3, 7, 15, 16, 99):
    for p in (0, 1, -1):
        call("getrlimit", 97, resource, p)
        call("setrlimit", 160, resource, p)
call("setrlimit", 160, 7, words(100, 50))
call("setrlimit", 160, 7, words(1 << 40, 1 << 40))
for who in (0, -1, 1, 2):
    for p in (1, -1):
        call("getrusage", 98, who, p)
for option in (1, 2, 4, 5, 6, 15, 16, 21, 22, 23, 24, 25, 36, 37, 38, 39, 47, 0x53564D41):
    for arg in (-1, 99):
        if (option, arg) not in ((36, 99), (36, -1)):
            call("prctl", 157, option, arg, 0, 0, 0)
call("arch_prctl", 158, 0x1001, -1)
call("arch_prctl", 158, 0x1002, -1)
call("arch_prctl", 158, 0x1003, 1)
call("arch_prctl", 158, 0x9999, 0)
call("unshare", 272, 0x1)
call("unshare", 272, 1 << 63)
call("setns", 308, FILE, 0)
call("setns", 308, -1, 0)
call("ptrace", 101, 99, 0, 0, 0)
call("ptrace", 101, 16, 0x7FFFFFF, 0, 0)
call("rseq", 334, 1, 0, 0, 0)
call("set_robust_list", 273, 0, 23)
call("get_robust_list", 274, 0x7FFFFFF, 0, 0)
call("get_robust_list", 274, 0, 1, 1)

# Signals.
for number in (0, 1, 9, 19, 32, 64, 65, -1):
    for p in (1, -1):
        call("rt_sigaction", 13, number, p, 0, 8)
        call("rt_sigaction old", 13, number, 0, p, 8)
    call("rt_sigqueueinfo", 129, OWN, number, words(*[-1] * 16)) if number in (0, 65, -1) else None
    call("tgkill", 234, OWN, 0x7FFFFFF, number)
for how in (0, 1, 2, 3, -1):
    call("rt_sigprocmask", 14, how, words(0), 0, 8)
    call("rt_sigprocmask size", 14, how, words(0), 0, 4)
for p in WILD[1:]:
    call("rt_sigpending", 127, p, 8)
    call("rt_sigtimedwait", 128, p, 0, 0, 8)
    call("rt_sigsuspend", 130, p, 8)
    call("sigaltstack", 131, 0, p)
    call("sigaltstack new", 131, p, 0)
    call("signalfd4", 289, -1, p, 8, 0)
call("rt_sigpending", 127, ROOM, 9)
call("rt_sigtimedwait", 128, words(0), 0, words(0, -1), 8)
call("rt_sigtimedwait", 128, words(0), 0, words(0, 1), 8)
call("rt_sigtimedwait", 128, words(0), 0, words(0, 1), 7)
call("sigaltstack small", 131, words(ROOM, 0, 100), 0)
call("sigaltstack flags", 131, words(ROOM, 99, 65536), 0)
for fd in ODD:
    call("signalfd4", 289, fd, words(0), 8, 0) if fd != -1 else None

# select, poll, epoll.
for n in (-1, 0, 1, 1 << 20, 1 << 31):
    for p in (0, 1, -1):
        call("select", 23, n, p, 0, 0, words(0, 0))
call("select", 23, 1, 0, 0, 0, 1)
call("select", 23, 0, 0, 0, 0, words(-1, 0))
call("select", 23, 0, 0, 0, 0, words(0, -1))
call("select", 23, 1024, memory(b"\xff" * 128), 0, 0, words(0, 0))
call("pselect6", 270, 0, 0, 0, 0, words(0, -1), 0)
call("pselect6", 270, 0, 0, 0, 0, words(0, 1 << 40), 0)
call("pselect6", 270, 0, 0, 0, 0, words(0, 0), 1)
call("pselect6", 270, 0, 0, 0, 0, words(0, 0), words(ROOM, 9))
for n in (0, 1, 1 << 20, 1 << 31, -1):
    for p in (0, 1, -1):
        call("poll", 7, p, n, 0)
call("ppoll", 271, 0, 0, words(0, -1), 0, 0)
call("ppoll", 271, 0, 0, words(-1, 0), 0, 0)
call("ppoll", 271, 0, 0, 1, 0, 0)
call("ppoll", 271, 0, 0, words(0, 0), words(0), 9)
call("ppoll", 271, 0, 0, words(0, 0), 1, 8)
for fd in ODD:
    for operation in (1, 2, 3, 4, 0):
        call("epoll_ctl", 233, EPOLL, operation, fd, memory(struct.pack("=IQ", 1, 0)))
    call("epoll_ctl", 233, fd, 1, PIPE_R, memory(struct.pack("=IQ", 1, 0)))
    call("epoll_wait", 232, fd, ROOM, 1, 0)
for events in (1 << 28, 1 << 28 | 1, 1 << 28 | 1 << 30, 1 << 31 | 1, 1 << 29 | 1):
    call("epoll_ctl events", 233, EPOLL, 1, EVENT, memory(struct.pack("=IQ", events, 0)))
    call("epoll_ctl change", 233, EPOLL, 3, EVENT, memory(struct.pack("=IQ", events, 0)))
    call("epoll_ctl del", 233, EPOLL, 2, EVENT, 0)
for count in (0, -1, 1 << 28, 1 << 31):
    call("epoll_wait", 232, EPOLL, ROOM, count, 0)
for p in WILD:
    call("epoll_wait", 232, EPOLL, p, 1, 0)
    call("epoll_pwait2", 441, EPOLL, ROOM, 1, p, 0, 8) if p else None
call("epoll_pwait", 281, EPOLL, ROOM, 1, 0, words(0), 9)
call("epoll_pwait2", 441, EPOLL, ROOM, 1, words(0, -1), 0, 8)
call("epoll_create", 213, 0)
call("epoll_create", 213, -1)

# Time.
# Left out: 8 and 9, which need a clock of the hardware.
for clock in (-1, 0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 99, -6):
    call("clock_gettime", 228, clock, 1)
    call("clock_getres", 229, clock, 0)
    call("clock_getres", 229, clock, 1)
    call("clock_nanosleep", 230, clock, 0, words(0, -1), 0)
    call("clock_nanosleep", 230, clock, 0, words(0, 0), 0) if clock != 3 else None
    fd = call("timerfd_create", 283, clock, 0)
    fd >= 0 and os.close(fd)
call("clock_nanosleep", 230, 1, 99, words(0, 0), 0)
call("clock_nanosleep", 230, 1, 0, words(-1, 0), 0)
call("clock_nanosleep", 230, 1, 0, words(0, 1 << 40), 0)
call("nanosleep", 35, words(0, 1000000000), 0)
call("nanosleep", 35, words(-1, 0), 0)
for clock in (0, 1, 2, 3, 4, 5, 99, -1):
    call("timer_create", 222, clock, 0, 1)
    call("timer_create", 222, clock, 1, ROOM)
for event in ([0, 99], [0, 0 | 65], [0, 4 | 10 << 32], [0, 1 << 32 | 65]):
    call("timer_create event", 222, 1, words(*event + [0] * 6), ROOM)
for number, name in ((223, "timer_settime"), (224, "timer_gettime"), (225, "timer_getoverrun"), (226, "timer_delete")):
    for timer in (-1, 9999):
        call(name, number, timer, 0, ROOM, 0)
for value in ((0, -1, 0, 0), (0, 0, -1, 0), (0, 0, 0, -1), (0, 0, 0, 1000000000), (0, 1 << 62, 0, 0)):
    call("timerfd_settime", 286, TIMER, 0, words(*value), 0)
    call("setitimer", 38, 0, words(*value), 0) if value[0] == 0 and value[3] == 0 else None
for fd in ODD:
    call("timerfd_settime", 286, fd, 0, words(0, 0, 0, 0), 0)
    call("timerfd_gettime", 287, fd, ROOM)
call("timerfd_settime", 286, TIMER, 99, words(0, 0, 0, 0), 0)
for p in WILD:
    call("timerfd_settime", 286, TIMER, 0, p, 0)
    call("timerfd_gettime", 287, TIMER, p)
    call("getitimer", 36, 0, p)
    call("times", 100, p) if p != 1 and p != 0 else None
    call("time", 201, p) if p else None
call("timerfd_create", 283, 1, 99)
call("getitimer", 36, 3, ROOM)
call("setitimer", 38, -1, words(0, 0, 0, 0), 0)
call("settimeofday", 164, words(0, 2000000), 0)
call("clock_settime", 227, 1, words(0, 0))
call("clock_settime", 227, 99, words(0, 0))
call("alarm", 37, 0)

# Files.
for fd in ODD:
    for command in (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 15, 16, 36, 1024, 1025, 1026, 1030, 1031, 1032, 1033, 1034, 99, -1):
        for arg in (-1, 1):
            # Left out: what makes a descriptor, what asks for signals, and what blocks.
            if (command, arg) in ((0, 1), (10, 1), (1024, 1), (1026, 1), (1026, -1), (1030, 1), (4, -1), (8, 1), (8, -1), (2, -1), (1031, 1), (4, 1)) or command == 11:
                continue
            call("fcntl", 72, fd, command, arg)
for lock in ((0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0), (3, 0, 0, 0), (0, 3, 0, 0), (0, 0, -1, 0), (0, 0, 0, -1), (0, 0, 1 << 62, 1 << 62), (0, 1, -(1 << 62), 0), (0, 2, -6000, 0)):
    for fd in (FILE, READER, WRITER, DIR, PIPE_R):
        at = memory(struct.pack("hhxxxxqqi", *lock, 0), 64)
        call("fcntl lock %d %d" % lock[:2], 72, fd, 6, at)
        call("fcntl getlk %d %d" % lock[:2], 72, fd, 5, at)
        call("fcntl ofd %d %d" % lock[:2], 72, fd, 37, at)
for fd in ODD:
    for operation in (0, 1 | 4, 8, 2 | 4, 3, 99):
        call("flock", 73, fd, operation)
    for whence in (0, 1, 2, 3, 4, 5, -1):
        call("lseek", 8, fd, 0, whence)
    call("lseek", 8, fd, -1, 0)
    call("lseek", 8, fd, 0, 0)
    for p in (0, 1, -1):
        call("pread64", 17, fd, p, 10, 0)
        call("pwrite64", 18, fd, p, 10, 0)
        call("preadv", 295, fd, p, 1, 0)
        call("pwritev", 296, fd, p, 1, 0)
        call("read", 0, fd, p, 0)
        call("write", 1, fd, p, 0)
        call("getdents64", 217, fd, p, 100)
    call("pread64", 17, fd, ROOM, 10, -1)
    call("pwrite64", 18, fd, ROOM, 10, -1)
    call("preadv2", 327, fd, words(ROOM, 1), 1, 0, 0, 1 << 20)
    call("pwritev2", 328, fd, words(ROOM, 1), 1, 0, 0, 1 << 20)
    for length in (-1, 5000):
        call("ftruncate", 77, fd, length)
    for mode in (0, 1, 2, 3, 0x10, 0x20, 99, 1 << 20):
        call("fallocate", 285, fd, mode, 0, 0)
        call("fallocate", 285, fd, mode, -1, 10)
        call("fallocate", 285, fd, mode, 0, -1)
    call("fallocate", 285, fd, 0, 1 << 62, 1 << 62)
    call("fallocate", 285, fd, 0, 0, 4096)
    for advice in (0, 5, 6, -1):
        call("fadvise64", 221, fd, 0, 0, advice)
    call("fsync", 74, fd)
    call("fdatasync", 75, fd)
    call("syncfs", 306, fd)
    call("sync_file_range", 277, fd, 0, 0, 0)
    call("sync_file_range", 277, fd, -1, 0, 0)
    call("sync_file_range", 277, fd, 0, 0, 99)
    call("readahead", 187, fd, 0, 10)
    call("fchdir", 81, fd) if fd != DIR else None
    call("fchmod", 91, fd, 0o644) if fd not in (NULL,) else None
    call("fstatfs", 138, fd, 1)
    call("fgetxattr", 193, fd, path("user.none"), 0, 0)
    call("fsetxattr", 190, fd, 1, 0, 0, 0)
    call("fremovexattr", 199, fd, 1)
    call("flistxattr", 196, fd, 1, 10) if fd == -1 else None
    call("inotify_add_watch", 254, fd, path("."), 1)
    call("dup2", 33, fd, -1)
    call("dup2", 33, fd, 1 << 30)
    call("dup3", 292, fd, fd, 0)
    call("dup3", 292, fd, 200, 99)
    call("fstat", 5, fd, 0)
    call("name_to_handle_at", 303, fd, path(""), 1, 1, 0x1000) if fd == -1 else None
for source in ODD:
    for target in (-1, FILE, APPEND, READER, DIR, NULL, PIPE_W, PIPE_R, EPOLL, PATH):
        for length in (0, 10):
            if {source, target} & {EVENT, TIMER, TCP, UDP} and length:
                continue
            os.lseek(FILE, 0, 0), os.lseek(READER, 0, 0)
            # Left out: a directory's position is the file system's own.
            call("sendfile", 40, target, source, 0, length) if source != DIR else None
            call("splice", 275, source, 0, target, 0, length, 3)
            call("copy_file_range", 326, source, 0, target, 0, length, 0)
            call("tee", 276, source, target, length, 3)
            while True:
                try:
                    os.read(PIPE_R, 65536)
                except BlockingIOError:
                    break
for p in WILD:
    call("sendfile", 40, NULL, READER, p, 10) if p else None
    call("splice", 275, READER, p, PIPE_W, 0, 10, 3) if p else None
    call("copy_file_range", 326, READER, p, FILE, 0, 10, 0) if p else None
    call("vmsplice", 278, PIPE_W, p, 1, 3)
call("sendfile", 40, NULL, READER, words(-1), 10)
call("splice", 275, READER, words(-1), PIPE_W, 0, 10, 3)
call("splice", 275, PIPE_R, words(0), PIPE_W, 0, 10, 3)
call("splice", 275, READER, 0, PIPE_W, 0, 10, 99)
call("copy_file_range", 326, FILE, words(-1), FILE, words(0), 10, 0)
call("copy_file_range", 326, FILE, words(0), FILE, words(5), 10, 0)
call("copy_file_range", 326, FILE, words(0), FILE, words(5), 10, 1)
call("vmsplice", 278, FILE, words(ROOM, 1), 1, 0)
call("vmsplice", 278, PIPE_W, words(ROOM, 1), 1025, 0)

# Paths.
for p in WILD:
    for number, name in ((2, "open"), (4, "stat"), (6, "lstat"), (21, "access"), (76, "truncate"), (80, "chdir"), (83, "mkdir"), (84, "rmdir"), (87, "unlink"), (89, "readlink"), (90, "chmod"), (94, "lchown"), (92, "chown"), (132, "utime"), (133, "mknod"), (137, "statfs"), (161, "chroot"), (188, "setxattr"), (191, "getxattr"), (194, "listxattr"), (197, "removexattr"), (235, "utimes"), (85, "creat")):
        call(name, number, p, 0, 0, 0, 0)
    for number, name in ((82, "rename"), (86, "link"), (88, "symlink")):
        call(name, number, p, path("y"))
        call(name, number, path("none/x") if name != "symlink" else path("x"), p)
    call("openat2", 437, -100, path("file"), p, 24)
    call("stat buffer", 4, path("file"), p)
    call("statfs buffer", 137, path("file"), p)
    call("readlink buffer", 89, path("/proc/self/exe"), p, 10)
    call("utimensat", 280, -100, path("file"), p, 0) if p else None
for size in (0, 8, 23, 24, 25, 32, 4096, 4097, -1):
    fd = call("openat2 size", 437, -100, path("file"), memory(b"", 4200), size)
    fd >= 0 and os.close(fd)
call("openat2 tail", 437, -100, path("file"), words(0, 0, 0, 1), 32)
for how in ((1 << 40, 0, 0), (0, 1, 0), (0o100, 0o777, 0), (0o100, 1 << 20, 0), (0, 0, 99 << 10), (0, 0, 1), (0, 0, 8), (0, 0, 24), (0, 0, 4), (0o3, 0, 0), (0o10000000, 0, 0), (0o10000002, 0, 0), (0o20200000, 0, 0), (0o20200002, 0, 0)):
    fd = call("openat2 how", 437, -100, path("file"), words(*how), 24)
    fd >= 0 and os.close(fd)
for name in ("", "none", "none/x", "file/", "file/x", "file/.", ".", "..", "x" * 255, "x" * 256, "x/" * 2048, "/", "//", "./", "./file"):
    at = path(name)
    for number, call_name in ((4, "stat"), (21, "access"), (76, "truncate"), (83, "mkdir"), (84, "rmdir"), (87, "unlink"), (89, "readlink"), (137, "statfs"), (86, "link"), (82, "rename")):
        if call_name in ("link", "rename"):
            call(call_name + " " + name[:9], number, at, path("none/y"))
            call(call_name + " to " + name[:9], number, path("file"), at) if name not in ("x" * 255, "./file") else None
        elif not (call_name in ("mkdir", "rmdir") and name in ("none", "x" * 255)) and not (call_name in ("unlink", "truncate") and name == "./file"):
            call(call_name + " " + name[:9], number, at, 0, 0)
    for flags in (0, 1, 0o100 | 0o200, 0o200000, 0o10000000, 0o200001, 0o400000):
        if flags == 0o300 and name in ("none", "x" * 255):
            continue
        fd = call("open " + name[:9], 2, at, flags, 0o600)
        fd >= 0 and os.close(fd)
for flags in (1, 0x100, 0x200, 0x400, 0x800, 0x1000, 0x2000, 0x4000, 1 << 20):
    call("unlinkat", 263, -100, path("none"), flags)
    call("fstatat", 262, -100, path("file"), ROOM, flags)
    call("statx", 332, -100, path("file"), flags, 0, ROOM)
    call("linkat", 265, -100, path("none"), -100, path("y"), flags)
    call("fchownat", 260, -100, path("file"), -1, -1, flags)
    call("faccessat2", 439, -100, path("file"), 0, flags)
    call("utimensat", 280, -100, path("file"), 0, flags)
    call("renameat2", 316, -100, path("none"), -100, path("y"), flags)
    call("fstatat empty", 262, FILE, path(""), ROOM, flags)
    call("fchmodat2", 452, -100, path("file"), 0o644, flags)
call("statx mask", 332, -100, path("file"), 0, 1 << 31, ROOM)
call("faccessat", 269, -100, path("file"), 8)
call("faccessat", 269, -100, path("file"), -1)
call("renameat2", 316, -100, path("file"), -100, path("file"), 1)
call("renameat2", 316, -100, path("file"), -100, path("none"), 2)
call("renameat2", 316, -100, path("file"), -100, path("none"), 3)
call("rename", 82, path("."), path("y"))
call("rename", 82, path("/"), path("y"))
call("utimensat", 280, -100, path("file"), words(0, 1000000000, 0, 0), 0)
call("utimensat", 280, -100, path("file"), words(0, -1, 0, 0), 0)
call("mknod", 133, path("y"), 0o170000 | 0o600, 0)
call("mknod", 133, path("y"), 0o40600, 0)
call("mknod", 133, path("file"), 0o100600, 0)
call("getcwd", 79, ROOM, 0)
call("getcwd", 79, ROOM, 2)
call("umask", 95, 0o22)
for name in ("user.x", "x", "user.", "trusted.x", "system.x", "security.x", "unknown.x", "", "user." + "x" * 251):
    for flags in (0, 1, 2, 3, 4):
        call("setxattr " + name[:10], 188, path("none"), path(name), ROOM, 1, flags)
    call("getxattr " + name[:10], 191, path("none"), path(name), 0, 0)
call("setxattr", 188, path("file"), path("user.x"), ROOM, 1 << 20, 0)
call("setxattr", 188, path("file"), path("user.x"), 1, 10, 0)
call("setxattr", 188, path("file"), path(""), ROOM, 1, 0)
call("setxattr", 188, path("file"), path("x" * 300), ROOM, 1, 0)
call("getxattr", 191, path("file"), path("user.none"), 0, 0)
for p in WILD:
    call("mount", 165, p, p, p, 0, 0)
    call("umount2", 166, p, 0)
    call("pivot_root", 155, p, p)
    call("sethostname", 170, p, 10) if p != 0 else None
    call("sysinfo", 99, p)
    call("getgroups", 115, 10, p) if p != 0 else None
    call("setgroups", 116, 1, p)
    call("getresuid", 118, p, p, p)
    call("capget", 125, p, p)
    call("capset", 126, p, p)
    call("sched_setparam", 142, 0, p)
    call("sched_getparam", 143, 0, p)
    call("sched_getaffinity", 204, 0, 8, p)
    call("getcpu", 309, p, 0) if p else None
    call("io_setup", 206, 1, p) if p in (1, -1) else None
    call("io_uring_setup", 425, 1, p)
    call("futex_waitv", 449, p, 1, 0, 0, 0)
    call("bpf", 321, 0, p, 8)
    call("perf_event_open", 298, p, 0, -1, -1, 0)
call("umount2", 166, path("/none"), 0)
call("umount2", 166, path("/tmp/hostile.d"), 99)
call("sethostname", 170, ROOM, 65)
call("sethostname", 170, ROOM, -1)
call("setgroups", 116, 1 << 20, ROOM)
call("getgroups", 115, -1, ROOM)
call("setuid", 105, -1)
call("setgid", 106, -1)
call("capget", 125, words(0, 0), ROOM)
call("sched_getaffinity", 204, 0, 7, ROOM)
call("sched_setaffinity", 203, 0, 8, words(0))
call("sched_setscheduler", 144, 0, 99, ints(0))
call("sched_setscheduler", 144, 0, 0, ints(5))
call("sched_setscheduler", 144, 0, 1, ints(0))
call("getpriority", 140, 9, 0)
call("setpriority", 141, 9, 0, 0)
call("ioprio_get", 252, 9, 0)
for operation in (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 99, 0x100 | 1, 0x100, 0x400):
    # Left out: waits without an end.
    if operation not in (6, 11, 13):
        # The fourth argument is a time or, for those that move waiters, a count.
        call("futex", 202, ROOM, operation, 1, 1 if operation in (3, 4, 5, 12) else words(0, 0), ROOM + 4, 0)
    call("futex odd", 202, ROOM + 1, operation, 1, words(0, 0), ROOM + 4, 1)
    call("futex timeout", 202, ROOM, operation, 0, words(0, -1), ROOM, 1) if operation in (0, 9) else None
for flags in (1, 2, 3, 4, 7, 8, -1):
    call("getrandom", 318, ROOM, 10, flags)
call("getrandom", 318, 1, 0, 0)
call("inotify_init1", 294, 99)
call("eventfd2", 290, 0, 99)
call("pipe2", 293, ROOM, 99)
call("close_range", 436, 10, 5, 0)
call("close_range", 436, 2000, 3000, 99)
call("kcmp", 312, OWN, OWN, 99, 0, 0)
call("pidfd_send_signal", 424, FILE, 0, 0, 0)
call("pidfd_open", 434, OWN, 99)
call("pidfd_getfd", 438, FILE, 0, 0)
call("seccomp", 317, 99, 0, 0)
call("seccomp", 317, 1, 0, 1)
call("personality", 135, -1)
call("syslog", 103, 99, 0, 0)
call("reboot", 169, 0, 0, 0, 0)
call("swapon", 167, 0, 0)
call("init_module", 175, 0, 0, 0)
call("quotactl", 179, 0, 0, 0, 0)
call("acct", 163, path("none"))
call("userfaultfd", 323, 99)
call("fanotify_init", 300, -1, 0)
call("keyctl", 250, 99, 0, 0, 0, 0)
call("mq_open", 240, 1, 0, 0, 0)
call("shmget", 29, 1, 0, 0)
call("shmat", 30, -1, 0, 0)
call("shmctl", 31, -1, 0, 0)
call("semget", 64, 0, -1, 0o1000)
call("semop", 65, -1, 0, 0)
call("semctl", 66, -1, 0, 0, 0)
call("msgget", 68, 12345, 0)
call("msgsnd", 69, -1, ROOM, 1, 0)
call("msgrcv", 70, -1, ROOM, 1, 0, 0)
call("msgctl", 71, -1, 0, 0)
for number in (156, 174, 177, 178, 180, 181, 184, 185, 212, 215, 236, 336, 400, 423, 500, 1 << 20, 1 << 31, -1):
    call("no call", number, 0, 0, 0)
os.chdir("/")
for name in os.listdir("/tmp/hostile.d"):
    os.unlink("/tmp/hostile.d/" + name)
os.rmdir("/tmp/hostile.d")
