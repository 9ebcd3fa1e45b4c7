// futex(2): errors, waking, bitsets, requeueing, time-outs, words shared between processes, robust lists, priority inheritance.
#include "check.h"

static uint32_t word, second, gate;
static long futex(uint32_t *w, int op, uint32_t value, void *time_or_count, uint32_t *w2, uint32_t value3) { return syscall(SYS_futex, w, op, value, time_or_count, w2, value3); }
struct waiter { pthread_t thread; uint32_t *word; int op; uint32_t bits; _Atomic pid_t tid; long result; int error; };
static void *waiting(void *arg) {
    struct waiter *w = arg;
    w->tid = gettid();
    w->result = futex(w->word, w->op, 0, NULL, NULL, w->bits);
    w->error = errno;
    return NULL;
}
static void start(struct waiter *w, uint32_t *on, int op, uint32_t bits) {
    w->word = on, w->op = op, w->bits = bits, w->tid = 0;
    pthread_create(&w->thread, NULL, waiting, w);
    while (!w->tid) sched_yield();
    until_state(getpid(), w->tid, 'S');
}
static long join(struct waiter *w) { pthread_join(w->thread, NULL); return w->result; }
// Wakes until a waiter that is on its way has been met.
static int wake_one(uint32_t *w, int op) { long n; while ((n = futex(w, op, 1, NULL, NULL, -1)) == 0) sched_yield(); return n; }

static struct { struct robust_list_head head; struct robust_list entry; uint32_t lock; } robust;
static void *dies(void *arg) {
    robust.head.list.next = &robust.entry, robust.entry.next = &robust.head.list;
    robust.head.futex_offset = (char *)&robust.lock - (char *)&robust.entry;
    syscall(SYS_set_robust_list, &robust.head, sizeof robust.head);
    robust.lock = gettid() | FUTEX_WAITERS;
    *(pid_t *)arg = gettid();
    syscall(SYS_exit, 0);
    return NULL;
}
static void *locker(void *arg) { pthread_mutex_lock(arg); return NULL; }
static void *pi_waiter(void *arg) { struct waiter *w = arg; w->tid = gettid(); w->result = futex(w->word, FUTEX_LOCK_PI, 0, NULL, NULL, 0); w->error = errno; if (!w->result) w->bits = futex(w->word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0); return NULL; }

