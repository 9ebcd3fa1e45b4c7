"""Who is signalled when sockets and pipes become ready, and when urgent data comes: F_SETOWN, F_SETSIG, O_ASYNC, SIOCSPGRP."""
import errno, fcntl, os, signal, socket, struct, threading
F_SETSIG, F_GETSIG, F_SETOWN_EX, F_GETOWN_EX, SIOCSPGRP, SIOCGPGRP, FIOASYNC = 10, 11, 15, 16, 0x8902, 0x8904, 0x5452
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
# A number for each case: what one leaves queued is not taken for the next.
numbers = iter(range(signal.SIGRTMIN + 1, signal.SIGRTMAX))
me = os.getpid()
def wait(number):
    info = signal.sigwaitinfo({number})
    return (info.si_code, hex(info.si_band)) if number > 31 else (signal.Signals(number).name, info.si_code)
def attempt(what):
    try: return what()
    except OSError as e: return errno.errorcode[e.errno]
def asynchronous(f, on=True):
    old = fcntl.fcntl(f, fcntl.F_GETFL); fcntl.fcntl(f, fcntl.F_SETFL, old | os.O_ASYNC if on else old & ~os.O_ASYNC)
    return bool(fcntl.fcntl(f, fcntl.F_GETFL) & os.O_ASYNC)
def owned(f, number=None, how=True):
    """Its owner is this process, by a number of its own where one is given."""
    fcntl.fcntl(f, fcntl.F_SETOWN, me)
    if number: fcntl.fcntl(f, F_SETSIG, number)
    if how: asynchronous(f)
    return f
def tcp():
    listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
    client = socket.create_connection(listener.getsockname()); server, _ = listener.accept(); listener.close(); return client, server

client, server = tcp()
print('at first', fcntl.fcntl(server, fcntl.F_GETOWN), fcntl.ioctl(server, SIOCGPGRP, bytes(4)), fcntl.fcntl(server, F_GETSIG))
owned(server, how=False); print('owner', fcntl.fcntl(server, fcntl.F_GETOWN) == me, struct.unpack('i', fcntl.ioctl(server, SIOCGPGRP, bytes(4)))[0] == me)
client.send(b'ab', socket.MSG_OOB); print('urgent', wait(signal.SIGURG), server.recv(1, socket.MSG_OOB), server.recv(9))
client.send(b'x', socket.MSG_OOB); print('urgent again', wait(signal.SIGURG), server.recv(1, socket.MSG_OOB))
fcntl.ioctl(server, SIOCSPGRP, struct.pack('i', -os.getpgrp())); print('group', struct.unpack('ii', fcntl.fcntl(server, F_GETOWN_EX, bytes(8))) == (2, os.getpgrp()))
client.send(b'z', socket.MSG_OOB); print('to the group', wait(signal.SIGURG))
fcntl.fcntl(server, F_SETOWN_EX, struct.pack('ii', 0, threading.get_native_id())); print('thread', struct.unpack('ii', fcntl.fcntl(server, F_GETOWN_EX, bytes(8)))[0])
client.send(b'o', socket.MSG_OOB); print('to a thread', wait(signal.SIGURG))
for bad in (999999, -999999, -2**31): print('bad owner', attempt(lambda: fcntl.fcntl(server, fcntl.F_SETOWN, bad)), attempt(lambda: fcntl.ioctl(server, SIOCSPGRP, struct.pack('i', bad))))
print('bad kinds', attempt(lambda: fcntl.fcntl(server, F_SETOWN_EX, struct.pack('ii', 3, me))), attempt(lambda: fcntl.fcntl(server, F_SETOWN_EX, struct.pack('ii', 1, 999999))))
print('signals', [attempt(lambda: fcntl.fcntl(server, F_SETSIG, n)) for n in (0, 1, 64, 65, -1)], fcntl.fcntl(server, F_GETSIG))

client, server = tcp(); print('async', asynchronous(owned(server, how=False)))
client.send(b'one'); print('data', wait(signal.SIGIO), server.recv(9)); client.shutdown(socket.SHUT_WR); print('end', wait(signal.SIGIO)); print('off', asynchronous(server, False))
client, server = tcp(); owned(server, n := next(numbers))
client.send(b'one'); print('data with a number', wait(n), server.recv(9))
client.send(b'u', socket.MSG_OOB); print('urgent with a number', wait(signal.SIGURG)); server.recv(1, socket.MSG_OOB)
client, server = tcp(); owned(server, n := next(numbers)); client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); client.close(); print('reset', wait(n))
client, server = tcp(); owned(server, n := next(numbers)); copy = server.dup(); server.close(); client.send(b'x'); print('by a copy', wait(n))

listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen(); owned(listener, n := next(numbers))
client = socket.create_connection(listener.getsockname()); print('listener', wait(n)); server, _ = listener.accept()
print('not inherited', bool(fcntl.fcntl(server, fcntl.F_GETFL) & os.O_ASYNC), fcntl.fcntl(server, fcntl.F_GETOWN))
client, server = tcp(); client.setblocking(False); owned(client, n := next(numbers))
try:
    while True: client.send(b'x' * 65536)
except BlockingIOError: pass
server.setblocking(False)
try:
    while True: server.recv(1 << 20)
except BlockingIOError: pass
print('room', wait(n))

taker = owned(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), n := next(numbers)); taker.bind(('127.0.0.1', 0))
giver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); giver.sendto(b'x', taker.getsockname()); print('datagram', wait(n))
lost = owned(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), n := next(numbers)); lost.connect(('127.0.0.1', 1)); lost.send(b'x'); print('refused', wait(n))
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    a, b = socket.socketpair(socket.AF_UNIX, kind); owned(b, n := next(numbers)); a.send(b'x'); print(kind.name, wait(n))
    if kind == socket.SOCK_STREAM: a.close(); print('its end', wait(n))
r, w = os.pipe(); owned(r, n := next(numbers)); os.write(w, b'x'); print('pipe', wait(n)); os.read(r, 1); os.close(w); print('its end', wait(n))

f = os.open('/tmp', os.O_TMPFILE | os.O_RDWR); print('others', asynchronous(f), asynchronous(os.eventfd(0)), attempt(lambda: fcntl.ioctl(f, FIOASYNC, struct.pack('i', 1))), attempt(lambda: fcntl.ioctl(f, FIOASYNC, bytes(4))))
s, _ = tcp(); fcntl.ioctl(s, FIOASYNC, struct.pack('i', 1)); print('FIOASYNC', bool(fcntl.fcntl(s, fcntl.F_GETFL) & os.O_ASYNC)); fcntl.ioctl(s, FIOASYNC, bytes(4)); print(bool(fcntl.fcntl(s, fcntl.F_GETFL) & os.O_ASYNC))
