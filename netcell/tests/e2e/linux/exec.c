// exec: what survives it, how arguments and scripts are read, and what it refuses.
#include "check.h"

static char *self;
static int show(char **argv) {
    say("argv[0] %s", argv[0]);
    for (int i = 2; argv[i]; i++) say("argument '%s'", argv[i]);
    for (int fd = 3; fd < 10; fd++) if (fcntl(fd, F_GETFD) != -1) say("fd %d flags %d", fd, fcntl(fd, F_GETFD));
    for (int s = 1; s <= 64; s++) {
        struct sigaction a;
        if (s == 32 || s == 33 || sigaction(s, NULL, &a)) continue;
        if (a.sa_handler != SIG_DFL) say("signal %d ignored %d", s, a.sa_handler == SIG_IGN);
    }
    sigset_t mask, pending;
    sigprocmask(SIG_BLOCK, NULL, &mask), sigpending(&pending);
    for (int s = 1; s < 32; s++) if (sigismember(&mask, s)) say("blocked %d pending %d", s, sigismember(&pending, s));
    stack_t alt;
    sigaltstack(NULL, &alt);
    say("altstack %d", alt.ss_flags == SS_DISABLE);
    say("E=%s environment %d", getenv("E") ? getenv("E") : "-", __environ[0] != NULL);
    char name[20];
    prctl(PR_GET_NAME, name);
    say("name %s, death signal %d keepcaps %d dumpable %d", name, 0, prctl(PR_GET_KEEPCAPS), prctl(PR_GET_DUMPABLE));
    struct itimerval timer;
    getitimer(ITIMER_REAL, &timer);
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    say("timer runs %d limit %ld nice %d umask %o", timer.it_value.tv_sec > 0, (long)limit.rlim_cur, getpriority(PRIO_PROCESS, 0), umask(0));
    char path[100] = {0}, cwd[100];
    readlink("/proc/self/exe", path, 99);
    say("exe %s cwd %s", strrchr(path, '/'), getcwd(cwd, 100));
    return 31;
}
static void on_signal(int s) { (void)s; }
static void put(const char *path, const char *text, int mode) {
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    MUST(write(fd, text, strlen(text)));
    MUST(fchmod(fd, mode));
    close(fd);
}
static char *none[] = {NULL};
#define RUN(path, ...) CHILD(path, { char *a_[] = {__VA_ARGS__, NULL}; execve(path, a_, none); \
    say("%s: %s", path, strerrorname_np(errno)); })
