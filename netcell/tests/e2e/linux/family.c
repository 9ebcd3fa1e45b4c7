// Parents, orphans, subreapers, death signals; sessions, process groups and job control.
#include "check.h"

static int fds[2];
static void on_signal(int s) { (void)s; }
static char byte(void) { char b = '-'; read(fds[0], &b, 1); return b; }
static void ready(void) { MUST(write(fds[1], "r", 1)); }
static void on_hup(int s) { char b = s == SIGHUP ? 'H' : 'C'; write(fds[1], &b, 1); }

int main(void) {
    int status;
    siginfo_t info;
    MUST(pipe(fds));
    // An orphan goes to the nearest subreaper.
    V(prctl(PR_SET_CHILD_SUBREAPER, 1));
    int flag = 5;
    V(prctl(PR_GET_CHILD_SUBREAPER, &flag));
    say("subreaper %d", flag);
    pid_t me = getpid();
    pid_t p = fork();
    if (!p) {
        prctl(PR_GET_CHILD_SUBREAPER, &flag);
        say("not inherited %d", flag);
        pid_t parent = getpid();
        if (!fork()) { while (getppid() == parent) sched_yield(); _exit(getppid() == me ? 61 : 62); }
        _exit(60);
    }
    say("middle %s", waited(p));
    say("orphan %s", waited(-1));
    p = fork();
    if (!p) { if (!fork()) _exit(63); siginfo_t i; waitid(P_ALL, 0, &i, WEXITED | WNOWAIT); _exit(64); }
    say("middle %s", waited(p));
    say("a zombie is inherited too: %s", waited(-1));
    // Death of the parent, as a signal.
    int death = 3;
    V(prctl(PR_SET_PDEATHSIG, 65));
    V(prctl(PR_SET_PDEATHSIG, -1));
    V(prctl(PR_GET_PDEATHSIG, &death));
    say("death signal %d", death);
    p = fork();
    if (!p) {
        if (!fork()) { prctl(PR_SET_PDEATHSIG, SIGUSR1); ready(); for (;;) pause(); }
        byte();
        _exit(65);
    }
    say("parent %s", waited(p));
    say("child %s", waited(-1));
    p = fork();
    if (!p) { prctl(PR_SET_PDEATHSIG, SIGUSR1); if (!fork()) { prctl(PR_GET_PDEATHSIG, &death); _exit(death); } wait(&status); prctl(PR_GET_PDEATHSIG, &death); _exit(WEXITSTATUS(status) * 16 + death); }
    say("fork clears it: %s", waited(p));

    // Sessions and process groups.
    CHILD("sessions", {
        V(setsid() == getpid());
        V(setsid());
        V(getsid(0) == getpid());
        V(getpgid(0) == getpid());
        V(setpgid(0, 0));
        V(getpgid(999999));
        V(getsid(999999));
        V(getpgid(-1));
        V(setpgid(-1, 0));
        V(setpgid(0, -1));
        V(setpgid(999999, 0));
        V(tcgetpgrp(fds[0]));
        V(tcsetpgrp(fds[0], getpid()));
        V(tcgetsid(fds[0]));
        V(open("/dev/tty", O_RDWR));
        V(getppid() == me);
    });
    CHILD("groups", {
        setsid();
        pid_t a = fork();
        if (!a) for (;;) pause();
        pid_t b = fork();
        if (!b) for (;;) pause();
        V(getpgid(a) == getpid());
        V(setpgid(a, a));
        V(getpgid(a) == a);
        V(setpgid(b, a));
        V(getpgid(b) == a);
        V(setpgid(b, 999999));
        V(setpgid(b, 0));
        V(getpgid(b) == b);
        V(setpgid(a, getpgrp()));
        V(setpgid(getppid(), 0));
        pid_t c = fork();
        if (!c) { setsid(); ready(); for (;;) pause(); }
        byte();
        V(setpgid(c, getpgrp()));
        V(setpgid(b, c));
        V(getsid(c) == c);
        V(kill(-b, 0));
        V(kill(-a, 0));
        V(kill(-b, SIGTERM));
        say("b %s", waited(b));
        V(kill(-b, 0));
        V(killpg(999999, 0));
        V(killpg(-1, 0));
        V(kill(0, 0));
        kill(a, SIGKILL), kill(c, SIGKILL);
        say("a %s", waited(a));
        say("c %s", waited(c));
        signal(SIGUSR1, SIG_IGN);
        V(kill(0, SIGUSR1));
        V(raise(0));
        V(kill(getpid(), 65));
        V(kill(getpid(), -1));
        V(kill(999999, 0));
        V(kill(INT_MIN, 0));
    });
    CHILD("a group's members share a signal", {
        setpgid(0, 0);
        int i;
        for (i = 0; i < 5; i++) if (!fork()) { ready(); for (;;) pause(); }
        for (i = 0; i < 5; i++) byte();
        signal(SIGTERM, SIG_IGN);
        V(kill(0, SIGTERM));
        for (i = 0; i < 5; i++) say("%s", waited(0));
    });
    // Stopping: each stop signal, and what SIGCONT does to a pending stop and the other way round.
    int stops[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    // In a session of their own: an orphaned group (init's is one) would not stop by three of them.
    CHILD("stops", {
    setsid();
    for (int i = 0; i < 4; i++) {
        p = fork();
        if (!p) { setpgid(0, 0); signal(stops[i], SIG_DFL); for (;;) pause(); }
        setpgid(p, p);
        kill(p, stops[i]);
        waitpid(p, &status, WUNTRACED);
        say("%s, state %c", words(status), state_of(p, p));
        kill(p, SIGCONT);
        waitpid(p, &status, WCONTINUED);
        say("%s", words(status));
        kill(p, SIGKILL);
        say("%s", waited(p));
    }
    });
    CHILD("a pending stop goes with SIGCONT", {
        sigset_t set = set_of(SIGTSTP, SIGCONT), pending;
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGTSTP);
        sigpending(&pending);
        say("tstp %d cont %d", sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
        raise(SIGCONT);
        sigpending(&pending);
        say("tstp %d cont %d", sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
        raise(SIGTSTP);
        sigpending(&pending);
        say("tstp %d cont %d", sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
    });
    p = fork();
    if (!p) { signal(SIGCONT, on_hup); raise(SIGSTOP); _exit(byte() == 'C' ? 66 : 67); }
    waitpid(p, &status, WUNTRACED);
    kill(p, SIGUSR2);
    say("a stopped process gets nothing: %d", waitpid(p, &status, WNOHANG));
    kill(p, SIGCONT);
    say("then all of it: %s", waited(p));
    while (poll(&(struct pollfd){fds[0], POLLIN, 0}, 1, 0) == 1) byte();
    // All threads stop.
    p = fork();
    if (!p) {
        pthread_t t;
        pthread_create(&t, NULL, (void *(*)(void *))(void *)pause, NULL);
        ready();
        for (;;) pause();
    }
    byte();
    kill(p, SIGSTOP);
    waitid(P_PID, p, &info, WSTOPPED);
    say("stopped: status %d", info.si_status);
    kill(p, SIGKILL);
    say("%s", waited(p));
    // An orphaned group: a stop by the terminal's signals is not for it; a stopped one gets SIGHUP and SIGCONT.
    pid_t *member = mmap(NULL, sizeof *member, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (member == MAP_FAILED) _exit(98);
    p = fork();
    if (!p) {
        setsid();
        if (!fork()) { *member = getpid(); setpgid(0, 0); signal(SIGHUP, on_hup); signal(SIGCONT, on_hup); ready(); raise(SIGSTOP); for (;;) pause(); }
        byte();
        waitid(P_ALL, 0, &info, WSTOPPED);
        _exit(68);
    }
    say("leader %s", waited(p));
    char first = byte(), second = byte();
    say("orphaned group: %c %c", first < second ? first : second, first < second ? second : first);
    // It is this process's child now, and would outlive it.
    V(waitpid(-1, &status, WNOHANG));
    V(kill(*member, SIGKILL));
    say("its member %s", waited(*member));
    V(waitpid(-1, &status, WNOHANG));
    p = fork();
    if (!p) { setsid(); raise(SIGTSTP); raise(SIGTTIN); raise(SIGTTOU); _exit(69); }
    say("an orphaned group is not stopped: %s", waited(p));
    signal(SIGHUP, on_signal);
    return 0;
}
