import pty, termios, tty


def attrs(fd):
    i, o, c, l, ispeed, ospeed, cc = termios.tcgetattr(fd)
    return [hex(x) for x in (i, o, c, l, ispeed, ospeed)] + [b"".join(x if isinstance(x, bytes) else bytes([x]) for x in cc).hex()]


def wait(fd, events=select.POLLIN):
    p = select.poll()
    p.register(fd, events)
    return [hex(e & 0x3f) for _, e in p.poll()]


m, s = pty.openpty()
check("defaults", attrs, s)
check("defaults of master", attrs, m)
check("names", lambda: (os.ttyname(s).startswith("/dev/pts/"), os.isatty(m), os.isatty(s), os.readlink(f"/proc/self/fd/{m}").endswith("ptmx")))
check("modes", lambda: (oct(os.fstat(m).st_mode), os.major(os.fstat(s).st_rdev), os.fstat(m).st_rdev))
check("size", lambda: fcntl.ioctl(s, termios.TIOCGWINSZ, b"\0" * 8).hex())
check("set size", lambda: (fcntl.ioctl(m, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 1, 2)), fcntl.ioctl(s, termios.TIOCGWINSZ, b"\0" * 8).hex())[1])
check("echo", lambda: (os.write(m, b"ab\n"), wait(s), os.read(s, 100), os.read(m, 100))[2:])
check("part of a line is not given", lambda: (os.write(m, b"part"), os.set_blocking(s, False), outcome(os.read, s, 10), os.read(m, 9))[2:])
check("erase", lambda: (os.write(m, b"\x7f\x7f\n"), wait(s), os.read(s, 100), os.read(m, 100))[2:])
check("kill line", lambda: (os.write(m, b"word one\x15x\n"), wait(s), os.read(s, 100), os.read(m, 200))[2:])
check("word erase", lambda: (os.write(m, b"word one\x17x\n"), wait(s), os.read(s, 100), os.read(m, 200))[2:])
check("end of file", lambda: (os.write(m, b"\x04"), wait(s), os.read(s, 100), outcome(os.read, s, 1))[2:])
check("eof after text", lambda: (os.write(m, b"text\x04"), wait(s), os.read(s, 100), os.read(m, 100))[2:])
check("two lines two reads", lambda: (os.write(m, b"1\n2\n"), wait(s), os.read(s, 100), os.read(s, 100), os.read(m, 100))[2:])
check("literal next", lambda: (os.write(m, b"\x16\x03\n"), wait(s), os.read(s, 100), os.read(m, 100))[2:])
check("output newline", lambda: (os.write(s, b"a\nb\tc"), os.read(m, 100))[1])
check("cr to nl", lambda: (os.write(m, b"cr\r"), wait(s), os.read(s, 100), os.read(m, 100))[2:])
check("fionread", lambda: (os.write(m, b"xyz\n"), wait(s), struct.unpack("i", fcntl.ioctl(s, 0x541b, b"\0\0\0\0"))[0], os.read(s, 2), os.read(s, 9), os.read(m, 99))[2:])
tty.setraw(s)
check("raw", attrs, s)
check("raw bytes", lambda: (os.write(m, b"\x03\x04\r\n"), wait(s), os.read(s, 100))[2])
check("raw output", lambda: (os.write(s, b"a\nb"), os.read(m, 100))[1])
check("flush", lambda: (os.write(m, b"lost"), wait(s), termios.tcflush(s, termios.TCIFLUSH), outcome(os.read, s, 5))[3])
check("packet mode", lambda: (fcntl.ioctl(m, 0x5420, struct.pack("i", 1)), os.write(s, b"data"), os.read(m, 10), fcntl.ioctl(m, 0x5420, struct.pack("i", 0)))[2])
check("drain break", lambda: (termios.tcdrain(s), termios.tcsendbreak(s, 0)))
check("bad ioctl", lambda: fcntl.ioctl(s, 0x5499, 0))
check("tty ioctl of pipe", lambda: termios.tcgetattr(os.pipe()[0]))
check("seek", lambda: os.lseek(s, 0, 0))
check("pgrp without session", lambda: os.tcgetpgrp(s))
check("sid", lambda: termios.tcgetattr and fcntl.ioctl(s, 0x5429, b"\0\0\0\0"))
check("close slave", lambda: (os.close(s), wait(m), outcome(os.read, m, 1))[1:])
check("locked", lambda: (lambda x: (opened(f"/dev/pts/{struct.unpack('i', fcntl.ioctl(x, 0x80045430, bytes(4)))[0]}", os.O_RDWR | os.O_NOCTTY)))(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)))
m, s = pty.openpty()
check("close master", lambda: (os.close(m), wait(s), os.read(s, 1), outcome(os.write, s, b"x"), outcome(termios.tcgetattr, s))[1:])
check("gone from pts", lambda: outcome(os.stat, os.ttyname(s)))


def session(action):
    """Runs it as the leader of a session whose terminal it has; gives what it wrote there."""
    sys.stdout.flush()
    pid, master = pty.fork()
    if pid == 0:
        try:
            action()
            sys.stdout.flush()
        except BaseException as e:
            print("child", repr(e), flush=True)
        os._exit(7)
    return pid, master


def all_of(master):
    data = b""
    while True:
        try:
            part = os.read(master, 1000)
        except OSError as e:
            return data, errno.errorcode[e.errno]
        data += part


