write_file("f", b"0123456789" * 10)
OFD_GETLK, OFD_SETLK, OFD_SETLKW = 36, 37, 38


def lock(fd, kind, start=0, length=0, command=fcntl.F_SETLK, whence=0):
    fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, whence, start, length, 0))
    return "ok"


def test(fd, kind, start=0, length=0, command=fcntl.F_GETLK, whence=0):
    kind, whence, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, whence, start, length, 0)))
    names = {fcntl.F_RDLCK: "read", fcntl.F_WRLCK: "write", fcntl.F_UNLCK: "free"}
    who = "" if kind == fcntl.F_UNLCK else {os.getppid(): "parent", -1: "-1"}.get(pid, "other")
    return names[kind], whence, start, length, who


RD, WR, UN = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
a = os.open("f", os.O_RDWR)


def other(action):
    def run():
        fd = os.open("f", os.O_RDWR)
        action(fd)
    return child(run)


check("write lock", lock, a, WR, 10, 20)
check("own test", test, a, WR, 0, 100)
other(lambda fd: check("other test", test, fd, WR))
other(lambda fd: check("other test before", test, fd, WR, 0, 10))
other(lambda fd: check("other read lock", lock, fd, RD, 15, 1))
other(lambda fd: check("other disjoint", lock, fd, WR, 30, 5))
check("split", lock, a, UN, 15, 5)
other(lambda fd: check("hole", lambda: (test(fd, WR, 15, 5), test(fd, WR, 14, 2), test(fd, RD, 19, 2))))
check("downgrade middle", lock, a, RD, 22, 2)
other(lambda fd: check("parts", lambda: [test(fd, RD, s, 1) for s in (20, 22, 24, 29, 30)]))
check("from end", lambda: (os.lseek(a, 0, 0), lock(a, WR, -10, 5, whence=2))[1])
other(lambda fd: check("at end", test, fd, RD, 80, 20))
check("from current", lambda: (os.lseek(a, 50, 0), lock(a, WR, 0, -10, whence=1))[1])
other(lambda fd: check("negative length", test, fd, RD, 35, 20))
check("negative start", lock, a, WR, -1, 5)
check("negative length before 0", lock, a, WR, 5, -10)
check("bad type", lock, a, 9)
check("bad whence", lock, a, WR, 0, 1, fcntl.F_SETLK, 7)
b = os.open("f", os.O_RDONLY)
check("write lock on read only", lock, b, WR, 90, 1)
check("closing any descriptor frees", lambda: os.close(b))
other(lambda fd: check("all free", test, fd, WR))
check("again", lock, a, WR)


def forked():
    check("fork does not inherit", test, a, WR)
    check("child cannot", lock, a, WR)


child(forked)
r, w = os.pipe()


def blocked(fd):
    os.write(w, b"!")
    lock(fd, WR, command=fcntl.F_SETLKW)
    print("got it after", os.read(r, 1) == b"g", flush=True)


sys.stdout.flush()
pid = os.fork()
if pid == 0:
    blocked(os.open("f", os.O_RDWR))
    os._exit(0)
os.read(r, 1)
os.write(w, b"g")
lock(a, UN)
check("blocked ended", ended, pid)
signal.signal(signal.SIGALRM, lambda *x: None)


def interrupted():
    fd = os.open("f", os.O_RDWR)
    def raiser(*x):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, raiser)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        lock(fd, WR, command=fcntl.F_SETLKW)
        print("locked")
    except KeyboardInterrupt:
        print("interrupted")


lock(a, WR)
child(interrupted)
lock(a, UN)


def deadlock():
    # Each holds one byte and wants the other's.
    first = os.open("f", os.O_RDWR)
    lock(first, WR, 0, 1)
    r1, w1 = os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open("f", os.O_RDWR)
        lock(fd, WR, 1, 1)
        os.write(w1, b"x")
        result = outcome(lock, fd, WR, 0, 1, fcntl.F_SETLKW)
        os._exit(1 if result == "EDEADLK" else 0)
    os.read(r1, 1)
    mine = outcome(lock, first, WR, 1, 1, fcntl.F_SETLKW)
    lock(first, UN)
    theirs = ended(pid)
    print("one of two got EDEADLK:", (mine == "EDEADLK") != (theirs == "exit 1"), flush=True)


