"""Runs a command on a fresh pseudo-terminal of the host: terminal.py 'expect|send' ... -- COMMAND ARGS.

Waits for each expected text, then types the text to send (with Python escapes); prints all that the terminal showed and the exit status.
"""
import fcntl, os, pty, select, struct, sys, termios, time

cut = sys.argv.index("--")
steps = [s.split("|", 1) for s in sys.argv[1:cut]]
pid, master = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 33, 77, 0, 0))
    os.execvp(sys.argv[cut + 1], sys.argv[cut + 1:])
seen, searched, end = b"", 0, time.monotonic() + 60
while True:
    while steps:
        wanted, reply = (s.encode().decode("unicode_escape").encode() for s in steps[0])
        at = seen.find(wanted, searched)
        if at < 0:
            break
        searched = at + len(wanted)
        steps.pop(0)
        if reply == b"RESIZE":
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 44, 99, 0, 0))
        else:
            os.write(master, reply)
    if time.monotonic() > end:
        print("still waiting for", steps, "after", seen)
        os.kill(pid, 9)
        sys.exit(1)
    if select.select([master], [], [], 1)[0]:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(seen.replace(b"\r\n", b"\n"))
print("status", os.waitstatus_to_exitcode(status), "left", len(steps))
