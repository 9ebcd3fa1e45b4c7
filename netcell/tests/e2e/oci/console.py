"""The caller's side of a terminal: SOCKET STEP… -- COMMAND…

COMMAND connects to SOCKET and sends the master of a terminal, as runtimes do; where SOCKET is `-`, it runs on a fresh terminal itself,
and its status is printed last. Steps: `run COMMAND` (to its end), `size ROWS COLUMNS`, `type TEXT`,
`expect TEXT`, `hangup` (reads to the end). What was shown goes to standard output.
"""
import array, fcntl, os, select, socket, struct, subprocess, sys, termios

LIMIT = 60
split = sys.argv.index("--")
path, steps, command = sys.argv[1], sys.argv[2:split], sys.argv[split + 1:]


def received():
    """The master that the command sends, and the command, which has ended."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    listener.settimeout(LIMIT)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        sys.exit(f"nobody came: {process.wait()}")
    data, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
    assert control and control[0][1] == socket.SCM_RIGHTS, control
    assert process.wait(LIMIT) == 0
    return array.array("i", control[0][2])[0], process


def made():
    """The master of a fresh terminal, of 24 rows and 80 columns, and the command that runs on it."""
    master, slave = os.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    ours = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=ours)
    os.close(slave)
    return master, process


master, process = made() if path == "-" else received()
shown, seen = "", 0


def read():
    """More of what is shown; False at its end."""
    global shown
    if not select.select([master], [], [], LIMIT)[0]:
        sys.exit(f"nothing more is shown after {shown!r}")
    try:
        new = os.read(master, 4096)
    except OSError:
        return False
    shown += new.decode(errors="replace")
    return bool(new)


for step in steps:
    word, _, rest = step.partition(" ")
    rest = rest.replace("\\n", "\n").replace("\\x03", "\x03")
    if word == "run":
        subprocess.run(rest.split(), stdin=subprocess.DEVNULL, check=True)
    elif word == "size":
        rows, columns = map(int, rest.split())
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    elif word == "type":
        os.write(master, rest.encode())
    elif word == "expect":
        while rest not in shown[seen:]:
            if not read():
                sys.exit(f"{rest!r} is not shown: {shown!r}")
        seen = shown.index(rest, seen) + len(rest)
    elif word == "hangup":
        while read():
            pass
    else:
        sys.exit(f"no such step: {step}")
print(shown)
if path == "-":
    print("status", process.wait(LIMIT))
