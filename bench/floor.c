// The kernel's own share of a container start: what an engine asks of it, by hand, without an engine.
//
//   floor LOWER SCRATCH CGROUP    LOWER: a root file system with /bin/true; SCRATCH: an empty directory on the
//                                 same kind of disk as the engines' roots; CGROUP: a name for the cgroups
//
// For each line on stdin it makes one container (every namespace, a cgroup in each v1 hierarchy or the one v2
// hierarchy, an overlay with the usual mounts, pivot_root, exec), waits for its end, removes what it made, and
// prints the milliseconds that all of that took. As in Cloche, the child mounts while the parent attaches it:
// the first attach after quiet waits for an RCU grace period, and nothing else should wait behind it.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HIERARCHIES 32
static char mounts[HIERARCHIES][256], leaves[HIERARCHIES][512];
static int hierarchies;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void must(int result, const char *what)
{
    if (result < 0)
        die(what);
}

static void find_hierarchies(void)
{
    FILE *table = fopen("/proc/self/mounts", "r");
    char source[256], target[256], type[64], rest[512];
    int v1 = 0;
    if (!table)
        die("/proc/self/mounts");
    for (int pass = 0; pass < 2 && !v1; pass++) {
        rewind(table);
        while (fscanf(table, "%255s %255s %63s %511[^\n]", source, target, type, rest) == 4)
            if (!strcmp(type, pass ? "cgroup2" : "cgroup") && hierarchies < HIERARCHIES) {
                strcpy(mounts[hierarchies++], target);
                v1 = !pass;
            }
    }
    fclose(table);
}

static void write_file(const char *directory, const char *name, const char *value)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    must(file, path);
    must(write(file, value, strlen(value)), path);
    close(file);
}

// A new v1 cpuset is empty, and no process may be attached to an empty one.
static void copy_cpuset(const char *parent, const char *leaf, const char *name)
{
    char path[600], value[256];
    snprintf(path, sizeof path, "%s/%s", parent, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    ssize_t length = read(file, value, sizeof value - 1);
    close(file);
    if (length > 0) {
        value[length] = 0;
        write_file(leaf, name, value);
    }
}

static void make_cgroups(const char *name)
{
    for (int i = 0; i < hierarchies; i++) {
        snprintf(leaves[i], sizeof leaves[i], "%s/%s", mounts[i], name);
        must(mkdir(leaves[i], 0755), leaves[i]);
        copy_cpuset(mounts[i], leaves[i], "cpuset.cpus");
        copy_cpuset(mounts[i], leaves[i], "cpuset.mems");
    }
}

static void attach(pid_t child)
{
    char number[32];
    snprintf(number, sizeof number, "%d", child);
    for (int i = 0; i < hierarchies; i++)
        write_file(leaves[i], "cgroup.procs", number);
}

static void mount_at(const char *source, const char *root, const char *at, const char *type, long flags,
                     const char *options)
{
    char path[600];
    snprintf(path, sizeof path, "%s%s", root, at);
    mkdir(path, 0755);
    must(mount(source, path, type, flags, options), path);
}

static void device(const char *root, const char *name, int major, int minor)
{
    char path[600];
    snprintf(path, sizeof path, "%s/dev/%s", root, name);
    must(mknod(path, S_IFCHR | 0666, makedev(major, minor)), path);
}

static void contain(const char *lower, const char *scratch, int attached)
{
    char options[2048], root[512], byte;
    static char *arguments[] = {"true", NULL}, *environment[] = {"PATH=/bin", NULL};
    snprintf(root, sizeof root, "%s/root", scratch);
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, scratch, scratch);
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
    must(mount("overlay", root, "overlay", 0, options), "overlay");
    mount_at("proc", root, "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_at("tmpfs", root, "/dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    mount_at("devpts", root, "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount_at("shm", root, "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k");
    mount_at("mqueue", root, "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_at("sysfs", root, "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
    device(root, "null", 1, 3);
    device(root, "zero", 1, 5);
    device(root, "full", 1, 7);
    device(root, "random", 1, 8);
    device(root, "urandom", 1, 9);
    device(root, "tty", 5, 0);
    must(sethostname("floor", 5), "sethostname");
    must(read(attached, &byte, 1), "attached");
    must(unshare(CLONE_NEWCGROUP), "cgroup namespace");
    must(chdir(root), root);
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "umount");
    must(chdir("/"), "/");
    execve("/bin/true", arguments, environment);
    die("execve");
}

static void directories(const char *scratch, int make)
{
    static const char *names[] = {"upper", "work", "root"};
    char path[600];
    if (make)
        must(mkdir(scratch, 0700), scratch);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", scratch, names[i]);
        if (make) {
            must(mkdir(path, 0755), path);
            continue;
        }
        // What the mount points left in the upper directory, and the kernel's own directory in the work directory.
        static const char *inside[] = {"proc", "dev", "sys", "work"};
        char inner[700];
        for (int j = 0; j < 4; j++) {
            snprintf(inner, sizeof inner, "%s/%s", path, inside[j]);
            rmdir(inner);
        }
        must(rmdir(path), path);
    }
    if (!make)
        must(rmdir(scratch), scratch);
}

static void once(const char *lower, const char *scratch, const char *name)
{
    int status, attached[2];
    directories(scratch, 1);
    make_cgroups(name);
    must(pipe2(attached, O_CLOEXEC), "pipe");
    struct { unsigned long long flags, pidfd, child_tid, parent_tid, exit_signal, stack[7]; } arguments = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET,
        .exit_signal = SIGCHLD,
    };
    pid_t child = syscall(SYS_clone3, &arguments, 64);
    must(child, "clone3");
    if (!child)
        contain(lower, scratch, attached[0]);
    attach(child);
    must(write(attached[1], "", 1), "attached");
    close(attached[0]);
    close(attached[1]);
    must(waitpid(child, &status, 0), "waitpid");
    for (int i = 0; i < hierarchies; i++)
        must(rmdir(leaves[i]), leaves[i]);
    directories(scratch, 0);
    if (status) {
        fprintf(stderr, "floor: the container ended with status %d\n", status);
        exit(1);
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

int main(int count, char **words)
{
    char line[16];
    if (count != 4) {
        fprintf(stderr, "usage: floor LOWER SCRATCH CGROUP\n");
        return 1;
    }
    find_hierarchies();
    while (fgets(line, sizeof line, stdin)) {
        double began = now();
        once(words[1], words[2], words[3]);
        printf("%.3f\n", now() - began);
        fflush(stdout);
    }
    return 0;
}