int main(void) {
    struct timespec zero = {0, 0}, brief = {0, 1000000}, bad = {0, 1000000000}, negative = {-1, 0}, now;
    struct waiter w[6] = {0};
    V(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0));
    V(futex(&word, FUTEX_WAIT, 0, &zero, NULL, 0));
    V(futex(&word, FUTEX_WAIT, 0, &brief, NULL, 0));
    V(futex(&word, FUTEX_WAIT, 0, &bad, NULL, 0));
    V(futex(&word, FUTEX_WAIT, 0, &negative, NULL, 0));
    V(futex(&word, FUTEX_WAIT, 0, (void *)8, NULL, 0));
    V(futex(&word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, &brief, NULL, 0));
    V(futex((void *)((char *)&word + 1), FUTEX_WAIT, 0, &zero, NULL, 0));
    V(futex((void *)((char *)&word + 1), FUTEX_WAKE, 1, NULL, NULL, 0));
    V(futex((void *)8, FUTEX_WAIT, 0, &zero, NULL, 0));
    V(futex((void *)8, FUTEX_WAIT_PRIVATE, 0, &zero, NULL, 0));
    V(futex((void *)8, FUTEX_WAKE, 1, NULL, NULL, 0));
    V(futex((void *)8, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    V(futex((void *)-8, FUTEX_WAKE, 1, NULL, NULL, 0));
    V(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
    V(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0));
    V(futex(&word, FUTEX_WAKE, 0, NULL, NULL, 0));
    V(futex(&word, 99, 0, NULL, NULL, 0));
    V(futex(&word, FUTEX_FD, 0, NULL, NULL, 0));
    V(futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0));
    V(futex(&word, FUTEX_WAIT_BITSET, 0, &zero, NULL, -1));
    clock_gettime(CLOCK_REALTIME, &now);
    V(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &now, NULL, -1));
    V(futex(&word, FUTEX_REQUEUE, 0, 0, &second, 0));
    V(futex(&word, FUTEX_REQUEUE, -1, 0, &second, 0));
    V(futex(&word, FUTEX_REQUEUE, 0, (void *)-1, &second, 0));
    V(futex(&word, FUTEX_CMP_REQUEUE, 0, 0, &second, 1));
    V(futex(&word, FUTEX_CMP_REQUEUE, 0, 0, (void *)8, 0));

    int kinds[] = {FUTEX_WAIT, FUTEX_WAIT_PRIVATE};
    for (int k = 0; k < 2; k++) {
        int private = kinds[k] & FUTEX_PRIVATE_FLAG;
        for (int i = 0; i < 3; i++) start(&w[i], &word, FUTEX_WAIT | private, 0);
        say("none on another word %ld", futex(&second, FUTEX_WAKE | private, 9, NULL, NULL, 0));
        say("private and shared are different words %ld", futex(&word, FUTEX_WAKE | (private ^ FUTEX_PRIVATE_FLAG), 9, NULL, NULL, 0));
        say("two %ld", futex(&word, FUTEX_WAKE | private, 2, NULL, NULL, 0));
        say("one left %ld", futex(&word, FUTEX_WAKE | private, INT_MAX, NULL, NULL, 0));
        say("none left %ld", futex(&word, FUTEX_WAKE | private, 1, NULL, NULL, 0));
        for (int i = 0; i < 3; i++) say("result %ld", join(&w[i]));
        start(&w[0], &word, FUTEX_WAIT_BITSET | private, 1), start(&w[1], &word, FUTEX_WAIT_BITSET | private, 2), start(&w[2], &word, FUTEX_WAIT | private, 0);
        say("bits 4 %ld", futex(&word, FUTEX_WAKE_BITSET | private, 1, NULL, NULL, 4));
        say("bits 2 %ld", futex(&word, FUTEX_WAKE_BITSET | private, 9, NULL, NULL, 2));
        say("bits 1 %ld", futex(&word, FUTEX_WAKE_BITSET | private, 9, NULL, NULL, 1));
        for (int i = 0; i < 3; i++) say("result %ld", join(&w[i]));
        for (int i = 0; i < 5; i++) start(&w[i], &word, FUTEX_WAIT | private, 0);
        say("requeue, wrong value %ld %s", futex(&word, FUTEX_CMP_REQUEUE | private, 1, (void *)2, &second, 5), strerrorname_np(errno));
        say("requeue: woken and moved %ld", futex(&word, FUTEX_CMP_REQUEUE | private, 1, (void *)2, &second, 0));
        say("on the second %ld", futex(&second, FUTEX_WAKE | private, 9, NULL, NULL, 0));
        say("without comparison only the woken count %ld", futex(&word, FUTEX_REQUEUE | private, 1, (void *)9, &second, 0));
        say("on the second %ld", futex(&second, FUTEX_WAKE | private, 9, NULL, NULL, 0));
        for (int i = 0; i < 5; i++) join(&w[i]);
        start(&w[0], &word, FUTEX_WAIT | private, 0), start(&w[1], &second, FUTEX_WAIT | private, 0);
        say("wake_op adds, and wakes the second where the comparison holds %ld", futex(&word, FUTEX_WAKE_OP | private, 1, (void *)1, &second, FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0)));
        say("second is %u", second);
        join(&w[0]), join(&w[1]);
        say("wake_op without %ld", futex(&word, FUTEX_WAKE_OP | private, 1, (void *)1, &second, FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_LT, 5)));
        for (int op = 0; op < 7; op++) { second = 12; long r = futex(&word, FUTEX_WAKE_OP | private, 1, (void *)1, &second, FUTEX_OP(op, 6, FUTEX_OP_CMP_EQ, 0)); say("operation %d: %ld %s, 12 becomes %u", op, r, r < 0 ? strerrorname_np(errno) : "", second); }
        second = 1, futex(&word, FUTEX_WAKE_OP | private, 1, (void *)1, &second, FUTEX_OP(FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 4, FUTEX_OP_CMP_EQ, 0));
        say("shifted %u", second);
        second = 0;
    }
    // Words shared between processes, by inheritance and by two mappings of one file at different addresses.
    char path[] = "/tmp/futex-XXXXXX";
    int fd = mkstemp(path);
    ftruncate(fd, 4096), unlink(path);
    uint32_t *a = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint32_t *anonymous = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint32_t *private = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *private = 0;
    pid_t p = fork();
    if (!p) _exit(futex(a, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 51 : 52);
    say("through the other mapping %d", wake_one(b, FUTEX_WAKE));
    say("%s", waited(p));
    p = fork();
    if (!p) _exit(futex(anonymous, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 53 : 54);
    say("anonymous %d", wake_one(anonymous, FUTEX_WAKE));
    say("%s", waited(p));
    p = fork();
    if (!p) _exit(futex(private, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 55 : 56);
    until_state(p, p, 'S');
    say("private memory is not shared %ld", futex(private, FUTEX_WAKE, 1, NULL, NULL, 0));
    kill(p, SIGKILL);
    say("%s", waited(p));
    pthread_mutexattr_t shared;
    pthread_mutexattr_init(&shared), pthread_mutexattr_setpshared(&shared, 1), pthread_mutexattr_setrobust(&shared, 1);
    pthread_mutex_t *mutex = (void *)(anonymous + 16);
    V(pthread_mutex_init(mutex, &shared));
    p = fork();
    if (!p) { pthread_mutex_lock(mutex); _exit(57); }
    say("%s", waited(p));
    V(pthread_mutex_lock(mutex) == EOWNERDEAD);
    V(pthread_mutex_consistent(mutex));
    V(pthread_mutex_unlock(mutex));
    pthread_t thread;
    pthread_create(&thread, NULL, locker, mutex);
    pthread_join(thread, NULL);
    V(pthread_mutex_lock(mutex) == EOWNERDEAD);
    V(pthread_mutex_unlock(mutex));
    V(pthread_mutex_lock(mutex) == ENOTRECOVERABLE);
    CHILD("a mutex held through exec is freed too", { pthread_mutex_init(mutex, &shared); pthread_mutex_lock(mutex); execl("/bin/true", "true", NULL); });
    V(pthread_mutex_lock(mutex) == EOWNERDEAD);
    pid_t dead;
    pthread_create(&thread, NULL, dies, &dead);
    pthread_join(thread, NULL);
    say("a dead owner's word: died %d waiters %d owner %d", !!(robust.lock & FUTEX_OWNER_DIED), !!(robust.lock & FUTEX_WAITERS), robust.lock & FUTEX_TID_MASK);
    struct robust_list_head *head;
    size_t length;
    V(syscall(SYS_set_robust_list, NULL, 5));
    V(syscall(SYS_get_robust_list, 0, &head, &length));
    V(length);
    V(syscall(SYS_get_robust_list, 999999, &head, &length));
    V(syscall(SYS_get_robust_list, 0, (void *)8, &length));
    // Priority inheritance.
    word = 0;
    V(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    V(word == gettid());
    V(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    V(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    V(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    V(word);
    V(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    V(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    w[0].word = &word, w[0].tid = 0;
    pthread_create(&w[0].thread, NULL, pi_waiter, &w[0]);
    while (!w[0].tid) sched_yield();
    until_state(getpid(), w[0].tid, 'S');
    V(word == (gettid() | FUTEX_WAITERS));
    V(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    pthread_join(w[0].thread, NULL);
    say("the waiter got it %ld and gave it back %d, word %u", w[0].result, w[0].bits, word);
    word = 999999;
    V(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    word = getppid() > 1 ? 999998 : 999998;
    V(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    V(futex((void *)8, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    pthread_mutexattr_t pi;
    pthread_mutexattr_init(&pi);
    V(pthread_mutexattr_setprotocol(&pi, PTHREAD_PRIO_INHERIT));
    pthread_mutex_t m;
    V(pthread_mutex_init(&m, &pi));
    V(pthread_mutex_lock(&m));
    clock_gettime(CLOCK_REALTIME, &now);
    V(pthread_mutex_trylock(&m) == EBUSY);
    V(pthread_mutex_unlock(&m));
    return 0;
}
