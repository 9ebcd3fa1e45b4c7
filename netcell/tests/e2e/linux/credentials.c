// Users, groups, capabilities: who may become whom, and what set-id programs give.
#include "check.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/auxv.h>
#include <sys/fsuid.h>
#include <sys/xattr.h>

static void ids(const char *what) {
    uid_t r, e, s; gid_t gr, ge, gs;
    getresuid(&r, &e, &s), getresgid(&gr, &ge, &gs);
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2];
    syscall(SYS_capget, &head, caps);
    say("%s: uid %d %d %d fs %d gid %d %d %d fs %d, caps: permitted %d effective %d inheritable %d kill %d", what, r, e, s, setfsuid(-1), gr, ge, gs, setfsgid(-1), caps[0].permitted != 0, caps[0].effective != 0, caps[0].inheritable != 0, (caps[0].effective >> CAP_KILL) & 1);
}
static void raw_caps(uint32_t effective, uint32_t permitted, uint32_t inheritable) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2] = {{effective, permitted, inheritable}, {0, 0, 0}};
    V(syscall(SYS_capset, &head, caps));
}
#define BIT(c) (1u << (c))
static char *copy_of(const char *self, const char *path, uid_t uid, gid_t gid, int mode) {
    char block[65536];
    int from = open(self, O_RDONLY), to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    MUST(from); MUST(to);
    ssize_t n;
    while ((n = read(from, block, sizeof block)) > 0) MUST(write(to, block, n));
    MUST(fchown(to, uid, gid)); MUST(fchmod(to, mode));
    close(from), close(to);
    return (char *)path;
}
static void run(const char *path) { execl(path, "set", "show", path, NULL); say("exec %s", strerrorname_np(errno)); }

