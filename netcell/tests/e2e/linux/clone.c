// clone and clone3: which flags go together, what is shared, which ids are written where.
#include "check.h"

static char stack[65536] __attribute__((aligned(16)));
#define TOP (stack + sizeof stack)
static int shared_value, tid_word, child_word;
static long raw(unsigned long flags, void *sp, int *ptid, int *ctid) { return syscall(SYS_clone, flags, sp, ptid, ctid, 0); }
static long three(struct clone_args *args, size_t size) {
    long r = syscall(SYS_clone3, args, size);
    if (r == 0) _exit(0);
    if (r > 0) waitpid(r, NULL, __WALL);
    return r > 0 ? 1 : r;
}
static int set_value(void *arg) { shared_value = (long)arg; return 5; }
static int open_file(void *arg) { (void)arg; int fd = open("/dev/null", O_RDONLY); return fd; }
static int change_dir(void *arg) { (void)arg; return chdir("/usr"); }
static int own_signal(void *arg) { (void)arg; signal(SIGUSR1, SIG_IGN); return 0; }
static int parent_id(void *arg) { return getppid() == *(pid_t *)arg ? 7 : 8; }
static int nothing(void *arg) { (void)arg; return 0; }

int main(void) {
    int status;
    // The numbers of new descriptors are compared: whatever the parent left open is in the way.
    closefrom(3);
    V(raw(CLONE_THREAD, TOP, 0, 0));
    V(raw(CLONE_SIGHAND, TOP, 0, 0));
    V(raw(CLONE_THREAD | CLONE_SIGHAND, TOP, 0, 0));
    V(raw(CLONE_FS | CLONE_NEWNS, 0, 0, 0));
    V(raw(CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, TOP, 0, 0));
    V(raw(CLONE_NEWUSER | CLONE_FS, 0, 0, 0));
    V(raw(CLONE_NEWIPC | CLONE_SYSVSEM, 0, 0, 0));
    V(raw(CLONE_PIDFD | CLONE_DETACHED, 0, &tid_word, 0));
    V(raw(CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, &tid_word, 0));
    struct clone_args args = {0};
    V(three(&args, 0));
    V(three(&args, 63));
    V(three(&args, 64));
    V(three(&args, sizeof args));
    V(three((void *)8, sizeof args));
    V(three(&args, 1 << 20));
    char big[256] = {0};
    V(three((void *)big, sizeof big));
    big[200] = 1;
    V(three((void *)big, sizeof big));
    args.exit_signal = 65;
    V(three(&args, sizeof args));
    args.exit_signal = SIGUSR2 | 0x100;
    V(three(&args, sizeof args));
    args.exit_signal = SIGCHLD, args.flags = SIGCHLD;
    V(three(&args, sizeof args));
    args.flags = 0, args.stack = (long)stack;
    V(three(&args, sizeof args));
    args.stack = 0, args.stack_size = 4096;
    V(three(&args, sizeof args));
    args.stack_size = 0, args.flags = CLONE_DETACHED;
    V(three(&args, sizeof args));
    args.flags = CLONE_SIGHAND | CLONE_CLEAR_SIGHAND;
    V(three(&args, sizeof args));
    args.flags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
    V(three(&args, sizeof args));
    args.flags = CLONE_PARENT;
    V(three(&args, sizeof args));
    args.flags = 1ull << 40;
    V(three(&args, sizeof args));

    // What is shared and what is not. The wait comes first: C orders the arguments of a call as it likes.
    const char *ended;
    V(clone(set_value, TOP, CLONE_VM | SIGCHLD, (void *)11) > 0);
    ended = waited(-1);
    say("wait: %s value %d", ended, shared_value);
    V(clone(set_value, TOP, SIGCHLD, (void *)12) > 0);
    ended = waited(-1);
    say("wait: %s value %d", ended, shared_value);
    V(clone(set_value, TOP, CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)13) > 0);
    say("after vfork value %d", shared_value);
    say("wait: %s", waited(-1));
    V(clone(open_file, TOP, CLONE_FILES | SIGCHLD, 0) > 0);
    say("wait: %s", waited(-1));
    V(close(3));
    V(clone(open_file, TOP, SIGCHLD, 0) > 0);
    say("wait: %s", waited(-1));
    V(close(3));
    char cwd[100];
    MUST(chdir("/tmp"));
    clone(change_dir, TOP, SIGCHLD, 0);
    waited(-1);
    say("cwd %s", getcwd(cwd, sizeof cwd));
    clone(change_dir, TOP, CLONE_FS | SIGCHLD, 0);
    waited(-1);
    say("cwd %s", getcwd(cwd, sizeof cwd));
    struct sigaction old;
    clone(own_signal, TOP, CLONE_VM | SIGCHLD, 0);
    waited(-1);
    sigaction(SIGUSR1, NULL, &old);
    say("ignored %d", old.sa_handler == SIG_IGN);
    clone(own_signal, TOP, CLONE_VM | CLONE_SIGHAND | SIGCHLD, 0);
    waited(-1);
    sigaction(SIGUSR1, NULL, &old);
    say("ignored %d", old.sa_handler == SIG_IGN);
    pid_t me = getpid(), grand = getppid();
    clone(parent_id, TOP, SIGCHLD, &me);
    say("child of me: %s", waited(-1));
    CHILD("sibling", {
        me = getpid(), grand = getppid();
        pid_t p = clone(parent_id, TOP, CLONE_PARENT | SIGCHLD, &grand);
        int got = waitpid(p, NULL, 0);
        say("made %d wait %d %s", p > 0, got, strerrorname_np(errno));
    });
    say("sibling too: %s", waited(-1));

    // Exit signals other than SIGCHLD: only __WCLONE or __WALL sees the child.
    pid_t p = clone(nothing, TOP, SIGUSR1, 0);
    V(waitpid(p, &status, 0) == p);
    V(waitpid(p, &status, __WCLONE) == p);
    p = clone(nothing, TOP, 0, 0);
    V(waitpid(p, &status, __WALL) == p);
    p = clone(nothing, TOP, SIGCHLD, 0);
    V(waitpid(p, &status, __WCLONE) == p);
    V(waitpid(p, &status, 0) == p);

    // The ids that clone writes.
    p = raw(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, 0, &tid_word, &child_word);
    if (p == 0) _exit(child_word == getpid() && tid_word == getpid() ? 21 : 22);
    say("parent's word %d child's word %d %s", tid_word == p, child_word, waited(p));
    int pidfd = -1;
    p = raw(CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0);
    if (p == 0) _exit(23);
    siginfo_t info;
    V(fcntl(pidfd, F_GETFD));
    V(waitid(P_PIDFD, pidfd, &info, WEXITED));
    say("pid %d status %d code %d", info.si_pid == p, info.si_status, info.si_code);
    V(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
    p = raw(SIGCHLD | CLONE_PARENT_SETTID, 0, (void *)8, 0);
    if (p == 0) _exit(24);
    say("bad address for the parent's word: %d %s", p > 0, waited(p));
    p = raw(SIGCHLD | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, 0, 0, (void *)8);
    if (p == 0) _exit(25);
    say("bad address for the child's word: %d %s", p > 0, waited(p));
    V(syscall(SYS_set_tid_address, &tid_word) == getpid());
    V(unshare(CLONE_FILES | CLONE_FS));
    V(unshare(0x1));
    V(unshare(CLONE_THREAD));
    V(unshare(CLONE_VM));
    V(syscall(SYS_pidfd_open, 999999, 0));
    V(syscall(SYS_pidfd_open, getpid(), 1));
    V(syscall(SYS_pidfd_open, -1, 0));
    return 0;
}
