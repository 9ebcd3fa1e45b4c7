// Masks, pending signals, their order, the flags of sigaction, alternate stacks, sigtimedwait, permissions.
#include "check.h"

static char order[400];
static volatile int depth, deepest, runs;
static int codes[400], values[400], pids[400], count;
static void note(int s, siginfo_t *i, void *c) {
    (void)c;
    char t[16];
    snprintf(t, sizeof t, "%d ", s >= SIGRTMIN ? s - SIGRTMIN + 100 : s);
    strcat(order, t);
    codes[count] = i->si_code, values[count] = i->si_value.sival_int, pids[count] = i->si_pid, count++;
}
static void flush(const char *what) { say("%s: %s", what, order); order[0] = 0, count = 0; }
static void nested(int s, siginfo_t *i, void *c) {
    (void)i; (void)c;
    if (++depth > deepest) deepest = depth;
    if (++runs < 5) raise(s);
    depth--;
}
static void mask_seen(int s, siginfo_t *i, void *c) {
    (void)i;
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    ucontext_t *u = c;
    say("in handler of %d: usr1 %d usr2 %d term %d, before: %d", s, sigismember(&now, SIGUSR1), sigismember(&now, SIGUSR2), sigismember(&now, SIGTERM), sigismember(&u->uc_sigmask, SIGUSR1));
    sigaddset(&u->uc_sigmask, SIGHUP);
}
static char alt[65536], second[65536];
static void where(int s, siginfo_t *i, void *c) {
    (void)s; (void)i;
    char here;
    stack_t now;
    ucontext_t *u = c;
    sigaltstack(NULL, &now);
    say("on alternate %d flags %d saved flags %d size %zu", &here >= alt && &here < alt + sizeof alt, now.ss_flags, u->uc_stack.ss_flags, now.ss_size);
    stack_t other = {.ss_sp = second, .ss_size = sizeof second};
    V(sigaltstack(&other, NULL));
}
static sigjmp_buf jump;
static void overflow(int s, siginfo_t *i, void *c) { (void)c; char here; say("signal %d code %d on alternate %d", s, i->si_code, &here >= alt && &here < alt + sizeof alt); siglongjmp(jump, 1); }
static int recurse(int n) { volatile char big[10000]; big[n % 10000] = 1; return recurse(n + 1) + big[0]; }
static void *other_thread(void *arg) {
    sigset_t pending;
    sigpending(&pending);
    say("thread sees pending: process's %d main's %d", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGUSR2));
    int s = 0;
    sigset_t set = set_of(SIGUSR1, 0);
    sigwait(&set, &s);
    say("taken by the thread %d", s);
    (void)arg;
    return NULL;
}

