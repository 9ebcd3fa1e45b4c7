// Round trips and datagrams between two hosts: across serve PORT, or across MODE HOST PORT with a mode of
// tcp-rtt, udp-rtt, connect (the median of so many, in ns), udp-out, udp-in (small datagrams a second that arrived).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 3000, SIZE = 16, SECONDS = 2 };

static void must(int ok, const char *what) {
    if (!ok) { perror(what); exit(1); }
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static struct sockaddr_in address(const char *host, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    must(inet_pton(AF_INET, host, &to.sin_addr) == 1, host);
    return to;
}

static int connected(int type, const char *host, int port) {
    struct sockaddr_in to = address(host, port);
    int s = socket(AF_INET, type, 0), one = 1;
    must(connect(s, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    if (type == SOCK_STREAM) setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return s;
}

static int bound(int type, int port) {
    struct sockaddr_in at = address("0.0.0.0", port);
    int s = socket(AF_INET, type, 0), one = 1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    must(bind(s, (struct sockaddr *)&at, sizeof at) == 0, "bind");
    return s;
}

// Servers: TCP and UDP echo on the port; on the next one datagrams are counted, and the count is asked for by an empty one; on the one after
// that a datagram asks for as many as there can be.

static void *echo_stream(void *argument) {
    int s = (int)(long)argument, one = 1;
    char c;
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (read(s, &c, 1) == 1 && write(s, &c, 1) == 1) {}
    close(s);
    return NULL;
}

static void *echo_datagrams(void *argument) {
    int s = bound(SOCK_DGRAM, (int)(long)argument);
    char data[SIZE];
    struct sockaddr_in from;
    for (;;) {
        socklen_t length = sizeof from;
        ssize_t n = recvfrom(s, data, sizeof data, 0, (struct sockaddr *)&from, &length);
        if (n > 0) sendto(s, data, n, 0, (struct sockaddr *)&from, length);
    }
    return NULL;
}

static void *count_datagrams(void *argument) {
    int s = bound(SOCK_DGRAM, (int)(long)argument), room = 4 << 20;
    setsockopt(s, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    char data[SIZE];
    struct sockaddr_in from;
    for (long count = 0;;) {
        socklen_t length = sizeof from;
        ssize_t n = recvfrom(s, data, sizeof data, 0, (struct sockaddr *)&from, &length);
        if (n > 0) { count++; continue; }
        sendto(s, &count, sizeof count, 0, (struct sockaddr *)&from, length);
        count = 0;
    }
    return NULL;
}

static void *send_datagrams(void *argument) {
    int s = bound(SOCK_DGRAM, (int)(long)argument);
    char data[SIZE] = {0};
    struct sockaddr_in to;
    for (;;) {
        socklen_t length = sizeof to;
        if (recvfrom(s, data, sizeof data, 0, (struct sockaddr *)&to, &length) < 0) continue;
        for (long long end = now() + SECONDS * 1000000000ll; now() < end;)
            for (int i = 0; i < 64; i++) sendto(s, data, sizeof data, 0, (struct sockaddr *)&to, length);
    }
    return NULL;
}

static void started(void *(*what)(void *), long argument) {
    pthread_t thread;
    must(pthread_create(&thread, NULL, what, (void *)argument) == 0 && pthread_detach(thread) == 0, "thread");
}

static void serve(int port) {
    started(echo_datagrams, port);
    started(count_datagrams, port + 1);
    started(send_datagrams, port + 2);
    int l = bound(SOCK_STREAM, port);
    must(listen(l, 128) == 0, "listen");
    for (;;) {
        int s = accept(l, NULL, NULL);
        if (s >= 0) started(echo_stream, s);
    }
}

static int ascending(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

static void bounce(int s) {
    char c = 0;
    must(write(s, &c, 1) == 1 && read(s, &c, 1) == 1, "echo");
}

static double median(const char *mode, const char *host, int port) {
    static long long took[ROUNDS];
    int is_connect = !strcmp(mode, "connect"), type = strcmp(mode, "udp-rtt") ? SOCK_STREAM : SOCK_DGRAM;
    int s = is_connect ? -1 : connected(type, host, port);
    // The first ones look for the neighbour.
    for (int i = -100; i < ROUNDS; i++) {
        long long start = now();
        int one = is_connect ? connected(SOCK_STREAM, host, port) : s;
        bounce(one);
        if (is_connect) close(one);
        if (i >= 0) took[i] = now() - start;
    }
    qsort(took, ROUNDS, sizeof *took, ascending);
    return (double)took[ROUNDS / 2];
}

// Datagrams a second that reach the other side; those on their way when it is asked are few.
static double out(const char *host, int port) {
    int s = connected(SOCK_DGRAM, host, port + 1);
    char data[SIZE] = {0};
    long long start = now();
    while (now() - start < SECONDS * 1000000000ll)
        for (int i = 0; i < 64; i++) (void)!send(s, data, sizeof data, 0);
    double seconds = (now() - start) / 1e9;
    long count = 0;
    struct timeval patience = {.tv_sec = 1};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    do must(send(s, data, 0, 0) == 0, "send"); while (recv(s, &count, sizeof count, 0) != sizeof count);
    return count / seconds;
}

static double in(const char *host, int port) {
    int s = connected(SOCK_DGRAM, host, port + 2);
    char data[SIZE] = {0};
    must(send(s, data, 1, 0) == 1 && recv(s, data, sizeof data, 0) > 0, "the first one");
    // It sends for SECONDS; the last of them are not counted.
    long long start = now();
    long count = 0;
    double seconds;
    do { must(recv(s, data, sizeof data, 0) > 0, "recv"); count++; } while ((seconds = (now() - start) / 1e9) < SECONDS * 0.9);
    return count / seconds;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "serve")) serve(atoi(argv[2]));
    must(argc == 4, "usage: across serve PORT | across MODE HOST PORT");
    const char *mode = argv[1], *host = argv[2];
    int port = atoi(argv[3]);
    double told = !strcmp(mode, "udp-out") ? out(host, port) : !strcmp(mode, "udp-in") ? in(host, port) : median(mode, host, port);
    printf("%.1f\n", told);
    return 0;
}
