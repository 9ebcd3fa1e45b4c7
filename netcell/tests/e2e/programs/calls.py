import asyncio, os, queue, select, signal, socket, subprocess, sys, tempfile, threading, time, mmap, fcntl, struct, errno

print(subprocess.run(["echo", "hi"], capture_output=True, text=True).stdout.strip())
p = subprocess.Popen(["sh", "-c", "cat; exit 4"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(p.communicate(b"piped" * 10)[0], p.returncode)
try:
    subprocess.run(["sleep", "100"], timeout=0.2)
except subprocess.TimeoutExpired:
    print("timeout")
try:
    subprocess.run(["/no/such/program"])
except FileNotFoundError as e:
    print(e.errno)

q = queue.Queue()
ts = [threading.Thread(target=lambda i=i: q.put(i * i)) for i in range(20)]
[t.start() for t in ts]; [t.join() for t in ts]
print(sorted(q.get() for _ in ts))
event = threading.Event()
print(event.wait(0.05), threading.Lock().acquire(timeout=1))

async def work(i):
    await asyncio.sleep(0.01 * (5 - i))
    return i

async def echo(r, w):
    w.write(await r.readline()); await w.drain(); w.close()

async def main():
    print(await asyncio.gather(*(work(i) for i in range(5))))
    proc = await asyncio.create_subprocess_exec("echo", "async", stdout=subprocess.PIPE)
    print((await proc.communicate())[0])
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async def client(i):
        r, w = await asyncio.open_connection("127.0.0.1", port)
        w.write(b"%d\n" % i); await w.drain()
        line = await r.readline(); w.close()
        return line
    print(sorted(await asyncio.gather(*(client(i) for i in range(20)))))
    server.close()

asyncio.run(main())

a, b = socket.socketpair()
socket.send_fds(a, [b"fd"], [0])
msg, fds, flags, addr = socket.recv_fds(b, 10, 1)
print(msg, len(fds), os.fstat(fds[0]).st_ino == os.fstat(0).st_ino)
u = socket.socket(socket.AF_UNIX); path = os.path.join(tempfile.mkdtemp(), "s"); u.bind(path); u.listen()
c = socket.socket(socket.AF_UNIX); c.connect(path); s, _ = u.accept(); c.sendall(b"unix"); print(s.recv(10))
print(struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0] == os.getpid())
try:
    socket.create_connection(("127.0.0.1", 1))
except ConnectionRefusedError as e:
    print(errno.errorcode[e.errno])

with tempfile.TemporaryFile() as f:
    f.write(b"x" * 10000); f.flush()
    m = mmap.mmap(f.fileno(), 0); m[100:103] = b"abc"; m.flush()
    f.seek(99); print(f.read(5)); m.close()
    fcntl.lockf(f, fcntl.LOCK_EX); f.truncate(50); print(os.fstat(f.fileno()).st_size)
r, w = os.pipe()
ep = select.epoll(); ep.register(r, select.EPOLLIN)
print(ep.poll(0), os.write(w, b"z"), ep.poll(1)[0][1] == select.EPOLLIN)

got = []
signal.signal(signal.SIGALRM, lambda *_: got.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.05)
signal.pause(); print(got)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.kill(os.getpid(), signal.SIGUSR1)
print(signal.sigwait([signal.SIGUSR1]) == signal.SIGUSR1)
d = tempfile.mkdtemp(); os.chdir(d)
for i in range(100): open(f"f{i}", "w").write(str(i))
print(len(os.listdir()), sum(e.stat().st_size for e in os.scandir()))
os.rename("f1", "g"); os.link("g", "h"); os.symlink("h", "l"); print(open("l").read(), os.stat("g").st_nlink, os.readlink("l"))
os.utime("g", (1, 2)); print(os.stat("g").st_mtime); os.chmod("g", 0o600); print(oct(os.stat("h").st_mode))
print(os.path.exists("f1"), time.monotonic() <= time.monotonic(), abs(time.time() - time.clock_gettime(time.CLOCK_REALTIME)) < 5)
pid = os.fork()
if pid == 0: os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), sys.version_info[0])
