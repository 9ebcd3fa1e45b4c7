import hashlib, multiprocessing, os
from concurrent.futures import ProcessPoolExecutor

def work(n):
    return n, hashlib.md5(str(n).encode() * 1000).hexdigest()[:8]

def child(conn, value, array, lock):
    with lock:
        value.value += 1
        array[0] = 7
    conn.send(os.getpid() != os.getppid())

if __name__ == "__main__":
    with multiprocessing.Pool(4) as pool:
        print(pool.map(work, range(40)))
        print(sorted(pool.imap_unordered(work, range(8), chunksize=2))[3])
    value, array, lock = multiprocessing.Value("i", 0), multiprocessing.Array("i", 4), multiprocessing.Lock()
    ends = [multiprocessing.Pipe() for _ in range(3)]
    procs = [multiprocessing.Process(target=child, args=(b, value, array, lock)) for a, b in ends]
    [p.start() for p in procs]; print([a.recv() for a, b in ends]); [p.join() for p in procs]
    print(value.value, array[:], [p.exitcode for p in procs])
    q = multiprocessing.Queue(); p = multiprocessing.Process(target=q.put, args=({"k": list(range(5))},)); p.start(); print(q.get()); p.join()
    with ProcessPoolExecutor(2) as ex:
        print(list(ex.map(work, range(4)))[0])
