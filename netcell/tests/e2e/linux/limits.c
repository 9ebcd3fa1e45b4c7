// prctl, resource limits, scheduling calls, usage and the system's description: errors, round trips, plausible values.
#include "check.h"
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>

static volatile int hits;
static void hit(int s) { (void)s; hits++; }
static void *nothing(void *arg) { return arg; }

int main(void) {
    struct rlimit limit;
    for (int i = 0; i < 17; i++) { int r = getrlimit(i, &limit); say("limit %d: %d ordered %d", i, r, r || limit.rlim_cur <= limit.rlim_max); }
    V(setrlimit(99, &limit)); V(getrlimit(RLIMIT_NOFILE, (void *)8)); V(setrlimit(RLIMIT_NOFILE, &(struct rlimit){20, 10}));
    V(syscall(SYS_prlimit64, 999999, RLIMIT_CORE, NULL, &limit)); V(syscall(SYS_prlimit64, -1, RLIMIT_CORE, NULL, &limit));
    CHILD("as nobody", {
        setrlimit(RLIMIT_CORE, &(struct rlimit){5, 10});
        setuid(1234);
        V(setrlimit(RLIMIT_CORE, &(struct rlimit){5, 11})); V(setrlimit(RLIMIT_CORE, &(struct rlimit){10, 10})); V(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 9})); V(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 10}));
        V(setpriority(PRIO_PROCESS, 0, -5)); V(setpriority(PRIO_PROCESS, 0, 5)); V(nice(-1)); V(setpriority(PRIO_PROCESS, 0, 4));
        V(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){1}));
        V(syscall(SYS_prlimit64, getppid(), RLIMIT_CORE, NULL, &limit));
        V(sethostname("x", 1));
        V(syscall(SYS_reboot, 0, 0, 0, 0));
    });
    CHILD("descriptors", {
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){10, 10});
        int last = -1; int fd;
        while ((fd = dup(1)) >= 0) last = fd;
        say("last %d", last);
        V(dup(1)); V(open("/dev/null", O_RDONLY)); V(socket(AF_UNIX, SOCK_STREAM, 0)); V(dup2(1, 10)); V(dup2(1, 9)); V(fcntl(1, F_DUPFD, 10)); V(fcntl(1, F_DUPFD, 5));
        int two[2];
        close(9);
        V(pipe(two)); V(open("/dev/null", O_RDONLY));
        V(poll((void *)8, 11, 0));
    });
    CHILD("file size", {
        signal(SIGXFSZ, hit);
        char path[] = "/tmp/size-XXXXXX"; int fd = mkstemp(path);
        unlink(path);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){1000, 1000});
        char block[600];
        memset(block, 1, 600);
        V(write(fd, block, 600)); V(write(fd, block, 600)); V(write(fd, block, 600)); V(hits); V(ftruncate(fd, 1001)); V(hits); V(pwrite(fd, block, 10, 5000)); V(hits); V(ftruncate(fd, 1000)); V(pwrite(fd, block, 10, 0));
        V(fallocate(fd, 0, 0, 2000)); V(hits);
        signal(SIGXFSZ, SIG_DFL);
        write(fd, block, 600);
        pwrite(fd, block, 600, 1000);
    });
    CHILD("processes", {
        setrlimit(RLIMIT_NPROC, &(struct rlimit){3, 3});
        setuid(23456);
        int made = 0; pid_t p;
        while ((p = fork()) >= 0) { if (!p) for (;;) pause(); made++; }
        say("made %d %s", made, strerrorname_np(errno));
        pthread_t t;
        V(pthread_create(&t, NULL, nothing, NULL) == EAGAIN);
        kill(-1, SIGKILL);
        for (int i = 0; i < made; i++) say("%s", waited(-1));
        V(pthread_create(&t, NULL, nothing, NULL));
    });
    CHILD("CPU time", { signal(SIGXCPU, SIG_DFL); setrlimit(RLIMIT_CPU, &(struct rlimit){1, 5}); for (;;); });
    // prctl.
    char name[20] = {0};
    V(prctl(PR_SET_NAME, "0123456789abcdefgh")); V(prctl(PR_GET_NAME, name)); say("%s", name);
    V(prctl(PR_SET_NAME, 8)); V(prctl(PR_GET_NAME, 8));
    V(prctl(PR_GET_DUMPABLE)); V(prctl(PR_SET_DUMPABLE, 2)); V(prctl(PR_SET_DUMPABLE, 0)); V(prctl(PR_GET_DUMPABLE)); V(prctl(PR_SET_DUMPABLE, 1));
    V(prctl(PR_GET_KEEPCAPS)); V(prctl(PR_SET_KEEPCAPS, 2)); V(prctl(PR_SET_KEEPCAPS, 1)); V(prctl(PR_GET_KEEPCAPS)); V(prctl(PR_SET_KEEPCAPS, 0));
    V(prctl(PR_GET_TIMING)); V(prctl(PR_SET_TIMING, 0)); V(prctl(PR_SET_TIMING, 1));
    V(prctl(PR_GET_TIMERSLACK) > 0); V(prctl(PR_SET_TIMERSLACK, 1000)); V(prctl(PR_GET_TIMERSLACK)); V(prctl(PR_SET_TIMERSLACK, 0));
    V(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)); V(prctl(PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0)); V(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)); V(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0));
    V(prctl(PR_GET_TSC, &hits)); V(prctl(PR_GET_SECCOMP)); V(prctl(PR_GET_SECUREBITS)); V(prctl(99999));
    V(prctl(PR_CAPBSET_READ, 0)); V(prctl(PR_CAPBSET_READ, 99)); V(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0)); V(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0)); V(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0));
    CHILD("no new privileges", { V(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); V(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)); CHILD("inherited", { V(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)); }); });
    V(syscall(SYS_arch_prctl, 0x1003, &hits) == 0 && hits != 0); V(syscall(SYS_arch_prctl, 0x1004, &limit)); V(syscall(SYS_arch_prctl, 0x1002, -1l)); V(syscall(SYS_arch_prctl, 77, 0)); V(syscall(SYS_arch_prctl, 0x1003, 8));
    // Scheduling.
    struct sched_param param;
    V(sched_getscheduler(0)); V(sched_getscheduler(999999)); V(sched_getscheduler(-1)); V(sched_getparam(0, &param)); V(param.sched_priority); V(sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){1})); V(sched_setscheduler(0, 77, &(struct sched_param){0})); V(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0})); V(sched_getscheduler(0)); V(sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0}));
    V(sched_get_priority_max(SCHED_FIFO)); V(sched_get_priority_min(SCHED_FIFO)); V(sched_get_priority_max(SCHED_OTHER)); V(sched_get_priority_max(77)); V(sched_yield()); V(sched_setparam(0, NULL));
    struct timespec slice;
    V(sched_rr_get_interval(0, &slice)); V(sched_rr_get_interval(-1, &slice));
    cpu_set_t cpus;
    V(sched_getaffinity(0, sizeof cpus, &cpus)); V(CPU_COUNT(&cpus) >= 1); V(syscall(SYS_sched_getaffinity, 0, 4, &cpus)); V(syscall(SYS_sched_getaffinity, 0, 8, &cpus)); V(syscall(SYS_sched_getaffinity, 999999, 8, &cpus)); V(sched_setaffinity(0, sizeof cpus, &cpus));
    CPU_ZERO(&cpus);
    V(sched_setaffinity(0, sizeof cpus, &cpus));
    unsigned cpu = 9999, node;
    V(syscall(SYS_getcpu, &cpu, &node, NULL)); V(cpu < 4096);
    V(getpriority(PRIO_PROCESS, 0)); V(setpriority(PRIO_PROCESS, 0, 100)); V(getpriority(PRIO_PROCESS, 0)); V(getpriority(9, 0)); V(getpriority(PRIO_PROCESS, 999999)); V(setpriority(PRIO_PROCESS, 0, -100)); V(getpriority(PRIO_PROCESS, 0)); V(setpriority(PRIO_PROCESS, 0, 0)); V(getpriority(PRIO_PGRP, 0)); V(getpriority(PRIO_USER, 0) <= 0);
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t more[3]; } attributes = {0};
    V(syscall(SYS_sched_getattr, 0, &attributes, 48, 0)); V(attributes.size); V(attributes.policy); V(attributes.nice); V(syscall(SYS_sched_getattr, 0, &attributes, 40, 0)); V(syscall(SYS_sched_setattr, 0, &attributes, 1)); V(syscall(SYS_sched_setattr, 0, &attributes, 0));
    V(syscall(SYS_ioprio_get, 1, 0)); V(syscall(SYS_ioprio_get, 9, 0));
    // Usage and descriptions.
    struct rusage usage;
    V(getrusage(RUSAGE_SELF, &usage)); V(usage.ru_maxrss > 0); V(usage.ru_utime.tv_usec < 1000000); V(usage.ru_minflt > 0); V(getrusage(RUSAGE_CHILDREN, &usage)); V(usage.ru_utime.tv_sec + usage.ru_utime.tv_usec > 0); V(getrusage(RUSAGE_THREAD, &usage)); V(getrusage(9, &usage)); V(getrusage(RUSAGE_SELF, (void *)8));
    struct utsname uts;
    V(uname(&uts)); say("%s %s %d", uts.sysname, uts.machine, strlen(uts.release) > 0 && strlen(uts.version) > 0); V(syscall(SYS_uname, (void *)8));
    struct sysinfo info;
    V(sysinfo(&info)); V(info.uptime > 0); V(info.totalram > 0 && info.freeram <= info.totalram); V(info.procs > 0); V(info.mem_unit > 0);
    V(sysconf(_SC_PAGESIZE)); V(sysconf(_SC_CLK_TCK)); V(sysconf(_SC_NPROCESSORS_ONLN) > 0); V(sysconf(_SC_ARG_MAX) > 100000); V(sysconf(_SC_OPEN_MAX) > 9);
    char random[8] = {0};
    V(syscall(SYS_getrandom, random, 8, 0)); V(syscall(SYS_getrandom, random, 8, 0x80)); V(syscall(SYS_getrandom, (void *)8, 8, 0)); V(syscall(SYS_getrandom, random, 0, 0));
    // membarrier is not there in the sandbox: programs fall back to fences.
    V(personality(0xffffffff)); V(syscall(SYS_kcmp, getpid(), getpid(), 2, 1, 1) >= 0 || errno == ENOSYS);
    return 0;
}
