// One line for each checked behaviour, written at once so that forked children cannot repeat or tear it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static inline void say(const char *format, ...) {
    char text[1024];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(text, sizeof text - 1, format, list);
    va_end(list);
    text[length++] = '\n';
    if (write(1, text, length) != length) _exit(99);
}

// The value, or the name of the error.
#define V(e) do { errno = 0; long v_ = (long)(e); \
    if (v_ == -1 && errno) say("%s: -1 %s", #e, strerrorname_np(errno)); else say("%s: %ld", #e, v_); } while (0)
// For values that differ from run to run.
#define OK(e) do { errno = 0; long v_ = (long)(e); \
    if (v_ == -1 && errno) say("%s: -1 %s", #e, strerrorname_np(errno)); else say("%s: ok", #e); } while (0)
// A setup step that must work for the rest to mean anything.
#define MUST(e) do { if ((long)(e) == -1) { say("setup: %s: %s", #e, strerrorname_np(errno)); _exit(98); } } while (0)

// What waitpid says, in words.
static inline const char *words(int status) {
    static char text[64];
    if (WIFEXITED(status)) snprintf(text, sizeof text, "exited %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status)) snprintf(text, sizeof text, "killed by %d", WTERMSIG(status));
    else if (WIFSTOPPED(status)) snprintf(text, sizeof text, "stopped by %d", WSTOPSIG(status));
    else if (WIFCONTINUED(status)) snprintf(text, sizeof text, "continued");
    else snprintf(text, sizeof text, "status %x", status);
    return text;
}

static inline const char *waited(pid_t pid) {
    int status;
    pid_t got;
    do got = waitpid(pid, &status, 0); while (got == -1 && errno == EINTR);
    return got == -1 ? strerrorname_np(errno) : words(status);
}

// Runs a block in a child and says how it ended.
#define CHILD(name, ...) do { pid_t p_ = fork(); MUST(p_); if (!p_) { __VA_ARGS__; _exit(0); } \
    const char *w_ = waited(p_); say("%s: child %s", name, w_); } while (0)

static inline void handle(int signal, void *handler, int flags) {
    struct sigaction action = {.sa_flags = flags};
    action.sa_sigaction = handler;
    MUST(sigaction(signal, &action, NULL));
}

static inline sigset_t set_of(int a, int b) {
    sigset_t set;
    sigemptyset(&set);
    if (a) sigaddset(&set, a);
    if (b) sigaddset(&set, b);
    return set;
}

// The letter of a thread's state in its stat file.
static inline char state_of(pid_t pid, pid_t tid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return '-';
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return '-';
    text[n] = 0;
    char *end = strrchr(text, ')');
    return end ? end[2] : '-';
}

// Waits until a thread is in that state. There is no time limit: the harness has one.
static inline void until_state(pid_t pid, pid_t tid, char state) {
    while (state_of(pid, tid) != state) sched_yield();
}