child(deadlock)
# Locks stay over exec, and go at the end of the process.
code = "import fcntl,struct,os,sys; fd=os.open('f',os.O_RDWR); print('after exec', struct.unpack('hhqqi4x', fcntl.fcntl(fd,5,struct.pack('hhqqi4x',1,0,0,0,0)))[0], flush=True)"


def over_exec():
    fd = os.open("f", os.O_RDWR)
    os.set_inheritable(fd, True)
    lock(fd, WR)
    def seen():
        fd2 = os.open("f", os.O_RDWR)
        check("held over exec", test, fd2, WR)
    r2, w2 = os.pipe()
    for end in (r2, w2):
        os.set_inheritable(end, True)
    os.execv("/usr/bin/python3", ["python3", "-c", "import os; p=os.fork()\nif p==0:\n import fcntl,struct; fd=os.open('f',os.O_RDWR); print('held over exec', struct.unpack('hhqqi4x', fcntl.fcntl(fd,5,struct.pack('hhqqi4x',1,0,0,0,0)))[0], flush=True); os._exit(0)\nos.wait()"])


child(over_exec)
other(lambda fd: check("gone with the process", test, fd, WR))

# Open file description locks.
x, y = os.open("f", os.O_RDWR), os.open("f", os.O_RDWR)
check("ofd", lock, x, WR, 0, 10, OFD_SETLK)
check("ofd conflicts in one process", lock, y, RD, 5, 10, OFD_SETLK)
check("ofd test", test, y, RD, 5, 10, OFD_GETLK)
check("posix against ofd", test, y, RD, 5, 10)
check("posix lock against ofd", lock, y, WR, 5, 10)
check("ofd pid must be 0", lambda: fcntl.fcntl(y, OFD_SETLK, struct.pack("hhqqi4x", RD, 0, 0, 1, 5)))
z = os.dup(x)
os.close(x)
check("ofd stays with dup", lock, y, RD, 5, 10, OFD_SETLK)
child(lambda: check("ofd is inherited", lock, z, WR, 0, 20, OFD_SETLK))
os.close(z)
check("ofd gone", lock, y, RD, 5, 10, OFD_SETLK)
child(lambda: check("child unlocks the shared", lock, y, UN, 0, 0, OFD_SETLK))
x = os.open("f", os.O_RDWR)
check("unlocked by child", lock, x, WR, 0, 0, OFD_SETLK)
os.close(x)

# flock.
x, y = os.open("f", os.O_RDONLY), os.open("f", os.O_RDWR)
SH, EX, NB, U = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_NB, fcntl.LOCK_UN
check("flock ex read only", fcntl.flock, x, EX)
check("flock conflict", fcntl.flock, y, SH | NB)
check("flock and posix do not meet", lock, y, WR)
check("flock downgrade", fcntl.flock, x, SH)
check("flock shared", fcntl.flock, y, SH | NB)
check("flock upgrade conflict", fcntl.flock, x, EX | NB)
check("lost by failed upgrade", fcntl.flock, y, EX | NB)
check("flock bad", fcntl.flock, x, 0)
child(lambda: check("inherited", fcntl.flock, y, EX | NB))
child(lambda: fcntl.flock(y, U))
check("unlocked by child", fcntl.flock, x, EX | NB)
d = os.open(".", os.O_RDONLY)
check("flock dir", fcntl.flock, d, EX)
check("posix lock dir", lock, d, RD)
check("flock pipe", fcntl.flock, r, EX | NB)
check("posix lock pipe", lock, r, RD)
os.close(x)
check("freed by close", fcntl.flock, y, EX | NB)
check("lockf", lambda: os.lockf(y, os.F_TLOCK, 10))
check("lease", fcntl.fcntl, y, 1025, fcntl.F_GETLK)