def plain():
    print(os.getsid(0) == os.getpid(), os.tcgetpgrp(0) == os.getpgrp(), os.ctermid(), os.isatty(0))
    fd = os.open("/dev/tty", os.O_RDWR)
    os.write(fd, b"via tty\n")


pid, m = session(plain)
check("session", lambda: (all_of(m), ended(pid)))


def leave(what):
    # Not print: the signal may come while the program still prints.
    os.write(1, f"{what}\n".encode())
    os._exit(7)


def interrupted():
    os.write(1, b"ready\n")
    signal.pause()


pid, m = session(lambda: (signal.signal(signal.SIGINT, signal.SIG_DFL), interrupted()))
check("ready", lambda: os.read(m, 100))
check("ctrl-c", lambda: (os.write(m, b"\x03"), ended(pid), all_of(m))[1:])
pid, m = session(lambda: (signal.signal(signal.SIGQUIT, lambda *a: leave("quit")), interrupted()))
os.read(m, 100)
check("ctrl-backslash", lambda: (os.write(m, b"\x1c"), all_of(m), ended(pid))[1:])
pid, m = session(lambda: (signal.signal(signal.SIGWINCH, lambda *a: leave(os.get_terminal_size(0))), interrupted()))
os.read(m, 100)
check("winch", lambda: (fcntl.ioctl(m, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0)), all_of(m), ended(pid))[1:])
pid, m = session(interrupted)
os.read(m, 100)
check("hangup", lambda: (os.close(m), ended(pid))[1])


def background():
    child_pid = os.fork()
    if child_pid == 0:
        os.setpgid(0, 0)
        os.read(0, 1)
        os._exit(3)
    pid, status = os.waitpid(child_pid, os.WUNTRACED)
    print("stopped by", signal.Signals(os.WSTOPSIG(status)).name if os.WIFSTOPPED(status) else status)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, child_pid)
    print("foreground is child", os.tcgetpgrp(0) == child_pid)
    os.kill(child_pid, signal.SIGCONT)
    print("ready", flush=True)
    print("child", os.waitpid(child_pid, 0)[1])
    os.tcsetpgrp(0, os.getpgrp())


pid, m = session(background)
seen = b""
while b"ready" not in seen:
    seen += os.read(m, 100)
os.write(m, b"\n")
check("background read", lambda: (seen, all_of(m), ended(pid)))


def orphan_write():
    attr = termios.tcgetattr(0)
    attr[3] |= termios.TOSTOP
    termios.tcsetattr(0, termios.TCSANOW, attr)
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.write(1, b"x")
        os._exit(0)
    _, status = os.waitpid(pid, os.WUNTRACED)
    print("writer", signal.Signals(os.WSTOPSIG(status)).name if os.WIFSTOPPED(status) else status)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


pid, m = session(orphan_write)
check("tostop", lambda: (all_of(m), ended(pid)))


def suspended():
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.setpgid(0, 0)
        print("ready", flush=True)
        signal.pause()
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, pid)
    _, status = os.waitpid(pid, os.WUNTRACED)
    print("suspended by", signal.Signals(os.WSTOPSIG(status)).name)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.tcsetpgrp(0, os.getpgrp())


pid, m = session(suspended)
seen = b""
while b"ready" not in seen:
    seen += os.read(m, 100)
# The group may be made the foreground one after that.
while fcntl.ioctl(m, termios.TIOCGPGRP, b"\0" * 4) == struct.pack("i", pid):
    time.sleep(0.01)
os.write(m, b"\x1a")
check("ctrl-z", lambda: ((seen.replace(b"\r\n", b"") , all_of(m)), ended(pid)))


def gives_up():
    fcntl.ioctl(0, termios.TIOCNOTTY)
    check("no tty", opened, "/dev/tty", os.O_RDWR)


pid, m = session(lambda: (signal.signal(signal.SIGHUP, signal.SIG_IGN), gives_up()))
check("notty", lambda: (all_of(m), ended(pid)))
check("dev tty without", lambda: child(lambda: (os.setsid(), check("open", opened, "/dev/tty", os.O_RDWR))))
for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx"):
    check(f"/dev/{name}", lambda: (oct(os.stat(f"/dev/{name}").st_mode & 0o170666), os.major(os.stat(f"/dev/{name}").st_rdev) if name != "ptmx" else 5))
check("null", lambda: (lambda f: (os.read(f, 5), os.write(f, b"12345"), os.lseek(f, 100, 0)))(os.open("/dev/null", os.O_RDWR)))
check("zero", lambda: (lambda f: (os.read(f, 5), os.write(f, b"12345"), os.pread(f, 2, 1 << 40), mmap.mmap(f, 4096, flags=mmap.MAP_PRIVATE)[:3]))(os.open("/dev/zero", os.O_RDWR)))
check("full", lambda: (lambda f: (os.read(f, 5), outcome(os.write, f, b"12345")))(os.open("/dev/full", os.O_RDWR)))
check("random", lambda: (lambda f: (len(os.read(f, 300)), os.write(f, b"12345")))(os.open("/dev/urandom", os.O_RDWR)))
check("null map", lambda: mmap.mmap(os.open("/dev/null", os.O_RDWR), 4096) and None)
check("links", lambda: [os.readlink(f"/dev/{n}") for n in ("fd", "stdin", "stdout", "stderr")])
check("truncate null", lambda: (opened("/dev/null", os.O_WRONLY | os.O_TRUNC), outcome(os.truncate, "/dev/null", 0)))
check("unlink null as user", lambda: as_user(lambda: check("unlink", os.unlink, "/dev/null")))
