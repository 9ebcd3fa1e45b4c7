// What a faulting instruction gives: signal, code, address, trap number; and registers that live through handlers.
#include "check.h"
#include <immintrin.h>

static sigjmp_buf jump;
static int number, code;
static char *where;
static long trap, error, cr2;
static void caught(int s, siginfo_t *i, void *c) {
    ucontext_t *u = c;
    number = s, code = i->si_code, where = i->si_addr;
    // The sandbox is not told the vector and the error code of an exception: it derives them from signal and code,
    // which does not tell the two floating-point exceptions apart (16, 19), nor gives more than "write" of the code.
    trap = u->uc_mcontext.gregs[REG_TRAPNO], error = trap == 14 ? u->uc_mcontext.gregs[REG_ERR] & 2 : 0, cr2 = u->uc_mcontext.gregs[REG_CR2];
    if (trap == 19) trap = 16;
    siglongjmp(jump, 1);
}
// For an address that is that of an instruction of no name.
#define ANY ((char *)1)
#define FAULT(name, base, ...) do { number = code = 0; where = 0; if (!sigsetjmp(jump, 1)) { __VA_ARGS__; } \
    say("%s: signal %d code %d address %+ld trap %ld error %ld", name, number, code, number && (base) != ANY ? (long)(where - (char *)(base)) : 0, trap, error); } while (0)
static volatile int zero;
static volatile double fzero;
extern char at_ud[], at_hlt[], at_div[], at_int3[], at_priv[];

static void steps(int s, siginfo_t *i, void *c) { (void)s; (void)i; ucontext_t *u = c; number++; code = i->si_code; if (number >= 5) u->uc_mcontext.gregs[REG_EFL] &= ~0x100; }
static void smash(int s, siginfo_t *i, void *c) {
    (void)s; (void)i; (void)c;
    __asm__ volatile("vpxor %%ymm0,%%ymm0,%%ymm0; vpxor %%ymm1,%%ymm1,%%ymm1; vpxor %%ymm15,%%ymm15,%%ymm15; fninit; fldz; fldz; xor %%r10,%%r10; xor %%r11,%%r11; std; cld" ::: "xmm0", "xmm1", "xmm15", "r10", "r11");
    number++;
}
static void change(int s, siginfo_t *i, void *c) {
    (void)s; (void)i;
    ucontext_t *u = c;
    u->uc_mcontext.gregs[REG_RAX] = 4242;
    u->uc_mcontext.fpregs->_xmm[3].element[0] = 777;
    u->uc_mcontext.gregs[REG_RIP] += 2;
}
static void *spin(void *arg) {
    // The vector registers hold this thread's own value across system calls and switches.
    unsigned long bad = 0;
    __m256i mine = _mm256_set1_epi64x((long)arg);
    unsigned short control = 0x37f | ((long)arg & 3) << 10, got;
    __asm__ volatile("fldcw %0" ::"m"(control));
    unsigned mxcsr = 0x1f80 | ((long)arg & 3) << 13;
    _mm_setcsr(mxcsr);
    for (int i = 0; i < 2000; i++) {
        __m256i now;
        __asm__ volatile("vmovdqa %1,%%ymm7; mov $24,%%eax; syscall; vmovdqa %%ymm7,%0" : "=m"(now) : "m"(mine) : "rax", "rcx", "r11", "xmm7", "memory");
        bad += memcmp(&now, &mine, 32) != 0;
        __asm__ volatile("fnstcw %0" : "=m"(got));
        bad += got != control || (_mm_getcsr() & ~0x3f) != mxcsr;
    }
    return (void *)bad;
}

