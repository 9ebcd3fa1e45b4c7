// System calls at sites that are run so often that a platform may change them: everything goes on as before, with signals at
// every moment, in threads and children, with a single step, from the middle, and where the text is read, changed and removed.
// With an argument, what the text of such a site begins with.
#include "check.h"
#include <immintrin.h>

// A site in a page of its own, with a tail that shows where it comes back to.
#define SITE(name) \
    __asm__(".pushsection .text." #name ",\"ax\",@progbits\n.balign 4096\n" #name ":\n.fill 32,1,0x90\n" \
            ".globl " #name "_site\n" #name "_site: mov $39,%eax\n.globl " #name "_middle\n" #name "_middle: syscall\n" \
            #name "_behind: add $1000,%r12\nret\n.balign 4096\n.popsection"); \
    extern char name[], name##_site[], name##_middle[], name##_behind[];
SITE(text)
SITE(other)

static long pid;
static volatile long alarms;
static volatile long steps, step_at[8];

// Calls `to` with known registers; how many of them, or of the result, are wrong behind it.
static long call(char *to, long rax, long want) {
    __asm__ volatile(
        "mov $12,%%r12; mov $13,%%r13; mov $14,%%r14; mov $15,%%r15; mov $8,%%r8; mov $9,%%r9; mov $10,%%r10\n"
        "mov $1,%%edi; mov $2,%%esi; mov $3,%%edx; std; stc\n"
        "push $0x5a5a; lea -120(%%rsp),%%rsp; movq $0x1234,-64(%%rsp)\n"
        "call *%%rcx\n"
        "setnc %%cl; cld; movzx %%cl,%%ecx\n" // add to r12 clears the carry
        "xor $1,%%ecx\n"
        "sub $13,%%r13; sub $14,%%r14; sub $15,%%r15; sub $8,%%r8; sub $9,%%r9; sub $10,%%r10; sub $1,%%rdi; sub $2,%%rsi; sub $3,%%rdx\n"
        "or %%r13,%%rcx; or %%r14,%%rcx; or %%r15,%%rcx; or %%r8,%%rcx; or %%r9,%%rcx; or %%r10,%%rcx; or %%rdi,%%rcx; or %%rsi,%%rcx; or %%rdx,%%rcx\n"
        "movq -64(%%rsp),%%rdx; sub $0x1234,%%rdx; or %%rdx,%%rcx\n" // the red zone
        "lea 120(%%rsp),%%rsp; pop %%rdx; sub $0x5a5a,%%rdx; or %%rdx,%%rcx\n"
        : "+a"(rax), "+c"(to)
        :
        : "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    return (to != 0) + (rax != want);
}

static long many(char *to, long rax, long want, int count) {
    long wrong = 0;
    while (count--) wrong += call(to, rax, want);
    return wrong;
}

static void alarmed(int s, siginfo_t *i, void *c) {
    // The registers of a handler are its own, and it calls at the same site.
    __asm__ volatile("vpxor %%ymm7,%%ymm7,%%ymm7; fninit; fldz" ::: "xmm7");
    alarms++;
    if (call(text_site, 0, pid)) alarms = -1000000;
}

static void stepped(int s, siginfo_t *i, void *c) {
    greg_t *r = ((ucontext_t *)c)->uc_mcontext.gregs;
    long at = r[REG_RIP] - (long)text_site;
    if (at >= 0 && at < 12 && steps < 8) step_at[steps++] = at;
}

static void *thread(void *arg) {
    long wrong = 0;
    __m256i mine = _mm256_set1_epi64x((long)arg), now;
    unsigned short control = 0x37f | ((long)arg & 3) << 10, got;
    __asm__ volatile("fldcw %0" ::"m"(control));
    for (int round = 0; round < 2000; round++) {
        __asm__ volatile("vmovdqa %0,%%ymm7" ::"m"(mine) : "xmm7");
        wrong += call(text_site, 0, pid) + call(other_site, 0, pid);
        __asm__ volatile("vmovdqa %%ymm7,%0; fnstcw %1" : "=m"(now), "=m"(got));
        wrong += memcmp(&now, &mine, 32) != 0 || got != control;
    }
    return (void *)wrong;
}

static void *changer(void *arg) {
    for (int round = 0; round < 200; round++) {
        mprotect(other, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
        ((volatile char *)other)[4000]++;
        mprotect(other, 4096, PROT_READ | PROT_EXEC);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc == 3) return call(text_site, 0, getpid());
    pid = getpid();
    V(many(text_site, 0, pid, 1000));
    V(many(other_site, 0, pid, 1000));
    if (argc == 2) {
        say("%02x %02x %02x", *(unsigned char *)text_site, (unsigned char)text_site[5], (unsigned char)text_site[6]);
        return 0;
    }
    V(many(text_middle, 39, pid, 200));
    V(many(text_middle, 110, getppid(), 200));
    V(many(text_middle, 9999, -ENOSYS, 10));

    sigaction(SIGALRM, &(struct sigaction){.sa_sigaction = alarmed, .sa_flags = SA_SIGINFO | SA_RESTART}, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 500}, {0, 500}}, NULL);
    long wrong = 0;
    while (alarms >= 0 && alarms < 200) wrong += many(text_site, 0, pid, 100);
    V(wrong);
    V((long)thread((void *)7));
    int ends[2];
    MUST(pipe(ends));
    long bytes = 0;
    if (fork() == 0) {
        for (int i = 0; i < 200; i++) usleep(700), write(ends[1], "x", 1);
        _exit(0);
    }
    close(ends[1]);
    for (char byte; read(ends[0], &byte, 1) == 1;) bytes += byte == 'x';
    V(bytes);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    wait(NULL);
    V(alarms > 200);

    pthread_t threads[5];
    pthread_create(&threads[4], NULL, changer, NULL);
    for (long i = 0; i < 4; i++) pthread_create(&threads[i], NULL, thread, (void *)i);
    for (int i = 0; i < 5; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        V((long)bad);
    }

    for (int i = 0; i < 20; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) _exit(many(text_site, 0, getpid(), 300) != 0);
        waitpid(child, &status, 0);
        wrong += status;
        child = vfork();
        if (child == 0) {
            execl(argv[0], argv[0], "one", "call", NULL);
            _exit(9);
        }
        waitpid(child, &status, 0);
        wrong += status;
    }
    V(wrong);

    sigaction(SIGTRAP, &(struct sigaction){.sa_sigaction = stepped, .sa_flags = SA_SIGINFO}, NULL);
    __asm__ volatile("pushf; orl $0x100,(%%rsp); popf; call *%0; pushf; andl $~0x100,(%%rsp); popf" ::"r"(text_site) : "rax", "rcx", "r11", "r12", "memory", "cc");
    say("steps: %ld: %ld %ld %ld %ld", steps, step_at[0], step_at[1], step_at[2], step_at[3]);

    // What is written is run, and around it is what has always been there.
    MUST(mprotect(text, 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
    text_site[1] = 110;
    V(memcmp(text_site, "\xb8\x6e\0\0\0\x0f\x05", 7));
    V(many(text_site, 0, getppid(), 200));
    MUST(mprotect(text, 4096, PROT_READ | PROT_EXEC));
    V(many(text_site, 0, getppid(), 200));
    V(many(other_site, 0, pid, 200));
    // Another page at its place, and where the hints of a platform may lie.
    char *place = (char *)0x50f0000;
    V(mmap(place, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == place);
    long sum = 0;
    for (int i = 0; i < 65536; i++) sum += place[i];
    memset(place, 1, 65536);
    V(sum);
    V(many(other_site, 0, pid, 200));
    return 0;
}
