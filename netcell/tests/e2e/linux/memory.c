// Memory: mapping, protection, remapping, advice, files under mappings, sharing after fork, the stack and the break.
#include "check.h"

static sigjmp_buf jump;
static volatile int number, code;
static char *volatile where;
static void caught(int s, siginfo_t *i, void *c) { (void)c; number = s, code = i->si_code, where = i->si_addr; siglongjmp(jump, 1); }
#define TRY(base, e) do { number = 0; if (!sigsetjmp(jump, 1)) { e; } \
    if (number) say("%s: signal %d code %d at %+ld", #e, number, code, (long)(where - (char *)(base))); else say("%s: fine", #e); } while (0)
// An address is not compared, only that there is one.
#define MAP(...) ({ void *m_ = mmap(__VA_ARGS__); if (m_ == MAP_FAILED) say("mmap(" #__VA_ARGS__ "): %s", strerrorname_np(errno)); else say("mmap(" #__VA_ARGS__ "): ok"); (char *)m_; })
#define REMAP(...) ({ void *m_ = mremap(__VA_ARGS__); if (m_ == MAP_FAILED) say("mremap(" #__VA_ARGS__ "): %s", strerrorname_np(errno)); else say("mremap(" #__VA_ARGS__ "): ok"); (char *)m_; })
enum { P = 4096, RW = PROT_READ | PROT_WRITE, PA = MAP_PRIVATE | MAP_ANONYMOUS, SA = MAP_SHARED | MAP_ANONYMOUS };
static int deep(int n) { volatile char block[P]; memset((char *)block, n, P); return n ? deep(n - 1) + (block[7] != (char)n) : 0; }
static int vma_count(char *from, char *to) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[500];
    int n = 0;
    unsigned long a, b;
    while (fgets(line, sizeof line, f)) if (sscanf(line, "%lx-%lx", &a, &b) == 2 && a < (unsigned long)to && b > (unsigned long)from) n++;
    fclose(f);
    return n;
}
static void *churn(void *arg) {
    long bad = 0;
    for (int i = 0; i < 100; i++) { char *q = mmap(NULL, 16 * P, RW, PA, -1, 0); memset(q, i, 16 * P); bad += q[15 * P] != i; mprotect(q, P, PROT_READ); munmap(q, 16 * P); }
    (void)arg;
    return (void *)bad;
}