int main(int argc, char **argv) {
    if (argc > 2) { ids(argv[2]); say("secure %d dumpable %d LD %s", (int)getauxval(AT_SECURE), prctl(PR_GET_DUMPABLE), getenv("LD_PRELOAD") ? "kept" : "-"); return 0; }
    // Not below /tmp: set-id programs may be refused there by its mount.
    char place[] = "/var/tmp/credentials-XXXXXX";
    MUST(mkdtemp(place) ? 0 : -1); MUST(chmod(place, 0777)); MUST(chdir(place));
    gid_t groups[20];
    V(setgroups(0, NULL)); V(getgroups(0, NULL));
    V(setgroups(3, (gid_t[]){30, 10, 20})); V(getgroups(20, groups)); say("%d %d %d", groups[0], groups[1], groups[2]); V(getgroups(2, groups)); V(getgroups(-1, groups)); V(getgroups(3, (void *)8)); V(setgroups(70000, groups)); V(setgroups(3, (void *)8));
    V(setuid(-1)); V(setgid(-1)); V(setreuid(-1, -1)); V(setresuid(-1, -1, -1));
    CHILD("setuid as root", { V(setuid(1000)); ids("now"); V(setuid(0)); V(seteuid(0)); V(setuid(1000)); V(setgid(5)); V(setgroups(0, NULL)); V(setresuid(0, -1, -1)); V(setresuid(1000, 1000, 1000)); });
    CHILD("seteuid and back", { V(seteuid(1000)); ids("lowered"); V(kill(1, 0) == 0 || errno == EPERM); V(seteuid(0)); ids("raised"); });
    CHILD("setreuid", { V(setreuid(1000, 2000)); ids("now"); V(setreuid(2000, 1000)); ids("swapped"); V(setreuid(-1, 3000)); V(setreuid(3000, -1)); V(setreuid(-1, 2000)); ids("back"); });
    CHILD("setresuid", { V(setresuid(1, 2, 3)); ids("now"); V(setresuid(3, 1, 2)); ids("turned"); V(setresuid(4, -1, -1)); V(setuid(2)); ids("setuid of a saved id"); V(setfsuid(3)); ids("fs"); });
    CHILD("groups", { V(setresgid(1, 2, 3)); ids("now"); V(setgid(9)); ids("setgid as root"); setuid(5); V(setgid(10)); V(setresgid(1, 1, 1)); V(setregid(9, 9)); V(setgid(9)); });
    CHILD("setregid", { setresgid(10, 20, 30); setresuid(5, 5, 5); V(setregid(20, 30)); ids("now"); V(setregid(10, -1)); V(setgid(20)); ids("then"); });
    CHILD("keepcaps", { prctl(PR_SET_KEEPCAPS, 1); setuid(1000); ids("kept, not effective"); raw_caps(BIT(CAP_SETUID) | BIT(CAP_KILL), BIT(CAP_SETUID) | BIT(CAP_KILL), 0); ids("raised"); V(setuid(7)); ids("then"); });
    CHILD("fsuid", { V(setfsuid(1000)); ids("fs"); V(setfsuid(0)); ids("back"); close(open("mine", O_CREAT | O_RDWR, 0600)); V(open("mine", O_RDWR)); setfsuid(1000); V(open("mine", O_RDWR)); setfsuid(0); V(unlink("mine")); });
    // capset and capget.
    struct __user_cap_header_struct head = {0x1234, 0};
    struct __user_cap_data_struct caps[2];
    V(syscall(SYS_capget, &head, NULL)); say("version %x", head.version); head.version = 0x1234; V(syscall(SYS_capget, &head, caps)); say("version %x", head.version); V(syscall(SYS_capget, (void *)8, caps)); head.pid = 999999; V(syscall(SYS_capget, &head, caps)); head.pid = -1; V(syscall(SYS_capget, &head, caps)); head.pid = getppid() ? 0 : 0; V(syscall(SYS_capset, &head, (void *)8));
    CHILD("dropping", {
        raw_caps(0, BIT(CAP_KILL) | BIT(CAP_CHOWN), 0); ids("effective none"); raw_caps(BIT(CAP_SETUID), BIT(CAP_KILL), 0); raw_caps(BIT(CAP_KILL), BIT(CAP_KILL) | BIT(CAP_CHOWN), BIT(CAP_CHOWN)); ids("some"); raw_caps(0, BIT(CAP_KILL) | BIT(CAP_SETUID), 0); V(setuid(1000)); V(setgroups(0, NULL)); V(chown("/tmp", 1, 1));
        head.version = _LINUX_CAPABILITY_VERSION_3; head.pid = getppid(); V(syscall(SYS_capset, &head, caps));
    });
    CHILD("bounding set", { V(prctl(PR_CAPBSET_DROP, CAP_KILL)); V(prctl(PR_CAPBSET_READ, CAP_KILL)); V(prctl(PR_CAPBSET_DROP, 99)); run(argv[0]); });
    CHILD("dropping as nobody", { setuid(5); V(prctl(PR_CAPBSET_DROP, CAP_KILL)); });
    CHILD("ambient", {
        V(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0)); raw_caps(BIT(CAP_KILL) | BIT(CAP_SETUID), BIT(CAP_KILL) | BIT(CAP_SETUID), BIT(CAP_KILL)); V(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0)); V(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0)); V(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0)); V(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 99, 0, 0)); V(prctl(PR_CAP_AMBIENT, 9, 0, 0, 0));
        setresuid(-1, 1000, -1); prctl(PR_SET_KEEPCAPS, 1);
        CHILD("exec with them", { V(setresuid(1000, 1000, 1000)); V(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0)); run(copy_of("/proc/self/exe", "./plain", 1000, 1000, 0755)); });
        V(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)); V(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0));
    });
    CHILD("securebits", { V(prctl(PR_SET_SECUREBITS, 1 << 2)); V(prctl(PR_GET_SECUREBITS)); setuid(1000); ids("no fixup"); V(prctl(PR_SET_SECUREBITS, 1)); run(argv[0]); });
    // Set-id programs.
    char *plain = copy_of(argv[0], "./plain", 0, 0, 0755), *suid = copy_of(argv[0], "./suid", 0, 0, 04755), *other = copy_of(argv[0], "./other", 2000, 2000, 06755), *sgid = copy_of(argv[0], "./sgid", 0, 77, 02755), *no_x = copy_of(argv[0], "./nox", 0, 77, 02745), *mine = copy_of(argv[0], "./mine", 1000, 1000, 0500);
    setenv("LD_PRELOAD", "", 1);
    CHILD("root runs plain", { run(plain); });
    CHILD("root runs another's", { run(other); });
    CHILD("nobody runs plain", { setresgid(1000, 1000, 1000); setuid(1000); run(plain); });
    CHILD("nobody runs root's", { setresgid(1000, 1000, 1000); setuid(1000); run(suid); });
    CHILD("nobody runs another's", { setresgid(1000, 1000, 1000); setuid(1000); run(other); });
    CHILD("nobody runs a group's", { setresgid(1000, 1000, 1000); setuid(1000); run(sgid); });
    CHILD("group may not execute", { setresgid(1000, 1000, 1000); setuid(1000); run(no_x); });
    CHILD("own", { setuid(1000); run(mine); });
    CHILD("not own", { setuid(1001); run(mine); });
    CHILD("no new privileges", { setresgid(1000, 1000, 1000); setuid(1000); prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); run(suid); });
    CHILD("a script gives nothing", { int fd = open("./script", O_WRONLY | O_CREAT | O_TRUNC, 0755); dprintf(fd, "#!./plain show\n"); fchmod(fd, 04755); close(fd); setuid(1000); run("./script"); });
    CHILD("effective id and exec", { setresuid(1000, 0, 0); run(plain); });
    CHILD("real root, effective not", { setresuid(0, 1000, 1000); run(plain); });
    CHILD("saved id follows", { setresuid(1000, 1000, 0); run(plain); });
    CHILD("chown takes the bits", { struct stat st; V(chown(suid, 0, 0)); stat(suid, &st); say("%o", st.st_mode & 07777); chmod(other, 06755); V(chown(other, 1000, -1)); stat(other, &st); say("%o", st.st_mode & 07777); chmod(other, 06755); setuid(1000); int fd = open(other, O_WRONLY); V(write(fd, "x", 1)); stat(other, &st); say("%o", st.st_mode & 07777); V(chmod(other, 02755)); stat(other, &st); say("%o", st.st_mode & 07777); V(chmod(plain, 0777)); V(chown(other, 0, -1)); });
    char *all[] = {plain, suid, other, sgid, no_x, mine, "./script"};
    for (int i = 0; i < 7; i++) unlink(all[i]);
    MUST(rmdir(place));
    return 0;
}
