"""Runs a command on a fresh pseudo-terminal, ends it once it has changed the terminal's modes, and says what became of them: restored.py SIGNAL COMMAND ARGS."""
import os, pty, select, signal, subprocess, sys, termios, threading

master, terminal = pty.openpty()

def drain():
    try:
        while os.read(master, 65536):
            pass
    except OSError:
        pass

threading.Thread(target=drain, daemon=True).start()
before = termios.tcgetattr(terminal)
program = subprocess.Popen(sys.argv[2:], stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
while termios.tcgetattr(terminal) == before and program.poll() is None:
    select.select([], [], [], 0.01)
if sys.argv[1] != "none":
    program.send_signal(signal.Signals[sys.argv[1]])
print(program.wait(), "restored" if termios.tcgetattr(terminal) == before else "lost")
