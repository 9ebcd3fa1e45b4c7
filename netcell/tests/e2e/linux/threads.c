// Threads: local storage, joining, ids, and what ends a process of many threads.
#include "check.h"

static __thread int local = 3;
static __thread char zeroed[5000];
static pthread_barrier_t barrier;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int turn, ran_once, destroyed, counter;
static _Atomic int forward;

static void run_once(void) { ran_once++; }
static void destroy(void *value) { __atomic_add_fetch(&destroyed, (long)value, __ATOMIC_SEQ_CST); }
static void *work(void *arg) {
    long n = (long)arg;
    pthread_once(&once, run_once);
    pthread_setspecific(key, (void *)n);
    int before = local;
    for (size_t i = 0; i < sizeof zeroed; i++) before += zeroed[i];
    local += n, zeroed[4999] = n;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    pthread_mutex_lock(&mutex);
    while (turn != n) pthread_cond_wait(&condition, &mutex);
    say("thread %ld before %d after %d zeroed %d", n, before, local, zeroed[4999]);
    turn++;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    return (void *)(n * n);
}
static void *sleeper(void *arg) { (void)arg; for (;;) pause(); }
static void *exits_group(void *arg) { exit_group: syscall(SYS_exit_group, (long)arg); goto exit_group; }
static void *execs(void *arg) {
    (void)arg;
    char *args[] = {"/bin/sh", "-c", "test $$ = \"$WANT\" && exit 44", NULL};
    execv(args[0], args);
    return NULL;
}
static void *joins_main(void *arg) {
    pthread_join(*(pthread_t *)arg, NULL);
    // A joined thread may still be on its way out.
    until_state(getpid(), getpid(), 'Z');
    say("main's state %c", state_of(getpid(), getpid()));
    exit(45);
}
static void *to_self(void *arg) { (void)arg; raise(SIGUSR1); return (void *)(long)forward; }
static void on_usr1(int s) { (void)s; forward = gettid() == getpid() ? 1 : 2; }
static void *canceled(void *arg) { (void)arg; char b; read(*(int *)arg, &b, 1); return NULL; }
static void cleanup(void *arg) { say("cleanup %s", (char *)arg); }
static void *canceled_with(void *arg) { pthread_cleanup_push(cleanup, "ran"); canceled(arg); pthread_cleanup_pop(0); return NULL; }
static void *forks(void *arg) {
    (void)arg;
    local = 77;
    CHILD("fork in a thread", { say("local %d main thread %d", local, gettid() == getpid()); _exit(local); });
    return NULL;
}
static int main_tid;
static void *ids(void *arg) {
    (void)arg;
    say("same process %d, own tid %d", getpid() == main_tid, gettid() != main_tid);
    V(syscall(SYS_tgkill, getpid(), gettid(), 0));
    V(syscall(SYS_tgkill, getpid() + 1000000, gettid(), 0));
    V(syscall(SYS_tgkill, -1, gettid(), 0));
    V(syscall(SYS_tgkill, getpid(), 0, 0));
    V(syscall(SYS_tgkill, getpid(), gettid(), 65));
    V(syscall(SYS_tkill, gettid(), 0));
    V(kill(gettid(), 0));
    V(syscall(SYS_exit, 3));
    return NULL;
}

int main(void) {
    pthread_t threads[8];
    void *result;
    main_tid = getpid();
    pthread_key_create(&key, destroy);
    pthread_barrier_init(&barrier, NULL, 8);
    for (long i = 0; i < 8; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    long sum = 0;
    for (int i = 0; i < 8; i++) { pthread_join(threads[i], &result); sum += (long)result; }
    say("sum %ld once %d destroyed %d counter %d local %d", sum, ran_once, destroyed, counter, local);
    pthread_t one;
    pthread_create(&one, NULL, ids, NULL);
    pthread_join(one, NULL);
    signal(SIGUSR1, on_usr1);
    pthread_create(&one, NULL, to_self, NULL);
    pthread_join(one, &result);
    say("raise in a thread runs there: %ld", (long)result);
    int fds[2];
    MUST(pipe(fds));
    pthread_create(&one, NULL, canceled_with, &fds[0]);
    // Said after the join: the cleanup has a line of its own, at any time.
    int canceling = pthread_cancel(one);
    pthread_join(one, &result);
    say("pthread_cancel %d canceled %d", canceling, result == PTHREAD_CANCELED);
    pthread_create(&one, NULL, forks, NULL);
    pthread_join(one, NULL);
    CHILD("exit_group in a thread", {
        pthread_create(&one, NULL, sleeper, NULL);
        pthread_create(&one, NULL, exits_group, (void *)43);
        pause();
    });
    CHILD("return from main ends the others", { pthread_create(&one, NULL, sleeper, NULL); exit(46); });
    CHILD("exec in a thread takes the pid", {
        char want[20];
        snprintf(want, sizeof want, "%d", getpid());
        setenv("WANT", want, 1);
        pthread_create(&one, NULL, sleeper, NULL);
        pthread_create(&one, NULL, execs, NULL);
        pause();
    });
    CHILD("main thread leaves first", {
        pthread_t self = pthread_self();
        pthread_create(&one, NULL, joins_main, &self);
        pthread_exit(NULL);
    });
    CHILD("a fatal signal in one ends all", {
        pthread_create(&one, NULL, sleeper, NULL);
        signal(SIGUSR2, SIG_DFL);
        pthread_kill(one, SIGUSR2);
        pause();
    });
    CHILD("the last thread's exit code counts", {
        pthread_create(&one, NULL, (void *(*)(void *))sleeper, NULL);
        pthread_cancel(one);
        pthread_join(one, NULL);
        syscall(SYS_exit, 47);
    });
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384);
    pthread_attr_setguardsize(&attributes, 4096);
    int made = 0;
    for (int i = 0; i < 300; i++) { made += !pthread_create(&one, &attributes, (void *(*)(void *))strdup, "x"); pthread_join(one, &result); free(result); }
    say("made %d", made);
    char name[20];
    V(pthread_setname_np(pthread_self(), "a-name-of-fifteen-more"));
    V(pthread_setname_np(pthread_self(), "main-name"));
    V(prctl(PR_GET_NAME, name));
    say("%s", name);
    pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
    V(pthread_rwlock_rdlock(&lock)); V(pthread_rwlock_tryrdlock(&lock)); V(pthread_rwlock_trywrlock(&lock) == EBUSY);
    struct timespec past = {1, 0};
    V(pthread_rwlock_timedwrlock(&lock, &past) == ETIMEDOUT);
    pthread_mutex_t recursive, checked;
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &kind);
    V(pthread_mutex_lock(&recursive)); V(pthread_mutex_lock(&recursive));
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&checked, &kind);
    V(pthread_mutex_lock(&checked)); V(pthread_mutex_lock(&checked) == EDEADLK);
    V(pthread_mutex_timedlock(&mutex, &past));
    V(pthread_mutex_timedlock(&mutex, &past) == ETIMEDOUT);
    pthread_mutexattr_setprotocol(&kind, PTHREAD_PRIO_INHERIT);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_NORMAL);
    V(pthread_mutex_init(&recursive, &kind));
    V(pthread_mutex_lock(&recursive));
    V(pthread_mutex_unlock(&recursive));
    return 0;
}