static void script(const char *name, const char *text, int mode) {
    char path[100];
    snprintf(path, sizeof path, "/tmp/%s", name);
    put(path, text, mode);
    pid_t p = fork();
    if (!p) {
        char *a[] = {"zero", "one", "two words", NULL};
        execve(path, a, none);
        say("exec %s: %s", name, strerrorname_np(errno));
        _exit(0);
    }
    say("%s: %s", name, waited(p));
    unlink(path);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "show")) return show(argv);
    if (argc > 1 && !strcmp(argv[1], "null")) { say("argc %d", argc); return 0; }
    if (argc == 1 && argv[0][0] == 0) { say("argc 1 and an empty argv[0]"); return 9; }
    self = argv[0];
    CHILD("everything", {
        int a = open("/dev/null", O_RDONLY), b = open("/dev/null", O_RDONLY | O_CLOEXEC), c = dup(a), d = dup3(a, 8, O_CLOEXEC);
        fcntl(c, F_SETFD, FD_CLOEXEC);
        (void)b; (void)d;
        dup2(a, 9);
        signal(SIGUSR1, on_signal), signal(SIGUSR2, SIG_IGN), signal(SIGCHLD, SIG_IGN), signal(SIGRTMIN, on_signal);
        sigset_t set = set_of(SIGTERM, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGHUP);
        stack_t alt = {.ss_sp = malloc(65536), .ss_size = 65536};
        sigaltstack(&alt, NULL);
        prctl(PR_SET_NAME, "before"), prctl(PR_SET_KEEPCAPS, 1), prctl(PR_SET_DUMPABLE, 0);
        struct itimerval timer = {.it_value = {1000, 0}};
        setitimer(ITIMER_REAL, &timer, NULL);
        struct rlimit limit = {77, 77};
        setrlimit(RLIMIT_CORE, &limit);
        nice(3), umask(0125);
        chdir("/usr");
        char *args[] = {"name", "show", "", "a b", "\xff\xfe", NULL}, *env[] = {"E=value", "E=second", NULL};
        execve(self, args, env);
    });
    RUN("/no/such/file", "x");
    RUN("/tmp", "x");
    RUN("/etc/passwd", "x");
    RUN("/etc/passwd/x", "x");
    RUN("", "x");
    V(execve((void *)8, none, none));
    V(execve("/bin/true", (void *)8, none));
    V(execve("/bin/true", (char *[]){"x", (void *)8, NULL}, none));
    V(execve("/bin/true", none, (char *[]){(void *)8, NULL}));
    CHILD("no arguments", { execve(self, NULL, NULL); });
    CHILD("empty arguments", { execve(self, none, none); });
    // Long arguments: one string has at most 128 KiB, all together a quarter of the stack's limit.
    char *huge = malloc(131073 + 1);
    memset(huge, 'x', 131073), huge[131073] = 0;
    huge[131072] = 0;
    CHILD("a string too long", { char *a[] = {"x", huge, NULL}; execve("/bin/true", a, none); say("%s", strerrorname_np(errno)); });
    huge[131071] = 0;
    CHILD("a string just right", { char *a[] = {"x", huge, NULL}; execve("/bin/true", a, none); say("%s", strerrorname_np(errno)); });
    char *many[60];
    for (int i = 0; i < 59; i++) many[i] = huge;
    many[59] = NULL;
    CHILD("seven megabytes", { execve("/bin/true", many, none); say("%s", strerrorname_np(errno)); });
    CHILD("with half the stack", {
        struct rlimit limit = {4 << 20, RLIM_INFINITY};
        setrlimit(RLIMIT_STACK, &limit);
        execve("/bin/true", many, none);
        say("%s", strerrorname_np(errno));
        many[9] = NULL;
        setrlimit(RLIMIT_STACK, &(struct rlimit){4 << 20, RLIM_INFINITY});
        many[7] = NULL;
        execve("/bin/true", many, none);
        say("%s", strerrorname_np(errno));
    });
    // Scripts.
    script("s1", "#!/bin/echo\n", 0755);
    script("s2", "#! /bin/echo  two  args \t \n", 0755);
    script("s3", "#!/bin/echo", 0755);
    script("s4", "#!\n", 0755);
    script("s5", "#!   \n", 0755);
    script("s6", "#!/no/interpreter\n", 0755);
    script("s7", "#!/tmp\n", 0755);
    script("s8", "#!/bin/sh\necho \"$0\" \"$1\" \"$2\" $#; exit 12\n", 0755);
    script("s9", "echo no magic\n", 0755);
    script("s10", "#!/bin/echo\n", 0644);
    script("s11", "", 0755);
    script("s12", "\x7f" "ELF", 0755);
    script("s13", "#!/etc/passwd\n", 0755);
    char deep[400] = "#!/bin/echo ";
    memset(deep + 12, 'y', 300), strcpy(deep + 312, "\n");
    script("s14", deep, 0755);
    char far_[400] = "#!/";
    memset(far_ + 3, 'z', 300), strcpy(far_ + 303, "\n");
    script("s15", far_, 0755);
    put("/tmp/n1", "#!/bin/echo n1\n", 0755);
    for (int i = 2; i < 8; i++) {
        char path[20], text[40];
        snprintf(path, sizeof path, "/tmp/n%d", i), snprintf(text, sizeof text, "#!/tmp/n%d arg%d\n", i - 1, i);
        put(path, text, 0755);
        RUN(path, "x");
    }
    script("selfish", "#!/tmp/selfish\n", 0755);
    put("/tmp/busy", "#!/bin/true\n", 0755);
    // ETXTBSY for a file that is open for writing is not looked at: the sandbox does not count writers.
    RUN("/tmp/busy", "x");
    int script_fd = open("/tmp/busy", O_RDONLY | O_CLOEXEC), true_fd = open("/bin/true", O_PATH | O_CLOEXEC);
    CHILD("fexecve of a script that closes", { fexecve(script_fd, (char *[]){"x", NULL}, none); say("%s", strerrorname_np(errno)); });
    CHILD("fexecve of a path descriptor", { fexecve(true_fd, (char *[]){"x", NULL}, none); say("%s", strerrorname_np(errno)); });
    V(syscall(SYS_execveat, true_fd, "", none, none, 0));
    V(syscall(SYS_execveat, true_fd, "x", none, none, 0x10));
    V(syscall(SYS_execveat, 77, "x", none, none, 0));
    symlink("/bin/true", "/tmp/a-link");
    V(syscall(SYS_execveat, AT_FDCWD, "/tmp/a-link", none, none, AT_SYMLINK_NOFOLLOW));
    // vfork: the parent waits until the child execs or leaves.
    volatile int seen = 0;
    pid_t p = vfork();
    if (!p) { seen = 5; _exit(6); }
    say("vfork: seen %d, %s", seen, waited(p));
    p = vfork();
    if (!p) { execve("/no/such", none, none); seen = errno; _exit(7); }
    say("vfork: errno %s, %s", strerrorname_np(seen), waited(p));
    p = vfork();
    if (!p) { execl("/bin/sh", "sh", "-c", "kill -KILL $$", NULL); _exit(1); }
    say("vfork: %s", waited(p));
    V(setpgid(p, p));
    p = fork();
    if (!p) { execl("/bin/sleep", "sleep", "1000", NULL); }
    char exe[32], target[100] = "";
    snprintf(exe, sizeof exe, "/proc/%d/exe", p);
    do readlink(exe, target, 99); while (!strstr(target, "sleep") && !strstr(target, "coreutils"));
    V(setpgid(p, p));
    kill(p, SIGKILL);
    say("%s", waited(p));
    for (int i = 1; i < 8; i++) { char path[20]; snprintf(path, sizeof path, "/tmp/n%d", i); unlink(path); }
    unlink("/tmp/busy"), unlink("/tmp/a-link");
    return 0;
}
