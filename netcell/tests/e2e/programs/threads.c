#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long total;
static int turn;
static __thread int mine;
static volatile sig_atomic_t got, fault_code;
static void *volatile fault_addr;
static sigjmp_buf back;

static void *adder(void *arg) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&lock);
        total += (long)arg;
        pthread_mutex_unlock(&lock);
        mine++;
    }
    return (void *)(long)mine;
}

static void *pinger(void *arg) {
    int me = (int)(long)arg;
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&lock);
        while (turn != me) pthread_cond_wait(&cond, &lock);
        turn = !me;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void on_signal(int sig) { got = sig; }

static void on_fault(int sig, siginfo_t *info, void *context) {
    (void)context;
    got = sig;
    fault_code = info->si_code;
    fault_addr = info->si_addr;
    siglongjmp(back, 1);
}

int main(void) {
    pthread_t t[4];
    for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, adder, (void *)(i + 1));
    for (int i = 0; i < 4; i++) {
        void *r;
        pthread_join(t[i], &r);
        printf("thread %d counted %ld\n", i, (long)r);
    }
    printf("total %ld\n", total);
    for (long i = 0; i < 2; i++) pthread_create(&t[i], NULL, pinger, (void *)i);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    printf("turns done\n");

    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    printf("raised %d\n", (int)got);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGUSR2);
    struct timespec ts = {5, 0};
    printf("waited for %d\n", sigtimedwait(&set, NULL, &ts));

    struct sigaction fa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t alt = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&alt, NULL);
    sigaction(SIGSEGV, &fa, NULL);
    sigaction(SIGFPE, &fa, NULL);
    if (!sigsetjmp(back, 1)) *(volatile int *)0x1234 = 1;
    printf("fault %d code %d at %p\n", (int)got, (int)fault_code, fault_addr);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sigsetjmp(back, 1)) page[5] = 1;
    printf("fault %d code %d at +%ld\n", (int)got, (int)fault_code, (long)((char *)fault_addr - page));
    volatile int zero = 0;
    if (!sigsetjmp(back, 1)) zero = 7 / zero;
    printf("fault %d code %d\n", (int)got, (int)fault_code);

    double x = 1.5;
    for (int i = 0; i < 10; i++) { x = x * 1.1; raise(SIGUSR1); }
    printf("floating point %.10f\n", x);

    fflush(stdout);
    pid_t child = fork();
    if (child == 0) { total = -1; raise(SIGKILL); }
    int status;
    waitpid(child, &status, 0);
    printf("child signalled %d with %d, total still %ld\n", WIFSIGNALED(status), WTERMSIG(status), total);
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    child = fork();
    if (child == 0) { *shared = 42; _exit(0); }
    waitpid(child, &status, 0);
    printf("shared %d\n", *shared);
    errno = 0;
    void *volatile wild = (void *)8;
    int n = write(1, wild, 1);
    printf("wild %d %s\n", n, strerror(errno));
    return total == 200000 ? 0 : 1;
}
