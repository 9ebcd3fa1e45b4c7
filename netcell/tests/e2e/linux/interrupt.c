// Which waits a handled signal ends, and which it restarts. A timer that repeats sends the signal, so that no wait can miss it.
#include "check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/select.h>
#include <netinet/in.h>
#include <sys/file.h>

static volatile int ticks, after = 1 << 30;
static int fds[2], event, listener, address_port;
static uint32_t word;
static void (*volatile finish)(void);
static void tick(int s) { (void)s; if (++ticks >= after) { after = 1 << 30; finish(); } }
static void fill_pipe(void) { write(fds[1], "x", 1); }
static void fill_event(void) { uint64_t one = 1; write(event, &one, 8); }
static void wake_word(void) { word = 1; syscall(SYS_futex, &word, FUTEX_WAKE, 1, 0, 0, 0); }
static void connect_now(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = address_port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    connect(fd, (void *)&a, sizeof a);
}
static void connect_unix(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr a = {.sa_family = AF_UNIX, .sa_data = "\0intr"};
    connect(fd, &a, 7);
}
static char big[1 << 20];
static void drain_pipe(void) { read(fds[0], big, sizeof big); }
static pid_t child;
static void end_child(void) { kill(child, SIGKILL); }
static int lock_fd;
static void nothing(void) {}
static void timer(int flags) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = flags};
    sigaction(SIGALRM, &action, NULL);
    // Long beside what a busy machine lets a program wait for its turn: the third tick must not come before the wait.
    struct itimerval every = {{0, 20000}, {0, 20000}};
    setitimer(ITIMER_REAL, &every, NULL);
}
static void quiet(void) { setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL); after = 1 << 30; ticks = 0; }
// Without SA_RESTART; then with it, where the third tick makes the wait succeed.
#define BOTH(how, e) do { \
    timer(0); errno = 0; long r_ = (long)(e); int n_ = errno, t_ = ticks; quiet(); \
    say("%s: plain %ld %s ticks %d", #e, r_ > 0 ? 1 : r_, r_ == -1 ? strerrorname_np(n_) : "", t_ > 0); \
    finish = how; after = 3; timer(SA_RESTART); errno = 0; r_ = (long)(e); n_ = errno, t_ = ticks; quiet(); \
    say("%s: restart %ld %s three ticks %d", #e, r_ > 0 ? 1 : r_, r_ == -1 ? strerrorname_np(n_) : "", t_ >= 3); } while (0)

int main(void) {
    char b[8];
    struct timespec long_ = {1000, 0}, left = {0, 0};
    struct timeval long_tv = {1000, 0};
    sigset_t none = set_of(0, 0);
    uint64_t eight;
    MUST(pipe(fds));
    event = eventfd(0, 0);
    BOTH(fill_pipe, read(fds[0], b, 1));
    BOTH(fill_event, read(event, &eight, 8));
    BOTH(nothing, poll(&(struct pollfd){fds[0], POLLIN, 0}, 1, 1000000));
    BOTH(nothing, ppoll(&(struct pollfd){fds[0], POLLIN, 0}, 1, &long_, NULL));
    fd_set set;
    FD_ZERO(&set); FD_SET(fds[0], &set);
    BOTH(nothing, select(fds[0] + 1, &set, NULL, NULL, &long_tv));
    say("the rest of the time is told: %d", long_tv.tv_sec < 1000 && long_tv.tv_sec > 0);
    FD_ZERO(&set); FD_SET(fds[0], &set);
    BOTH(nothing, pselect(fds[0] + 1, &set, NULL, NULL, &long_, &none));
    struct epoll_event ready, want = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fds[0], &want);
    BOTH(nothing, epoll_wait(epoll, &ready, 1, 1000000));
    BOTH(nothing, epoll_wait(epoll, &ready, 1, -1));
    BOTH(nothing, pause());
    BOTH(nothing, sigsuspend(&none));
    BOTH(nothing, nanosleep(&long_, &left));
    say("left %d", left.tv_sec > 0 && left.tv_sec <= 1000);
    BOTH(nothing, clock_nanosleep(CLOCK_MONOTONIC, 0, &long_, &left) == EINTR);
    struct timespec later;
    clock_gettime(CLOCK_REALTIME, &later);
    later.tv_sec += 1000;
    left.tv_sec = 77;
    BOTH(nothing, clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &later, &left) == EINTR);
    say("an absolute sleep tells no rest: %ld", (long)left.tv_sec);
    sigset_t usr2 = set_of(SIGUSR2, 0);
    BOTH(nothing, sigtimedwait(&usr2, NULL, &long_));
    BOTH(nothing, sigwaitinfo(&usr2, NULL));
    word = 0;
    BOTH(wake_word, syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, 0, 0));
    word = 0;
    BOTH(wake_word, syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &long_, 0, 0));
    word = 0;
    BOTH(wake_word, syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &later, 0, -1));
    child = fork();
    if (!child) for (;;) pause();
    int status;
    BOTH(end_child, waitpid(child, &status, 0));
    child = fork();
    if (!child) for (;;) pause();
    BOTH(end_child, waitid(P_PID, child, NULL, WEXITED));
    listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    MUST(bind(listener, (void *)&address, sizeof address));
    MUST(listen(listener, 5));
    getsockname(listener, (void *)&address, &length);
    address_port = address.sin_port;
    BOTH(connect_now, accept(listener, NULL, NULL));
    int local = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr name = {.sa_family = AF_UNIX, .sa_data = "\0intr"};
    MUST(bind(local, &name, 7));
    MUST(listen(local, 5));
    BOTH(connect_unix, accept(local, NULL, NULL));
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int keep[2] = {fds[0], fds[1]};
    fds[0] = pair[0], fds[1] = pair[1];
    BOTH(fill_pipe, recv(pair[0], b, 1, 0));
    // With a time-out on the socket nothing is restarted.
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){1000, 0}, sizeof(struct timeval));
    BOTH(nothing, recv(pair[0], b, 1, 0));
    fds[0] = keep[0], fds[1] = keep[1];
    // A full pipe: what was written before the signal counts.
    int size = fcntl(fds[1], F_GETPIPE_SZ);
    timer(0);
    long wrote = write(fds[1], big, sizeof big);
    quiet();
    say("a long write tells what it wrote: %d", wrote == size);
    BOTH(drain_pipe, write(fds[1], big, 1));
    drain_pipe();
    char path[] = "/tmp/lock-XXXXXX";
    lock_fd = mkstemp(path);
    int ready_pipe[2];
    pipe(ready_pipe);
    child = fork();
    if (!child) { int other = open(path, O_RDWR); flock(other, LOCK_EX); struct flock l = {.l_type = F_WRLCK}; fcntl(other, F_SETLK, &l); write(ready_pipe[1], "r", 1); for (;;) pause(); }
    read(ready_pipe[0], b, 1);
    BOTH(nothing, 1 ? ({ struct flock l = {.l_type = F_RDLCK}; after == 3 ? (end_child(), fcntl(lock_fd, F_SETLKW, &l)) : fcntl(lock_fd, F_SETLKW, &l); }) : 0);
    waitpid(child, &status, 0);
    child = fork();
    if (!child) { int other = open(path, O_RDWR); flock(other, LOCK_EX); write(ready_pipe[1], "r", 1); for (;;) pause(); }
    read(ready_pipe[0], b, 1);
    BOTH(end_child, flock(lock_fd, LOCK_EX));
    waitpid(child, &status, 0);
    char fifo[] = "/tmp/fifo-XXXXXX";
    mktemp(fifo);
    mkfifo(fifo, 0600);
    timer(0);
    V(open(fifo, O_RDONLY));
    quiet();
    unlink(path), unlink(fifo);
    // A stop and a continue without a handler interrupt nothing that can go on.
    child = fork();
    if (!child) {
        int r = read(fds[0], b, 1);
        _exit(r == 1 ? 31 : 32);
    }
    until_state(child, child, 'S');
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    kill(child, SIGCONT);
    waitpid(child, &status, WCONTINUED);
    fill_pipe();
    say("read through a stop: %s", waited(child));
    child = fork();
    if (!child) {
        int r = poll(&(struct pollfd){fds[0], POLLIN, 0}, 1, 1000000);
        _exit(r == 1 ? 33 : 34);
    }
    until_state(child, child, 'S');
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    kill(child, SIGCONT);
    waitpid(child, &status, WCONTINUED);
    fill_pipe();
    say("poll through a stop: %s", waited(child));
    read(fds[0], b, 1);
    child = fork();
    if (!child) {
        int r = epoll_wait(epoll, &ready, 1, 1000000);
        _exit(r == 1 ? 35 : errno == EINTR ? 36 : 37);
    }
    until_state(child, child, 'S');
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    kill(child, SIGCONT);
    say("epoll_wait through a stop: %s", waited(child));
    child = fork();
    if (!child) {
        int r = syscall(SYS_futex, &word, FUTEX_WAIT, word, &(struct timespec){0, 50000000}, 0, 0);
        _exit(errno == ETIMEDOUT && r == -1 ? 38 : errno == EINTR ? 39 : 40);
    }
    until_state(child, child, 'S');
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    kill(child, SIGCONT);
    say("futex through a stop: %s", waited(child));
    // An ignored signal is no signal.
    signal(SIGUSR1, SIG_IGN);
    child = fork();
    if (!child) { int r = nanosleep(&(struct timespec){0, 200000000}, NULL); _exit(r == 0 ? 41 : 42); }
    until_state(child, child, 'S');
    for (int i = 0; i < 10; i++) kill(child, SIGUSR1), kill(child, SIGWINCH);
    say("ignored signals: %s", waited(child));
    child = fork();
    if (!child) { struct sigaction action = {.sa_handler = tick}; sigaction(SIGUSR2, &action, NULL); vfork() == 0 ? execl("/bin/sh", "sh", "-c", "kill -USR2 $PPID; exit 5", NULL) : 0; while (!ticks) sched_yield(); _exit(43); }
    say("a signal through vfork: %s", waited(child));
    return 0;
}
