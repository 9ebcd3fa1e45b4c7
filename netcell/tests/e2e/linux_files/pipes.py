import termios, array
r, w = os.pipe()
GETSZ, SETSZ = 1032, 1031


def fionread(fd):
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]


def ready(fd, events=select.POLLIN | select.POLLOUT | select.POLLRDHUP | select.POLLPRI):
    p = select.poll()
    p.register(fd, events)
    return [hex(e) for _, e in p.poll(0)]


check("size", fcntl.fcntl, r, GETSZ)
check("set size 1", fcntl.fcntl, r, SETSZ, 1)
check("set size 5000", fcntl.fcntl, w, SETSZ, 5000)
check("set size 0", fcntl.fcntl, w, SETSZ, 0)
check("set size 64k", fcntl.fcntl, w, SETSZ, 65536)
check("set size on file", lambda: fcntl.fcntl(os.open("x", os.O_CREAT | os.O_RDWR), SETSZ, 4096))
check("mode", lambda: oct(os.fstat(r).st_mode))
check("names", lambda: os.readlink(f"/proc/self/fd/{r}")[:6])
check("write to read end", os.write, r, b"x")
check("read of write end", os.read, w, 1)
check("flags", lambda: (oct(fcntl.fcntl(r, fcntl.F_GETFL)), oct(fcntl.fcntl(w, fcntl.F_GETFL))))
check("poll empty", lambda: (ready(r), ready(w)))
os.write(w, b"hello")
check("fionread", lambda: (fionread(r), fionread(w)))
check("poll with data", lambda: (ready(r), ready(w)))
check("read part", lambda: (os.read(r, 2), fionread(r)))
check("read zero", os.read, r, 0)
check("read rest", os.read, r, 100)
os.set_blocking(r, False)
os.set_blocking(w, False)
check("empty nonblock", os.read, r, 1)
check("empty read zero", os.read, r, 0)
check("fill", lambda: os.write(w, b"x" * 70000))
check("full", os.write, w, b"x")
check("full poll", lambda: (ready(r), ready(w)))
check("set size below content", fcntl.fcntl, w, SETSZ, 4096)
check("read 4095 of full", lambda: len(os.read(r, 4095)))
check("no room for a page", lambda: ready(w))
check("small write into full pipe", os.write, w, b"y")
check("read 1 more", lambda: len(os.read(r, 1)))
check("room for a page", lambda: ready(w))
check("atomic 4096 fits", os.write, w, b"z" * 4096)
check("partial beyond PIPE_BUF", lambda: (len(os.read(r, 8192)), os.write(w, b"z" * 20000)))
check("atomic 4096 does not", lambda: (len(os.read(r, 100)), outcome(os.write, w, b"z" * 4096)))
total = 0
try:
    while True:
        total += len(os.read(r, 65536))
except BlockingIOError:
    pass
check("drained", lambda: total)
os.close(w)
check("eof", os.read, r, 1)
check("poll hup", lambda: ready(r))
os.close(r)
r, w = os.pipe()
os.close(r)
check("epipe", os.write, w, b"x")
check("epipe zero", os.write, w, b"")
check("poll err", lambda: ready(w))


def sigpipe():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.write(w, b"x")


check("sigpipe", child, sigpipe)
os.close(w)
check("pipe2 direct", lambda: os.close(os.pipe2(os.O_DIRECT)[0]))
r, w = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
os.write(w, b"one")
os.write(w, b"three")
check("packets", lambda: (os.read(r, 100), os.read(r, 2), outcome(os.read, r, 100)))
os.close(r), os.close(w)
check("pipe2 bad flag", call, 293, ctypes.create_string_buffer(8), os.O_APPEND)
check("pipe bad pointer", call, 22, 8)

# Writers that share a pipe do not mix what fits PIPE_BUF.
r, w = os.pipe()
pids = []
for who in b"abcd":
    pid = os.fork()
    if pid == 0:
        for _ in range(50):
            os.write(w, bytes([who]) * 4096)
        os._exit(0)
    pids.append(pid)
os.close(w)
data = b""
while True:
    part = os.read(r, 1 << 16)
    if not part:
        break
    data += part
check("atomic writes", lambda: (len(data), all(len(set(data[i:i + 4096])) == 1 for i in range(0, len(data), 4096)), [ended(p) for p in pids]))

# FIFOs.
os.mkfifo("fifo", 0o600)
check("fifo mode", mode, "fifo")
check("write only nonblock without reader", opened, "fifo", os.O_WRONLY | os.O_NONBLOCK)
r = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
check("read without writer", os.read, r, 1)
check("poll never had a writer", ready, r)
w = os.open("fifo", os.O_WRONLY | os.O_NONBLOCK)
check("read with writer", os.read, r, 1)
os.write(w, b"abc")
check("fifo data", os.read, r, 10)
os.close(w)
check("poll writer gone", ready, r)
check("read writer gone", os.read, r, 1)
w = os.open("fifo", os.O_WRONLY)
check("poll writer back", ready, r)
os.close(r), os.close(w)
both = os.open("fifo", os.O_RDWR)
os.write(both, b"self")
check("rdwr", os.read, both, 10)
check("rdwr poll", ready, both)
os.close(both)


def reader():
    fd = os.open("fifo", os.O_RDONLY)
    print("reader got", os.read(fd, 10), flush=True)


sys.stdout.flush()
pid = os.fork()
if pid == 0:
    reader()
    os._exit(0)
w = os.open("fifo", os.O_WRONLY)
os.write(w, b"meet")
check("blocking open meets", ended, pid)
os.close(w)
check("fifo lseek", lambda: os.lseek(os.open("fifo", os.O_RDWR), 0, 0))
check("truncate fifo", os.truncate, "fifo", 0)
check("open fifo trunc", opened, "fifo", os.O_RDWR | os.O_TRUNC)
w = os.open("fifo", os.O_RDWR)
os.write(w, b"kept")
os.unlink("fifo")
check("unlinked fifo", os.read, w, 9)
r, w = os.pipe()
check("reopen pipe through proc", lambda: (os.write(w, b"via"), os.read(os.open(f"/proc/self/fd/{r}", os.O_RDONLY), 9))[1])
check("fchmod pipe", lambda: (os.fchmod(r, 0o640), oct(os.fstat(w).st_mode))[1])
check("fchown pipe", lambda: (os.fchown(r, 5, 6), os.fstat(w).st_uid)[1])
check("statfs pipe", lambda: os.fstatvfs(r).f_bsize)
check("pipe SIGIO", lambda: fcntl.fcntl(r, fcntl.F_SETOWN, os.getpid()))


def sigio():
    got = []
    signal.signal(signal.SIGIO, lambda *a: got.append(1))
    fcntl.fcntl(r, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(r, fcntl.F_SETFL, fcntl.fcntl(r, fcntl.F_GETFL) | os.O_ASYNC)
    os.write(w, b"x")
    print("sigio", got, "owner is self", fcntl.fcntl(r, fcntl.F_GETOWN) == os.getpid(), flush=True)


check("sigio", child, sigio)