int main(void) {
    static char alternate[65536];
    sigaltstack(&(stack_t){.ss_sp = alternate, .ss_size = sizeof alternate}, NULL);
    int all[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    for (int i = 0; i < 6; i++) handle(all[i], caught, SA_SIGINFO | SA_ONSTACK);
    char *page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    mprotect(page + 8192, 4096, PROT_READ);
    FAULT("read nothing", page, (void)*(volatile char *)(page + 4096 + 5));
    FAULT("write nothing", page, page[4096 + 6] = 1);
    FAULT("read what is read-only", page, (void)*(volatile char *)(page + 8192 + 7));
    FAULT("write to read-only", page, page[8192 + 7] = 1);
    FAULT("run data", page, ((void (*)(void))page)());
    FAULT("run nothing", page, ((void (*)(void))(page + 4096))());
    mprotect(page, 4096, PROT_NONE);
    FAULT("read none", page, (void)*(volatile char *)(page + 1));
    FAULT("null", 0, *(volatile int *)0 = 1);
    FAULT("kernel's half", 0, number = 0; *(volatile int *)0xffffffff80000000ul = 1);
    FAULT("no address at all", 0, *(volatile int *)0x1234567812345678ul = 1);
    FAULT("jump to no address", 0, ((void (*)(void))0x8000000000000000ul)());
    char path[] = "/tmp/fault-XXXXXX";
    int fd = mkstemp(path);
    ftruncate(fd, 100);
    char *file = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    FAULT("past the end of the file", file, file[4096 + 9] = 1);
    FAULT("in the last page", file, file[4000] = 1);
    unlink(path);
    FAULT("divide by zero", at_div, __asm__ volatile("xor %%edx,%%edx; mov $1,%%eax; xor %%ecx,%%ecx; .globl at_div; at_div: div %%ecx" ::: "rax", "rcx", "rdx"));
    FAULT("overflow in a division", ANY, number = INT_MIN / (zero - 1););
    FAULT("undefined instruction", at_ud, __asm__ volatile(".globl at_ud; at_ud: ud2"));
    FAULT("privileged instruction", 0, __asm__ volatile("hlt"));
    FAULT("privileged register", 0, __asm__ volatile("mov %%cr0,%%rax" ::: "rax"));
    FAULT("int3", 0, __asm__ volatile("int3"));
    FAULT("int 3 of two bytes", 0, __asm__ volatile(".byte 0xcd, 3"));
    FAULT("int 77", 0, __asm__ volatile("int $77"));
    FAULT("single step", ANY, __asm__ volatile("pushfq; orq $0x100,(%%rsp); popfq; nop; nop" ::: "memory"););
    FAULT("port", 0, __asm__ volatile("in $0x60,%%al" ::: "rax"));
    FAULT("x87 divide by zero", ANY, unsigned short c = 0x37b; __asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp; fwait" ::"m"(c)));
    __asm__ volatile("fninit");
    FAULT("sse divide by zero", ANY, _mm_setcsr(0x1f80 & ~0x200); volatile double r = 1 / fzero; (void)r);
    FAULT("sse invalid", ANY, _mm_setcsr(0x1f80 & ~0x80); volatile double r = fzero / fzero; (void)r);
    FAULT("sse inexact", ANY, _mm_setcsr(0x1f80 & ~0x1000); volatile double t = 3; volatile double r = 1 / t; (void)r);
    _mm_setcsr(0x1f80);
    FAULT("misaligned sse", 0, __asm__ volatile("movaps (%0),%%xmm0" ::"r"(alternate + 1) : "xmm0"));
    // No alignment check (EFLAGS.AC): under some hypervisors the exception never comes, and the program spins on the host itself.
    FAULT("bound to a stack that is not there", 0, __asm__ volatile("mov %%rsp,%%rbx; mov $64,%%rsp; push %%rax; mov %%rbx,%%rsp" ::: "rbx", "memory"));
    // Stepping: five traps, then the handler clears the flag.
    number = 0;
    handle(SIGTRAP, steps, SA_SIGINFO);
    __asm__ volatile("pushfq; orq $0x100,(%%rsp); popfq; nop; nop; nop; nop; nop; nop; nop; nop" ::: "memory");
    say("steps %d code %d", number, code);
    // A handler's own use of registers is nobody's business.
    number = 0;
    handle(SIGUSR1, smash, SA_SIGINFO);
    unsigned long before[4] = {1, 2, 3, 4}, after[4] = {0}, high[4] = {0};
    double st = 0;
    pid_t pid = getpid();
    __asm__ volatile("fninit; fldpi; vmovdqu %3,%%ymm0; vmovdqu %3,%%ymm15; mov $62,%%eax; mov %4,%%edi; mov $10,%%esi; syscall; vmovdqu %%ymm0,%0; vmovdqu %%ymm15,%1; fstpl %2"
        : "=m"(after), "=m"(high), "=m"(st) : "m"(before), "r"(pid) : "rax", "rcx", "r11", "rdi", "rsi", "xmm0", "xmm15", "memory");
    say("handlers %d ymm0 %lu %lu %lu %lu ymm15 %lu %lu st0 %.4f", number, after[0], after[1], after[2], after[3], high[0], high[3], st);
    handle(SIGILL, change, SA_SIGINFO);
    unsigned long rax = 1, xmm3 = 2;
    __asm__ volatile("ud2; movq %%xmm3,%1" : "=a"(rax), "=r"(xmm3)::"xmm3");
    say("the handler's changes count: rax %lu xmm3 %lu", rax, xmm3 & 0xffffffff);
    unsigned long r[6];
    __asm__ volatile("mov $1,%%r10; mov $2,%%r8; mov $3,%%r9; mov $4,%%rdx; mov $5,%%rdi; mov $6,%%rsi; mov $39,%%eax; syscall; mov %%r10,0(%0); mov %%r8,8(%0); mov %%r9,16(%0); mov %%rdx,24(%0); mov %%rdi,32(%0); mov %%rsi,40(%0)"
        ::"b"(r) : "rax", "rcx", "r11", "r8", "r9", "r10", "rdx", "rdi", "rsi", "memory");
    say("a system call keeps registers: %lu %lu %lu %lu %lu %lu", r[0], r[1], r[2], r[3], r[4], r[5]);
    unsigned long rcx, rip;
    __asm__ volatile("mov $39,%%eax; lea 1f(%%rip),%1; syscall; 1: mov %%rcx,%0" : "=r"(rcx), "=&r"(rip)::"rax", "rcx", "r11");
    say("rcx is the return address: %d", rcx == rip);
    pthread_t threads[4];
    void *bad;
    for (long i = 0; i < 4; i++) pthread_create(&threads[i], NULL, spin, (void *)(i + 1));
    for (int i = 0; i < 4; i++) { pthread_join(threads[i], &bad); say("thread %d lost its registers %ld times", i, (long)bad); }
    // A child has its parent's registers.
    unsigned long child_value = 0, one = 0x1234567;
    pid_t p;
    __asm__ volatile("movq %2,%%xmm9; mov $57,%%eax; syscall; movq %%xmm9,%1" : "=&a"(p), "=&r"(child_value) : "r"(one) : "rcx", "r11", "xmm9", "memory");
    if (!p) _exit(child_value == one ? 71 : 72);
    say("fork keeps vector registers: %s %d", waited(p), child_value == one);
    V(syscall(9999));
    V(syscall(-1));
    V(syscall(600));
    return 0;
}