int main(void) {
    sigset_t set, old, pending;
    siginfo_t info;
    struct timespec zero = {0, 0};
    struct sigaction action;
    for (int s = 1; s < 65; s++) if (s != SIGKILL && s != SIGSTOP && s != SIGCHLD && s != 32 && s != 33) handle(s, note, SA_SIGINFO | SA_RESTART);
    V(sigaction(SIGKILL, &(struct sigaction){.sa_handler = SIG_IGN}, NULL));
    V(sigaction(SIGSTOP, &(struct sigaction){.sa_handler = SIG_IGN}, NULL));
    V(sigaction(SIGKILL, NULL, &action));
    V(sigaction(65, NULL, &action));
    V(sigaction(0, NULL, &action));
    V(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4));
    V(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, NULL, 4));
    V(syscall(SYS_rt_sigprocmask, 77, &set, NULL, 8));
    V(syscall(SYS_rt_sigprocmask, 77, NULL, &old, 8));
    V(syscall(SYS_rt_sigprocmask, SIG_BLOCK, (void *)8, NULL, 8));
    V(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, (void *)8, 8));
    V(syscall(SYS_rt_sigpending, (void *)8, 8));
    V(syscall(SYS_rt_sigpending, &pending, 16));
    V(syscall(SYS_rt_sigsuspend, (void *)8, 8));
    // Kill and stop cannot be blocked.
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, &old);
    sigprocmask(SIG_SETMASK, NULL, &set);
    say("all blocked: kill %d stop %d term %d 64 %d", sigismember(&set, SIGKILL), sigismember(&set, SIGSTOP), sigismember(&set, SIGTERM), sigismember(&set, 64));
    // Standard signals are one, real-time ones queue in order, lower numbers first.
    raise(SIGTERM), raise(SIGTERM), raise(SIGHUP);
    for (int i = 0; i < 3; i++) {
        sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = i});
        sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 10 + i});
        sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 20 + i});
    }
    sigpending(&pending);
    say("pending term %d hup %d usr1 %d rt1 %d", sigismember(&pending, SIGTERM), sigismember(&pending, SIGHUP), sigismember(&pending, SIGUSR1), sigismember(&pending, SIGRTMIN + 1));
    set = set_of(SIGRTMIN + 1, SIGUSR2);
    V(sigtimedwait(&set, &info, &zero) == SIGUSR2);
    say("code %d value %d own pid %d", info.si_code, info.si_value.sival_int, info.si_pid == getpid());
    V(sigtimedwait(&set, &info, &zero) == SIGRTMIN + 1);
    say("code %d value %d own pid %d", info.si_code, info.si_value.sival_int, info.si_pid == getpid());
    set = set_of(SIGALRM, 0);
    V(sigtimedwait(&set, &info, &zero));
    V(sigtimedwait(&set, NULL, &(struct timespec){0, 1000000}));
    V(sigtimedwait(&set, NULL, &(struct timespec){0, 2000000000}));
    V(sigtimedwait(&set, NULL, &(struct timespec){-1, 0}));
    V(syscall(SYS_rt_sigtimedwait, &set, NULL, &zero, 4));
    V(syscall(SYS_rt_sigtimedwait, (void *)8, NULL, &zero, 8));
    sigprocmask(SIG_SETMASK, &old, NULL);
    say("codes and values of the rest, as delivered last to first");
    for (int i = 0; i < count; i++) say("code %d value %d", codes[i], values[i]);
    flush("order");
    // A handler's mask.
    handle(SIGUSR1, mask_seen, SA_SIGINFO);
    sigaction(SIGUSR1, NULL, &action);
    sigaddset(&action.sa_mask, SIGTERM), sigaddset(&action.sa_mask, SIGKILL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR1, NULL, &action);
    say("mask keeps kill %d, flags %x", sigismember(&action.sa_mask, SIGKILL), action.sa_flags);
    raise(SIGUSR1);
    sigprocmask(SIG_SETMASK, &old, &set);
    say("what the handler put into the context is the mask: hup %d usr1 %d", sigismember(&set, SIGHUP), sigismember(&set, SIGUSR1));
    action.sa_flags |= SA_NODEFER;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    sigprocmask(SIG_SETMASK, &old, NULL);
    handle(SIGUSR1, nested, SA_SIGINFO | SA_NODEFER);
    raise(SIGUSR1);
    say("nested with NODEFER %d", deepest);
    deepest = runs = 0;
    handle(SIGUSR1, nested, SA_SIGINFO);
    raise(SIGUSR1);
    say("without %d", deepest);
    handle(SIGUSR1, note, SA_SIGINFO | SA_RESETHAND);
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &action);
    say("after RESETHAND default %d flags %x", action.sa_handler == SIG_DFL, action.sa_flags);
    flush("got");
    handle(SIGUSR1, note, SA_SIGINFO | 0x400);
    sigaction(SIGUSR1, NULL, &action);
    say("unknown flag bits are cleared: %x", action.sa_flags);
    // Ignoring throws away what is pending; so does a default that ignores.
    set = set_of(SIGUSR2, SIGWINCH);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR2), raise(SIGWINCH);
    handle(SIGUSR2, SIG_IGN, 0), handle(SIGWINCH, SIG_DFL, 0);
    sigpending(&pending);
    say("pending usr2 %d winch %d", sigismember(&pending, SIGUSR2), sigismember(&pending, SIGWINCH));
    raise(SIGUSR2), raise(SIGWINCH);
    sigpending(&pending);
    say("blocked and ignored is pending still: usr2 %d winch %d", sigismember(&pending, SIGUSR2), sigismember(&pending, SIGWINCH));
    sigprocmask(SIG_SETMASK, &old, NULL);
    handle(SIGUSR2, note, SA_SIGINFO);
    // sigsuspend: the mask is for the wait only, the handler runs with it.
    set = set_of(SIGUSR1, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1), raise(SIGUSR2);
    set = set_of(SIGUSR2, 0);
    V(sigsuspend(&set));
    flush("sigsuspend");
    sigprocmask(SIG_SETMASK, NULL, &set);
    say("mask is back: usr1 %d usr2 %d", sigismember(&set, SIGUSR1), sigismember(&set, SIGUSR2));
    sigprocmask(SIG_SETMASK, &old, NULL);
    flush("then");
    // The process's and the thread's.
    set = set_of(SIGUSR1, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGUSR1), pthread_kill(pthread_self(), SIGUSR2);
    pthread_t thread;
    pthread_create(&thread, NULL, other_thread, NULL);
    pthread_join(thread, NULL);
    sigprocmask(SIG_SETMASK, &old, NULL);
    flush("left for main");
    CHILD("nothing pending is inherited", {
        set = set_of(SIGUSR1, 0);
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGUSR1);
        CHILD("child", { sigpending(&pending); say("pending %d", sigismember(&pending, SIGUSR1)); sigprocmask(SIG_SETMASK, NULL, &set); say("mask inherited %d", sigismember(&set, SIGUSR1)); });
    });
    // Who sent it and how.
    raise(SIGUSR1);
    say("raise: code %d own pid %d", codes[0], pids[0] == getpid()); flush("");
    kill(getpid(), SIGUSR1);
    say("kill: code %d own pid %d", codes[0], pids[0] == getpid()); flush("");
    pid_t child = fork();
    if (!child) { sigqueue(getppid(), SIGUSR1, (union sigval){.sival_int = 5}); _exit(0); }
    waitpid(child, NULL, 0);
    for (int i = 0; i < count; i++) say("sigqueue: code %d child's pid %d value %d", codes[i], pids[i] == child, values[i]);
    order[0] = 0, count = 0;
    info = (siginfo_t){.si_signo = SIGUSR1, .si_code = SI_USER};
    V(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info));
    V(syscall(SYS_rt_sigqueueinfo, getppid() > 1 ? 1 : 1, 0, &info) == 0 || errno == EPERM);
    info.si_code = -5;
    V(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info));
    V(syscall(SYS_rt_sigqueueinfo, getpid(), 65, &info));
    V(syscall(SYS_rt_sigqueueinfo, 999999, SIGUSR1, &info));
    V(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, &info));
    V(syscall(SYS_rt_tgsigqueueinfo, -1, gettid(), SIGUSR1, &info));
    flush("");
    CHILD("too many queued", {
        struct rlimit limit = {5, 5};
        setrlimit(RLIMIT_SIGPENDING, &limit);
        // The limit is per user: nobody else is this one.
        setuid(54321);
        set = set_of(SIGRTMIN, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        for (int i = 0; i < 8; i++) V(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}));
        V(kill(getpid(), SIGTERM));
        V(kill(getpid(), SIGRTMIN));
    });
    // Alternate stacks.
    V(sigaltstack(&(stack_t){.ss_sp = alt, .ss_size = 100}, NULL));
    V(sigaltstack(&(stack_t){.ss_sp = alt, .ss_size = sizeof alt, .ss_flags = 77}, NULL));
    V(sigaltstack((void *)8, NULL));
    V(sigaltstack(&(stack_t){.ss_sp = alt, .ss_size = sizeof alt}, NULL));
    V(sigaltstack(NULL, (void *)8));
    handle(SIGUSR1, where, SA_SIGINFO | SA_ONSTACK);
    raise(SIGUSR1);
    handle(SIGUSR1, where, SA_SIGINFO);
    raise(SIGUSR1);
    handle(SIGSEGV, overflow, SA_SIGINFO | SA_ONSTACK);
    if (!sigsetjmp(jump, 1)) recurse(0);
    if (!sigsetjmp(jump, 1)) recurse(0);
    say("survived the end of the stack twice");
    V(sigaltstack(&(stack_t){.ss_sp = alt, .ss_size = sizeof alt, .ss_flags = 1 << 31}, NULL));
    handle(SIGUSR1, where, SA_SIGINFO | SA_ONSTACK);
    raise(SIGUSR1);
    stack_t now;
    sigaltstack(NULL, &now);
    say("after AUTODISARM flags %x size %zu", now.ss_flags, now.ss_size);
    V(sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL));
    CHILD("no stack at all", { handle(SIGSEGV, SIG_DFL, 0); recurse(0); });
    CHILD("a handler and no stack for it", { handle(SIGSEGV, overflow, SA_SIGINFO); recurse(0); });
    CHILD("blocked fault", { set = set_of(SIGSEGV, 0); sigprocmask(SIG_BLOCK, &set, NULL); *(volatile int *)8 = 1; });
    CHILD("ignored fault", { handle(SIGSEGV, SIG_IGN, 0); *(volatile int *)8 = 1; });
    CHILD("abort with a handler", { abort(); });
    CHILD("a broken frame", { handle(SIGSEGV, SIG_DFL, 0); __asm__ volatile("mov $8, %%rsp; mov $15, %%eax; syscall" ::: "memory"); });
    // Permission to signal.
    // Made and ended outside the block, which may not kill it.
    pid_t root = fork();
    if (!root) for (;;) pause();
    CHILD("kill across users", {
        pid_t user = fork();
        if (!user) { setuid(1234); for (;;) pause(); }
        setuid(1234);
        V(kill(root, 0)); V(kill(root, SIGTERM)); V(kill(root, SIGCONT));
        while (kill(user, 0)) sched_yield();
        V(kill(user, SIGKILL));
        say("%s", waited(user));
    });
    CHILD("saved ids count", {
        pid_t p = fork();
        if (!p) { setresuid(10, 10, 20); for (;;) pause(); }
        while (kill(p, 0) || getuid()) { if (getuid() == 0) setresuid(20, 20, 20); sched_yield(); if (getuid() == 20) break; }
        for (;;) { if (!kill(p, 0)) break; sched_yield(); }
        V(kill(p, SIGKILL));
        say("%s", waited(p));
    });
    // With root's child there is somebody, whom it may not signal.
    CHILD("everybody but oneself", { setuid(4321); handle(SIGUSR1, note, SA_SIGINFO); V(kill(-1, SIGUSR1)); flush("self"); });
    V(kill(root, SIGKILL));
    say("root's child %s", waited(root));
    // SIGPIPE.
    int fds[2];
    pipe(fds), close(fds[0]);
    V(write(fds[1], "x", 1));
    flush("pipe");
    socketpair(AF_UNIX, SOCK_STREAM, 0, fds), close(fds[0]);
    V(send(fds[1], "x", 1, MSG_NOSIGNAL));
    flush("socket with NOSIGNAL");
    V(write(fds[1], "x", 1));
    flush("socket");
    handle(SIGPIPE, SIG_IGN, 0);
    V(write(fds[1], "x", 1));
    CHILD("by default", { handle(SIGPIPE, SIG_DFL, 0); write(fds[1], "x", 1); });
    return 0;
}
