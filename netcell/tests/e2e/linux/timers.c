// Interval timers, POSIX timers, timerfd, sleeps and clocks. Only orders and counts are looked at, never how long something took.
#include "check.h"
#include <sys/timerfd.h>
#include <sys/times.h>

static volatile int hits, code, value, overrun, tid;
static void on_timer(int s, siginfo_t *i, void *c) { (void)s; (void)c; hits++; code = i->si_code, value = i->si_value.sival_int, overrun = i->si_overrun, tid = gettid(); }
static void *callback_arg;
static volatile int called;
static void callback(union sigval v) { callback_arg = v.sival_ptr; called = 1; }
static int later(struct timespec a, struct timespec b) { return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec >= b.tv_nsec); }
static void burn(void) { for (volatile int i = 0; i < 100000; i++); }

int main(void) {
    struct itimerval set = {{0, 0}, {1000, 0}}, got;
    struct timespec now, then;
    handle(SIGALRM, on_timer, SA_SIGINFO), handle(SIGVTALRM, on_timer, SA_SIGINFO), handle(SIGPROF, on_timer, SA_SIGINFO), handle(SIGRTMIN, on_timer, SA_SIGINFO);
    V(setitimer(3, &set, NULL));
    V(getitimer(3, &got));
    V(setitimer(ITIMER_REAL, (void *)8, NULL));
    V(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 1000000}}, NULL));
    V(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {-1, 0}}, NULL));
    V(setitimer(ITIMER_REAL, &set, NULL));
    V(getitimer(ITIMER_REAL, &got));
    say("remaining %d interval %ld", got.it_value.tv_sec > 900 && got.it_value.tv_sec <= 1000, got.it_interval.tv_sec);
    V(alarm(500) > 900);
    V(alarm(0) > 400);
    V(alarm(0));
    CHILD("not inherited", { alarm(1000); CHILD("grandchild", { V(alarm(0)); }); });
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 2000}, {0, 2000}}, NULL);
    while (hits < 3) pause();
    say("real: code %d", code);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    hits = 0;
    setitimer(ITIMER_VIRTUAL, &(struct itimerval){{0, 0}, {0, 20000}}, NULL);
    while (!hits) burn();
    say("virtual: hits %d code %d", hits, code);
    hits = 0;
    setitimer(ITIMER_PROF, &(struct itimerval){{0, 10000}, {0, 20000}}, NULL);
    while (hits < 2) burn();
    say("prof: code %d", code);
    setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL);
    // POSIX timers.
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 42};
    V(timer_create(77, &event, &timer));
    event.sigev_signo = 65;
    V(timer_create(CLOCK_MONOTONIC, &event, &timer));
    event.sigev_signo = 0;
    V(timer_create(CLOCK_MONOTONIC, &event, &timer));
    event.sigev_signo = SIGRTMIN, event.sigev_notify = 99;
    V(timer_create(CLOCK_MONOTONIC, &event, &timer));
    event.sigev_notify = SIGEV_SIGNAL;
    V(timer_create(CLOCK_MONOTONIC, &event, &timer));
    V(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, (void *)8));
    struct itimerspec spec = {{0, 0}, {1000, 0}}, old;
    V(timer_settime(timer, 0, &spec, NULL));
    V(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1000000000}}, NULL));
    V(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {-1, 0}}, NULL));
    V(syscall(SYS_timer_settime, 9999, 0, &spec, NULL));
    V(syscall(SYS_timer_gettime, 9999, &spec));
    V(syscall(SYS_timer_delete, 9999));
    V(syscall(SYS_timer_getoverrun, 9999));
    V(timer_gettime(timer, &old));
    say("remaining %d", old.it_value.tv_sec > 900 && old.it_value.tv_sec <= 1000);
    V(timer_settime(timer, 0, &(struct itimerspec){0}, &old));
    say("old %d", old.it_value.tv_sec > 900 && old.it_value.tv_sec <= 1000);
    hits = 0;
    V(timer_settime(timer, TIMER_ABSTIME, &(struct itimerspec){{0, 0}, {1, 0}}, NULL));
    while (!hits) pause();
    say("a past time fires at once: code %d value %d overrun %d", code, value, overrun);
    sigset_t rt = set_of(SIGRTMIN, 0), pending;
    siginfo_t info;
    sigprocmask(SIG_BLOCK, &rt, NULL);
    hits = 0;
    V(timer_settime(timer, 0, &(struct itimerspec){{0, 1000000}, {0, 1000000}}, NULL));
    clock_gettime(CLOCK_MONOTONIC, &now);
    do { clock_gettime(CLOCK_MONOTONIC, &then); } while ((then.tv_sec - now.tv_sec) * 1000000000 + then.tv_nsec - now.tv_nsec < 30000000);
    V(sigwaitinfo(&rt, &info) == SIGRTMIN);
    say("overrun %d code %d value %d as told %d", info.si_overrun >= 20, info.si_code, info.si_value.sival_int, timer_getoverrun(timer) == info.si_overrun);
    V(timer_delete(timer));
    while (sigtimedwait(&rt, &info, &(struct timespec){0, 0}) > 0);
    V(timer_gettime(timer, &old));
    sigpending(&pending);
    say("pending %d", sigismember(&pending, SIGRTMIN));
    sigprocmask(SIG_UNBLOCK, &rt, NULL);
    event.sigev_notify = SIGEV_NONE;
    V(timer_create(CLOCK_REALTIME, &event, &timer));
    V(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1}}, NULL));
    do timer_gettime(timer, &old); while (old.it_value.tv_sec || old.it_value.tv_nsec);
    say("SIGEV_NONE runs out");
    V(timer_delete(timer));
    event = (struct sigevent){.sigev_notify = SIGEV_THREAD, .sigev_notify_function = callback, .sigev_value.sival_ptr = &timer};
    V(timer_create(CLOCK_MONOTONIC, &event, &timer));
    V(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1}}, NULL));
    while (!called) sched_yield();
    say("SIGEV_THREAD %d", callback_arg == &timer);
    V(timer_delete(timer));
    event = (struct sigevent){.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
    ((int *)&event.sigev_value)[4] = gettid();
    event._sigev_un._tid = 1 << 29;
    V(timer_create(CLOCK_MONOTONIC, &event, &timer));
    event._sigev_un._tid = gettid();
    V(timer_create(CLOCK_MONOTONIC, &event, &timer));
    hits = 0;
    V(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1}}, NULL));
    while (!hits) pause();
    say("SIGEV_THREAD_ID %d", tid == gettid());
    CHILD("timers are not inherited", { V(timer_settime(timer, 0, &spec, NULL)); });
    V(timer_delete(timer));
    V(timer_create(CLOCK_PROCESS_CPUTIME_ID, NULL, &timer));
    V(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 10000000}}, NULL));
    hits = 0;
    while (!hits) burn();
    say("CPU time: code %d", code);
    V(timer_delete(timer));
    // timerfd.
    uint64_t count = 0;
    V(timerfd_create(77, 0));
    V(timerfd_create(CLOCK_MONOTONIC, 1));
    V(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    V(fcntl(fd, F_GETFD)); V(fcntl(fd, F_GETFL));
    V(read(fd, &count, 8));
    V(timerfd_settime(fd, 0, &spec, NULL));
    V(timerfd_gettime(fd, &old));
    say("remaining %d", old.it_value.tv_sec > 900);
    V(timerfd_settime(fd, 0x10, &spec, NULL));
    V(timerfd_settime(0, 0, &spec, NULL));
    V(timerfd_settime(99, 0, &spec, NULL));
    V(timerfd_settime(fd, 0, &(struct itimerspec){{0, 0}, {0, 1000000000}}, NULL));
    V(timerfd_settime(fd, 0, (void *)8, NULL));
    V(read(fd, &count, 7));
    V(write(fd, &count, 8));
    V(timerfd_settime(fd, TFD_TIMER_ABSTIME, &(struct itimerspec){{0, 0}, {0, 1}}, NULL));
    V(poll(&(struct pollfd){fd, POLLIN, 0}, 1, -1));
    V(read(fd, &count, 8));
    say("count %lu", count);
    V(read(fd, &count, 8));
    V(timerfd_settime(fd, 0, &(struct itimerspec){{0, 1}, {0, 1}}, NULL));
    V(poll(&(struct pollfd){fd, POLLIN, 0}, 1, -1));
    V(read(fd, &count, 8));
    say("count plausible %d", count >= 1);
    // Sleeps.
    V(nanosleep(&(struct timespec){0, 1000000000}, NULL));
    V(nanosleep(&(struct timespec){-1, 0}, NULL));
    V(nanosleep((void *)8, NULL));
    V(nanosleep(&(struct timespec){0, 0}, NULL));
    V(clock_nanosleep(77, 0, &now, NULL));
    V(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &now, NULL));
    V(clock_nanosleep(CLOCK_MONOTONIC_RAW, 0, &now, NULL));
    V(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){0, 5}, NULL));
    V(clock_nanosleep(CLOCK_REALTIME, 0, &(struct timespec){0, -5}, NULL));
    clock_gettime(CLOCK_MONOTONIC, &now);
    now.tv_nsec += 3000000;
    if (now.tv_nsec >= 1000000000) now.tv_sec++, now.tv_nsec -= 1000000000;
    V(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &now, NULL));
    clock_gettime(CLOCK_MONOTONIC, &then);
    say("not too early %d", later(then, now));
    // Clocks. 8 and 9 wake the machine: they are there where it has a clock that can.
    for (int c = 0; c < 12; c++) if (c != 8 && c != 9) { errno = 0; int r = clock_gettime(c, &now); say("clock %d: %d %s plausible %d", c, r, r ? strerrorname_np(errno) : "", r || (now.tv_nsec >= 0 && now.tv_nsec < 1000000000)); }
    for (int c = 0; c < 12; c++) if (c != 8 && c != 9) { struct timespec unit = {0}; errno = 0; int r = clock_getres(c, &unit); say("resolution %d: %d %s %ld", c, r, r ? strerrorname_np(errno) : "", c == 5 || c == 6 ? 0 : unit.tv_nsec); }
    V(clock_gettime(77, &now)); V(clock_gettime(-1, &now)); V(clock_getres(77, NULL));
    V(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (void *)8));
    V(clock_settime(CLOCK_MONOTONIC, &now));
    V(clock_settime(77, &now));
    CHILD("setting the clock as nobody", { setuid(1234); V(clock_settime(CLOCK_REALTIME, &now)); V(settimeofday(&(struct timeval){0, 0}, NULL)); });
    clockid_t other;
    V(clock_getcpuclockid(getpid(), &other));
    V(clock_gettime(other, &now));
    V(clock_getcpuclockid(999999, &other));
    V(pthread_getcpuclockid(pthread_self(), &other));
    V(clock_gettime(other, &now));
    struct timeval tv;
    V(gettimeofday(&tv, NULL));
    clock_gettime(CLOCK_REALTIME, &now);
    V(llabs(now.tv_sec - tv.tv_sec) <= 5);
    V(llabs(time(NULL) - now.tv_sec) <= 5);
    struct tms t;
    V(times(&t) > 0);
    V(t.tms_cutime >= 0 && t.tms_utime >= 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    for (int i = 0; i < 50; i++) burn();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &then);
    say("CPU time grows %d", later(then, now) && (then.tv_nsec != now.tv_nsec));
    return 0;
}
