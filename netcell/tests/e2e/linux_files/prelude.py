# What every program here begins with: one line a behaviour, errors by their names.
import ctypes, errno, fcntl, mmap, os, select, signal, socket, stat, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
AT_FDCWD = -100


def call(number, *args):
    """A system call by its number; bytes are passed as a pointer."""
    words = [a if isinstance(a, (bytes, ctypes.Array, ctypes.Structure)) or a is None else ctypes.c_long(a) for a in args]
    words = [ctypes.byref(w) if isinstance(w, ctypes.Structure) else w for w in words]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def outcome(action, *args, **named):
    try:
        return action(*args, **named)
    except TimeoutError as e:
        return "timeout" if e.errno is None else errno.errorcode[e.errno]
    except OSError as e:
        return errno.errorcode.get(e.errno, e.errno)
    except Exception as e:
        if type(e).__module__ != "termios":
            raise
        return errno.errorcode[e.args[0]]


def check(label, action, *args, **named):
    print(f"{label}: {outcome(action, *args, **named)}", flush=True)


def opened(*args, **named):
    """Opens and closes; what counts is whether it may."""
    os.close(os.open(*args, **named))
    return "ok"


def write_file(path, data=b"x", mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    os.write(fd, data)
    os.close(fd)


def read_file(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


def child(action, *args):
    """Runs it in a child and says how that ended."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            result = action(*args)
            sys.stdout.flush()
            os._exit(result if isinstance(result, int) and 0 <= result < 256 else 0)
        except BaseException as e:
            print("child:", repr(e), flush=True)
            os._exit(99)
    return ended(pid)


def ended(pid):
    status = os.waitpid(pid, 0)[1]
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def as_user(action, *args, uid=1000, gid=1000, groups=()):
    def run():
        os.setgroups(list(groups))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        return action(*args)
    return child(run)


def mode(path, **named):
    return oct(os.stat(path, **named).st_mode)


def pair(family, kind):
    """Two sockets over loopback, the first connected to the second."""
    a = "127.0.0.1" if family == socket.AF_INET else "::1"
    l = socket.socket(family, kind)
    l.bind((a, 0))
    c = socket.socket(family, kind)
    if kind == socket.SOCK_STREAM:
        l.listen(8)
        c.connect(l.getsockname()[:2])
        return c, l.accept()[0]
    c.connect(l.getsockname()[:2])
    return c, l


os.umask(0o022)
