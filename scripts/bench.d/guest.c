// What a program measures of its kernel: guest MODE COUNT [HOST PORT]. Prints nanoseconds an operation.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <netinet/tcp.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void must(int ok, const char *what) {
    if (!ok) { perror(what); exit(1); }
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static long getpid_site(void) {
    long r;
    __asm__ volatile("mov $39, %%eax; syscall" : "=a"(r) : : "rcx", "r11", "memory");
    return r;
}

static void spawn_true(void) {
    pid_t pid = fork();
    if (pid == 0) { execl("/bin/true", "true", (char *)NULL); _exit(127); }
    int status;
    must(waitpid(pid, &status, 0) == pid && status == 0, "true");
}

static void fork_and_wait(void) {
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    int status;
    must(waitpid(pid, &status, 0) == pid && status == 0, "fork");
}

static void *nothing(void *argument) { return argument; }

static void thread_and_join(void) {
    pthread_t thread;
    must(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0, "thread");
}

static void vfork_true(void) {
    pid_t pid = vfork();
    if (pid == 0) { execl("/bin/true", "true", (char *)NULL); _exit(127); }
    int status;
    must(waitpid(pid, &status, 0) == pid && status == 0, "true");
}

static void map_touch_unmap(void) {
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(page != MAP_FAILED, "mmap");
    *(volatile char *)page = 1;
    must(munmap(page, 4096) == 0, "munmap");
}

static volatile long hits;

static void hit(int signo) { hits += signo != 0; }

static void clock_once(void) {
    struct timespec t;
    must(clock_gettime(CLOCK_MONOTONIC, &t) == 0, "clock_gettime");
}

// The first touch of each of so many pages.
static void touch_pages(long count) {
    char *pages = mmap(NULL, (size_t)count * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(pages != MAP_FAILED, "mmap");
    for (long i = 0; i < count; i++) ((volatile char *)pages)[i * 4096] = 1;
}

static void ping_pong(long count) {
    int a[2], b[2];
    char c = 0;
    must(pipe(a) == 0 && pipe(b) == 0, "pipe");
    if (fork() == 0) {
        for (long i = 0; i < count; i++) { must(read(a[0], &c, 1) == 1, "read"); must(write(b[1], &c, 1) == 1, "write"); }
        _exit(0);
    }
    for (long i = 0; i < count; i++) { must(write(a[1], &c, 1) == 1, "write"); must(read(b[0], &c, 1) == 1, "read"); }
    wait(NULL);
}

static int tcp(const char *host, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &to.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    must(connect(s, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return s;
}

static void echo_server(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int l = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    must(bind(l, (struct sockaddr *)&at, sizeof at) == 0 && listen(l, 16) == 0, "listen");
    for (;;) {
        int s = accept(l, NULL, NULL);
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        char c;
        while (read(s, &c, 1) == 1) must(write(s, &c, 1) == 1, "echo");
        close(s);
    }
}

int main(int argc, char **argv) {
    must(argc >= 3, "usage: guest MODE COUNT [HOST PORT]");
    const char *mode = argv[1];
    long count = atol(argv[2]);
    if (!strcmp(mode, "serve")) echo_server((int)count);
    int zero = open("/dev/zero", O_RDONLY), sock = argc > 4 ? tcp(argv[3], atoi(argv[4])) : -1;
    char c = 0;
    long long start = now();
    if (!strcmp(mode, "getpid")) for (long i = 0; i < count; i++) getpid_site();
    else if (!strcmp(mode, "getpid-libc")) for (long i = 0; i < count; i++) syscall(SYS_getpid);
    else if (!strcmp(mode, "read1")) for (long i = 0; i < count; i++) must(read(zero, &c, 1) == 1, "read");
    else if (!strcmp(mode, "spawn")) for (long i = 0; i < count; i++) spawn_true();
    else if (!strcmp(mode, "fork")) for (long i = 0; i < count; i++) fork_and_wait();
    else if (!strcmp(mode, "vfork")) for (long i = 0; i < count; i++) vfork_true();
    else if (!strcmp(mode, "clock")) for (long i = 0; i < count; i++) clock_once();
    else if (!strcmp(mode, "map")) for (long i = 0; i < count; i++) map_touch_unmap();
    else if (!strcmp(mode, "signal")) {
        signal(SIGUSR1, hit);
        for (long i = 0; i < count; i++) must(raise(SIGUSR1) == 0, "raise");
        must(hits == count, "signal");
    }
    else if (!strcmp(mode, "thread")) for (long i = 0; i < count; i++) thread_and_join();
    else if (!strcmp(mode, "touch")) touch_pages(count);
    else if (!strcmp(mode, "pipe")) ping_pong(count);
    else if (!strcmp(mode, "rtt")) for (long i = 0; i < count; i++) { must(write(sock, &c, 1) == 1, "write"); must(read(sock, &c, 1) == 1, "read"); }
    else must(0, mode);
    printf("%.1f\n", (double)(now() - start) / (double)count);
    return 0;
}
