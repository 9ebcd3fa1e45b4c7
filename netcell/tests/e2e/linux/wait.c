// How processes end and how wait4 and waitid tell it.
#include "check.h"

static pid_t start(int code) { pid_t p = fork(); MUST(p); if (!p) _exit(code); return p; }
static pid_t sleeper(void) { pid_t p = fork(); MUST(p); if (!p) for (;;) pause(); return p; }
static void tell(const char *name, int r, siginfo_t *i, pid_t p) {
    if (r == -1) say("%s: %s", name, strerrorname_np(errno));
    else say("%s: signo %d code %d status %d pid %d uid %d errno %d", name, i->si_signo, i->si_code, i->si_status, i->si_pid == p ? 1 : i->si_pid, i->si_uid, i->si_errno);
}
#define ID(type, id, flags) do { siginfo_t i_; memset(&i_, 0x55, sizeof i_); int r_ = waitid(type, id, &i_, flags); tell(#type " " #flags, r_, &i_, p); } while (0)
static int chld, chld_code, chld_status, chld_signal;
static void on_child(int s, siginfo_t *i, void *c) { (void)c; chld++; chld_code = i->si_code, chld_status = i->si_status, chld_signal = s; }

int main(void) {
    int status;
    struct rusage usage;
    pid_t p;
    V(wait(&status));
    V(waitpid(-1, &status, WNOHANG));
    V(waitpid(getpid(), &status, 0));
    V(waitpid(1 << 30, &status, 0));
    V(waitpid(INT_MIN, &status, 0));
    V(waitpid(-1, &status, 0x100));
    V(waitpid(-1, &status, WEXITED));
    V(waitid(P_ALL, 0, NULL, 0));
    V(waitid(P_ALL, 0, NULL, WEXITED));
    V(waitid(77, 0, NULL, WEXITED));
    V(waitid(P_PID, 0, NULL, WEXITED));
    V(waitid(P_PID, -1, NULL, WEXITED));
    V(waitid(P_PGID, -1, NULL, WEXITED));
    V(waitid(P_PIDFD, -1, NULL, WEXITED));
    V(waitid(P_PIDFD, 0, NULL, WEXITED));
    V(waitid(P_ALL, 0, NULL, WEXITED | 0x100));
    for (int code = 0; code <= 300; code += 100) { p = start(code); say("exit %d: %s", code, waited(p)); }
    p = start(-1);
    say("exit -1: %s", waited(p));
    for (int s = 1; s < 65; s++) {
        if (s == SIGSTOP || s == SIGTSTP || s == SIGTTIN || s == SIGTTOU || s == SIGCHLD || s == SIGURG || s == SIGWINCH || s == SIGCONT || s == 32 || s == 33) continue;
        p = sleeper();
        kill(p, s);
        waitpid(p, &status, 0);
        say("signal %d: %s", s, words(status));
    }
    p = sleeper();
    V(waitpid(p, &status, WNOHANG));
    siginfo_t info;
    memset(&info, 0x55, sizeof info);
    V(waitid(P_PID, p, &info, WEXITED | WNOHANG));
    say("nothing yet: pid %d signo %d", info.si_pid, info.si_signo);
    ID(P_PID, p, WCONTINUED | WNOHANG);
    kill(p, SIGSTOP);
    V(waitid(P_PID, p, &info, WSTOPPED | WNOWAIT));
    ID(P_PID, p, WSTOPPED | WNOWAIT);
    V(waitpid(p, &status, WNOHANG));
    ID(P_PID, p, WSTOPPED);
    ID(P_PID, p, WSTOPPED | WNOHANG);
    kill(p, SIGCONT);
    ID(P_PID, p, WCONTINUED | WNOWAIT);
    V(waitpid(p, &status, WCONTINUED) == p);
    say("%s %x", words(status), status);
    ID(P_PID, p, WCONTINUED | WNOHANG);
    kill(p, SIGSTOP);
    V(waitpid(p, &status, WUNTRACED) == p);
    say("%s %x", words(status), status);
    kill(p, SIGTERM);
    V(waitpid(p, &status, WNOHANG));
    kill(p, SIGCONT);
    V(wait4(p, &status, 0, &usage) == p);
    say("%s, usage plausible %d", words(status), usage.ru_utime.tv_sec < 100);
    p = sleeper();
    kill(p, SIGSTOP);
    V(waitpid(p, &status, WUNTRACED) == p);
    kill(p, SIGKILL);
    ID(P_PID, p, WEXITED | WNOWAIT);
    ID(P_PID, p, WEXITED | WSTOPPED | WCONTINUED);
    ID(P_PID, p, WEXITED);
    p = start(9);
    ID(P_PID, p, WEXITED | WNOWAIT);
    ID(P_ALL, 0, WEXITED | WNOWAIT);
    V(kill(p, 0));
    V(kill(p, SIGKILL));
    say("zombie's state %c", state_of(p, p));
    ID(P_ALL, 0, WEXITED);
    V(kill(p, 0));
    ID(P_ALL, 0, WEXITED);
    // Process groups.
    p = fork();
    if (!p) { setpgid(0, 0); _exit(10); }
    setpgid(p, p);
    pid_t other = start(11);
    ID(P_PGID, p, WEXITED);
    V(waitpid(-p, &status, 0));
    V(waitpid(0, &status, 0) == other);
    say("%s", words(status));
    p = start(12);
    ID(P_PGID, 0, WEXITED);
    p = start(13);
    V(waitpid(-getpgrp(), &status, 0) == p);
    p = start(14);
    V(waitpid(p, NULL, 0) == p);
    p = start(14);
    V(waitpid(p, (void *)8, 0));
    V(waitpid(p, &status, 0));
    V(syscall(SYS_waitid, P_ALL, 0, NULL, WEXITED, NULL));
    // Not ru_maxrss: Linux counts it roughly, and says 0 for a child that was short.
    p = start(15);
    memset(&usage, 0x55, sizeof usage);
    V(syscall(SYS_waitid, P_PID, p, NULL, WEXITED, &usage));
    say("usage plausible %d", usage.ru_utime.tv_sec < 100);
    // The order: any child that has ended, wherever it is in the list.
    pid_t a = sleeper(), b = start(16);
    V(waitpid(-1, &status, 0) == b);
    kill(a, SIGKILL);
    V(waitpid(-1, &status, 0) == a);
    // pidfds: readable when the process has ended, also while it is a zombie.
    p = sleeper();
    int fd = syscall(SYS_pidfd_open, p, 0);
    struct pollfd poll_fd = {fd, POLLIN, 0};
    V(poll(&poll_fd, 1, 0));
    V(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0));
    V(poll(&poll_fd, 1, -1));
    say("revents %d", poll_fd.revents);
    ID(P_PIDFD, fd, WEXITED);
    V(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    ID(P_PIDFD, fd, WEXITED);
    fd = syscall(SYS_pidfd_open, getpid(), 0);
    ID(P_PIDFD, fd, WEXITED);
    p = sleeper();
    int nonblock = syscall(SYS_pidfd_open, p, O_NONBLOCK);
    ID(P_PIDFD, nonblock, WEXITED);
    kill(p, SIGKILL);
    ID(P_PID, p, WEXITED);
    // SIGCHLD: its siginfo, and children that nobody waits for.
    handle(SIGCHLD, on_child, SA_SIGINFO);
    sigset_t set = set_of(SIGCHLD, 0), empty = set_of(0, 0);
    sigprocmask(SIG_BLOCK, &set, NULL);
    p = start(21);
    while (!chld) sigsuspend(&empty);
    say("SIGCHLD %d code %d status %d: %s", chld_signal, chld_code, chld_status, waited(p));
    chld = 0, p = sleeper();
    kill(p, SIGSTOP);
    while (!chld) sigsuspend(&empty);
    say("SIGCHLD code %d status %d", chld_code, chld_status);
    chld = 0;
    kill(p, SIGCONT);
    while (!chld) sigsuspend(&empty);
    say("SIGCHLD code %d status %d", chld_code, chld_status);
    chld = 0;
    kill(p, SIGKILL);
    while (!chld) sigsuspend(&empty);
    say("SIGCHLD code %d status %d: %s", chld_code, chld_status, waited(p));
    handle(SIGCHLD, on_child, SA_SIGINFO | SA_NOCLDSTOP);
    chld = 0, p = sleeper();
    kill(p, SIGSTOP);
    V(waitpid(p, &status, WUNTRACED) == p);
    kill(p, SIGKILL);
    while (!chld) sigsuspend(&empty);
    say("SA_NOCLDSTOP: %d code %d: %s", chld, chld_code, waited(p));
    handle(SIGCHLD, on_child, SA_SIGINFO | SA_NOCLDWAIT);
    chld = 0, p = start(22);
    while (!chld) sigsuspend(&empty);
    say("SA_NOCLDWAIT: %s", waited(p));
    handle(SIGCHLD, SIG_IGN, 0);
    p = start(23);
    say("SIG_IGN: %s", waited(p));
    p = start(23), other = sleeper();
    kill(other, SIGKILL);
    V(wait(&status));
    handle(SIGCHLD, SIG_DFL, 0);
    p = start(24);
    say("SIG_DFL: %s", waited(p));
    return 0;
}