int main(void) {
    static char alternate[65536];
    sigaltstack(&(stack_t){.ss_sp = alternate, .ss_size = sizeof alternate}, NULL);
    handle(SIGSEGV, caught, SA_SIGINFO | SA_ONSTACK), handle(SIGBUS, caught, SA_SIGINFO | SA_ONSTACK);
    char path[] = "/tmp/memory-XXXXXX";
    int fd = mkstemp(path), ro = open(path, O_RDONLY), wo = open(path, O_WRONLY), dir = open("/tmp", O_RDONLY), pipes[2];
    pipe(pipes);
    // Arguments.
    char *p = MAP(NULL, 16 * P, RW, PA, -1, 0);
    MAP(NULL, 0, RW, PA, -1, 0);
    MAP(NULL, P, RW, MAP_ANONYMOUS, -1, 0);
    MAP(NULL, P, RW, MAP_PRIVATE, 99, 0);
    MAP(NULL, P, RW, MAP_PRIVATE, fd, 5);
    MAP(NULL, P, RW, PA, -1, 5);
    MAP(NULL, 1ul << 60, RW, PA, -1, 0);
    MAP(NULL, -1ul, RW, PA, -1, 0);
    MAP((void *)5, P, RW, PA | MAP_FIXED, -1, 0);
    MAP(p, P, RW, PA | MAP_FIXED_NOREPLACE, -1, 0);
    MAP(p + 15 * P, 2 * P, RW, PA | MAP_FIXED_NOREPLACE, -1, 0);
    say("a hint that is free is taken %d", mmap((void *)0x200000000000, P, RW, PA, -1, 0) == (void *)0x200000000000);
    say("one that is not is not %d", mmap((void *)0x200000000000, P, RW, PA, -1, 0) != (void *)0x200000000000);
    MAP((void *)0xffffffffff000000, P, RW, PA | MAP_FIXED, -1, 0);
    MAP((void *)0x7ffffffff000, P, RW, PA | MAP_FIXED, -1, 0);
    MAP(NULL, P, RW, MAP_SHARED, ro, 0);
    MAP(NULL, P, PROT_READ, MAP_SHARED, wo, 0);
    MAP(NULL, P, PROT_WRITE, MAP_PRIVATE, wo, 0);
    MAP(NULL, P, RW, MAP_PRIVATE, ro, 0);
    MAP(NULL, P, PROT_READ, MAP_PRIVATE, dir, 0);
    MAP(NULL, P, PROT_READ, MAP_PRIVATE, pipes[0], 0);
    MAP(NULL, P, PROT_READ, MAP_SHARED_VALIDATE | 0x4000000, fd, 0);
    MAP(NULL, P, PROT_READ, MAP_SHARED_VALIDATE, fd, 0);
    MAP(NULL, P, PROT_READ, MAP_PRIVATE, fd, 1ul << 62);
    MAP(NULL, P, PROT_READ, MAP_PRIVATE, fd, -P);
    say("below 4 GiB %d", (unsigned long)mmap(NULL, P, RW, PA | MAP_32BIT, -1, 0) < 1ul << 32);
    V(munmap(p + 1, P)); V(munmap(p, 0)); V(munmap(p + P, 1)); V(munmap((void *)0x300000000000, P)); V(munmap(p, -P));
    TRY(p, p[P] = 1);
    // Protection.
    memset(p, 1, P), memset(p + 2 * P, 1, 14 * P);
    V(mprotect(p + 2 * P, P, PROT_READ));
    TRY(p, p[2 * P] = 1);
    TRY(p, number = p[2 * P]);
    V(mprotect(p, 4 * P, RW));
    V(mprotect(p + 1, P, RW)); V(mprotect(p, 0, RW)); V(mprotect(p, P, 0x100)); V(mprotect((void *)0x300000000000, P, RW)); V(mprotect(p, -P, RW)); V(mprotect(p, P, RW | PROT_GROWSDOWN | PROT_GROWSUP)); V(mprotect(p, P, RW | PROT_GROWSDOWN));
    V(mprotect(p + 4 * P, P, PROT_NONE));
    TRY(p, number = p[4 * P]);
    V(write(pipes[1], p + 4 * P, 1));
    V(write(pipes[1], p + 5 * P - 1, 2));
    V(write(pipes[1], p + 4 * P - 3, 10));
    V(write(pipes[1], "12345678", 8));
    V(read(pipes[0], p + 4 * P, 1));
    V(mprotect(p + 4 * P, P, PROT_WRITE));
    p[4 * P] = 9;
    say("write implies read %d", p[4 * P]);
    char *r = mmap(NULL, P, PROT_READ, MAP_SHARED, ro, 0);
    V(mprotect(r, P, RW));
    V(read(pipes[0], r, 1));
    V(mprotect(p, P, PROT_READ | PROT_EXEC));
    unsigned char ret = 0xc3;
    mprotect(p, P, RW), memcpy(p, &ret, 1), mprotect(p, P, PROT_READ | PROT_EXEC);
    TRY(p, ((void (*)(void))p)());
    mprotect(p, P, PROT_EXEC);
    TRY(p, ((void (*)(void))p)());
    munmap(p, 16 * P);
    p = mmap(NULL, 8 * P, PROT_NONE, PA, -1, 0);
    say("one area %d", vma_count(p + P, p + 2 * P));
    mprotect(p + 2 * P, P, RW);
    say("three areas %d", vma_count(p + P, p + 4 * P));
    mprotect(p + 2 * P, P, PROT_NONE);
    say("one again %d", vma_count(p + P, p + 4 * P));
    // Files.
    V(write(fd, "abcdefgh", 8)); V(ftruncate(fd, 10000));
    char *f = mmap(NULL, 4 * P, RW, MAP_SHARED, fd, 0), *g = mmap(NULL, 4 * P, RW, MAP_PRIVATE, fd, 0), text[9] = {0};
    say("%.8s %.8s", f, g);
    f[0] = 'X', g[1] = 'Y';
    pread(fd, text, 8, 0);
    say("shared is the file's, private is not: %.8s %.8s %s", f, g, text);
    pwrite(fd, "QR", 2, 2);
    say("write(2) is seen at once %.8s, the private copy stays %.2s", f, g);
    TRY(f, f[3 * P] = 1);
    TRY(f, f[10500] = 1);
    struct stat st;
    fstat(fd, &st);
    say("size unchanged by a write behind the end %ld", (long)st.st_size);
    V(ftruncate(fd, 12000));
    say("behind the old end is zero %d", f[11000]);
    f[P + 5] = 5, g[P + 5] = 6;
    V(ftruncate(fd, P));
    TRY(f, f[P] = 1); TRY(g, number = g[P + 5]); TRY(f, f[P - 1] = 1);
    V(read(pipes[0], f + P, 1)); V(write(pipes[1], f + P, 1));
    V(ftruncate(fd, 3 * P));
    say("grown again it is zero %d %d", f[P + 5], g[P + 5]);
    V(ftruncate(fd, 100)); f[200] = 7; V(ftruncate(fd, P));
    say("bytes behind the end are cut %d", f[200]);
    V(msync(f, P, MS_SYNC)); V(msync(f, P, MS_SYNC | MS_ASYNC)); V(msync(f, P, 8)); V(msync(f + 1, P, MS_SYNC)); V(msync((void *)0x300000000000, P, MS_SYNC)); V(msync(f, P, MS_INVALIDATE));
    V(close(fd));
    f[3] = 'Z';
    pread(ro, text, 8, 0);
    say("a mapping lives longer than its descriptor %c", text[3]);
    fd = open(path, O_RDWR);
    V(unlink(path));
    f[4] = 'U';
    say("and than the name %c", (pread(fd, text, 8, 0), text[4]));
    // Remapping.
    char *m = mmap(NULL, 4 * P, RW, PA, -1, 0);
    for (int i = 0; i < 4; i++) m[i * P] = i + 1;
    char *n = REMAP(m, 4 * P, 64 * P, MREMAP_MAYMOVE);
    say("%d %d %d %d %d", n[0], n[P], n[2 * P], n[3 * P], n[20 * P]);
    REMAP(n, P, 2 * P, 0); REMAP(n, 0, 2 * P, MREMAP_MAYMOVE); REMAP((void *)0x300000000000, P, 2 * P, MREMAP_MAYMOVE); REMAP(n, P, P, MREMAP_FIXED, p); REMAP(n + 1, P, P, 0); REMAP(n, P, 0, 0); REMAP(n, P, P, 8);
    REMAP(n, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, n + P);
    say("shrunk in place %d", REMAP(n, 64 * P, 32 * P, 0) == n);
    TRY(n, n[40 * P] = 1);
    say("grown where there is room %d", REMAP(n, 32 * P, 40 * P, 0) == n);
    say("fixed %d", REMAP(n, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, p) == p);
    say("%d %d", p[0], p[3 * P]);
    TRY(n, number = n[0]);
    char *k = REMAP(p, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    say("moved %d, what stays is empty %d", k[0], p[0]);
    char *s = mmap(NULL, 2 * P, RW, SA, -1, 0);
    s[0] = 3;
    char *twin = REMAP(s, 0, 2 * P, MREMAP_MAYMOVE);
    twin[1] = 4;
    say("a shared mapping twice %d %d", twin[0], s[1]);
    // Advice.
    V(madvise(k, P, MADV_DONTNEED));
    say("dropped %d kept %d", k[0], k[P]);
    f[0] = 'F', g[0] = 'G';
    V(madvise(f, P, MADV_DONTNEED)); V(madvise(g, P, MADV_DONTNEED));
    say("a file's pages come back %c %c", f[0], g[0]);
    V(madvise(k, P, 77)); V(madvise(k + 1, P, MADV_DONTNEED)); V(madvise(k, 0, MADV_DONTNEED)); V(madvise((void *)0x300000000000, P, MADV_DONTNEED)); V(madvise(k, -P, MADV_NORMAL));
    V(madvise(k, P, MADV_WILLNEED)); V(madvise(k, P, MADV_SEQUENTIAL)); V(madvise(k, P, MADV_HUGEPAGE) == 0 || errno == EINVAL); V(madvise(k, P, MADV_FREE)); V(madvise(f, P, MADV_FREE)); V(madvise(k, P, MADV_COLD)); V(madvise(k, P, MADV_PAGEOUT));
    V(madvise(k, P, MADV_POPULATE_READ)); V(madvise(k, P, MADV_POPULATE_WRITE)); V(madvise(f, 4 * P, MADV_POPULATE_READ)); V(madvise(r, P, MADV_POPULATE_WRITE));
    s[0] = 8;
    V(madvise(s, P, MADV_REMOVE));
    say("removed %d", s[0]);
    V(madvise(k, P, MADV_REMOVE)); V(madvise(k, P, MADV_DONTDUMP)); V(madvise(k, P, MADV_DODUMP)); V(madvise(k, P, MADV_MERGEABLE) == 0 || errno == EINVAL);
    char *wipe = mmap(NULL, 3 * P, RW, PA, -1, 0);
    memset(wipe, 5, 3 * P);
    V(madvise(wipe, P, MADV_WIPEONFORK)); V(madvise(f, P, MADV_WIPEONFORK)); V(madvise(wipe + P, P, MADV_DONTFORK));
    CHILD("after fork", { say("wiped %d kept %d", wipe[0], wipe[2 * P]); TRY(wipe, number = wipe[P]); });
    say("%d %d %d", wipe[0], wipe[P], wipe[2 * P]);
    unsigned char pages[8];
    char *c = mmap(NULL, 4 * P, RW, PA, -1, 0);
    c[P] = 1;
    V(mincore(c, 4 * P, pages));
    // The pages around may be there or not: the sandbox makes several at once.
    say("in core %d", pages[1] & 1);
    V(mincore(c + 1, P, pages)); V(mincore((void *)0x300000000000, P, pages)); V(mincore(c, P, (void *)8));
    V(mlock(c, P)); V(munlock(c, P)); V(mlock((void *)0x300000000000, P)); V(mlock2(c, P, 9)); V(mlockall(99)); V(munlockall());
    // Sharing.
    char *shared = mmap(NULL, 2 * P, RW, SA, -1, 0), *own = malloc(1 << 20);
    memset(own, 5, 1 << 20);
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        if (!child) { memset(own, i, 1 << 20); shared[i] = own[77] + 1; _exit(own[1000] == i ? 0 : 9); }
        own[i] = 9;
        if (strcmp(waited(child), "exited 0")) say("child %d differs", i);
    }
    long total = 0;
    for (int i = 0; i < 10; i++) total += shared[i];
    say("shared %ld own %d %d", total, own[77], own[3]);
    pthread_t threads[4];
    void *bad;
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, churn, NULL);
    for (int i = 0; i < 4; i++) { pthread_join(threads[i], &bad); say("thread's maps were its own %ld", (long)bad); }
    // The stack and the break.
    say("deep %d", deep(1500));
    CHILD("beyond the stack's limit", { setrlimit(RLIMIT_STACK, &(struct rlimit){1 << 20, 8 << 20}); TRY(&number, deep(500)); });
    char *grows = mmap((void *)0x210000000000, P, RW, PA | MAP_GROWSDOWN, -1, 0);
    TRY(grows, grows[-1] = 1);
    TRY(grows, grows[-P - 1] = 1);
    char *end = sbrk(0);
    V(sbrk(1 << 20) == end); memset(end, 3, 1 << 20);
    V(sbrk(-(1 << 20)) == end + (1 << 20));
    V(sbrk(0) == end);
    TRY(end, end[8192] = 1);
    V(sbrk(1 << 20) == end);
    say("it is zero again %d", end[8192]);
    V(syscall(SYS_brk, 0) == (long)sbrk(0));
    V(syscall(SYS_brk, 5) == (long)sbrk(0));
    CHILD("limits", {
        setrlimit(RLIMIT_AS, &(struct rlimit){1 << 30, 1 << 30});
        MAP(NULL, 2ul << 30, RW, PA, -1, 0);
        MAP(NULL, 2ul << 30, PROT_NONE, PA | MAP_NORESERVE, -1, 0);
        setrlimit(RLIMIT_DATA, &(struct rlimit){1 << 20, 1 << 20});
        V(sbrk(2 << 20));
        MAP(NULL, 2 << 20, RW, PA, -1, 0);
        MAP(NULL, 2 << 20, PROT_READ, PA, -1, 0);
        setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){P, P});
        setuid(1234);
        V(mlock(c, 2 * P)); V(mlock(c, P));
        MAP(NULL, 2 * P, RW, PA | MAP_LOCKED, -1, 0);
    });
    char *large = MAP(NULL, 64ul << 30, RW, PA | MAP_NORESERVE, -1, 0);
    large[0] = 1, large[(64ul << 30) - 1] = 2, large[33ul << 30] = 3;
    say("big and sparse %d %d %d %d", large[0], large[(64ul << 30) - 1], large[33ul << 30], large[1ul << 30]);
    V(munmap(large, 64ul << 30));
    // System calls and bad addresses.
    V(write(1, (void *)8, 3)); V(read(fd, (void *)-1, 3)); V(read(fd, (void *)8, 0));
    char *edge = mmap(NULL, 2 * P, RW, PA, -1, 0);
    munmap(edge + P, P);
    lseek(fd, 0, SEEK_SET);
    V(read(fd, edge + P - 6, 100));
    V(write(fd, edge + P - 6, 100));
    V(open(edge + P - 1, O_RDONLY));
    memset(edge, 'x', P);
    V(open(edge + P - 4, O_RDONLY));
    V(open(edge, O_RDONLY));
    // Write seals and mappings (EBUSY with one, none after) and process_vm_readv are missing in the sandbox: not looked at.
    int memory = memfd_create("name", MFD_ALLOW_SEALING);
    ftruncate(memory, 2 * P);
    V(fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK)); V(ftruncate(memory, P)); V(ftruncate(memory, 3 * P)); V(pwrite(memory, "x", 1, 0));
    return 0;
}
