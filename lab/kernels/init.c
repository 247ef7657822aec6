// SPDX-License-Identifier: BSD-3-Clause
/*
 * The first process of a guest of the lab.
 *
 * It runs from the initrd, where the host put beside it:
 *
 *	/modules/order	names of modules in /modules, one a line, each after those that it needs
 *	/lab/		the payload, with the program boot.py
 *
 * It loads the modules, mounts the disk whose serial is "root", shows the payload as /run/lab in it,
 * makes it the root and starts python3 on boot.py there, with the console as its three streams. It
 * stays process 1 and collects orphans until boot.py ends; then it powers the machine off.
 *
 * Each line it prints starts with "LAB-INIT". "LAB-INIT FAILED:" is followed by what failed and why,
 * and by the power going off.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char boot[] = "/run/lab/boot.py";

__attribute__((noreturn)) static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	// Process 1 must not return. If the power stays on, a panic is what the host can see.
	_exit(1);
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	printf("LAB-INIT FAILED: ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf(": %s\n", strerror(error));
	power_off();
}

static void mount_at(const char *source, const char *where, const char *type, unsigned long flags,
		     const char *data)
{
	if (mkdir(where, 0755) && errno != EEXIST && errno != EROFS)
		fail("cannot make the directory %s", where);
	if (mount(source, where, type, flags, data))
		fail("cannot mount %s (%s) at %s", source, type ? type : "-", where);
}

// The kernel opened /dev/console before devtmpfs was there, that is, with no success.
static void use_console(void)
{
	int console = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);

	for (int stream = 0; stream < 3; stream++)
		if (console < 0 || dup2(console, stream) != stream)
			power_off();
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static void load_module(const char *name)
{
	char path[PATH_MAX];
	int file;

	snprintf(path, sizeof(path), "/modules/%s", name);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		fail("cannot open the module %s", path);
	if (syscall(SYS_finit_module, file, "", 0) && errno != EEXIST)
		fail("cannot load the module %s", name);
	close(file);
	// The initrd stays in memory as long as the guest runs; modules have been copied out of it.
	unlink(path);
}

static void load_modules(void)
{
	FILE *order = fopen("/modules/order", "re");
	char name[NAME_MAX + 2];
	unsigned int count = 0;

	if (!order)
		fail("cannot read /modules/order");
	while (fgets(name, sizeof(name), order)) {
		name[strcspn(name, "\n")] = '\0';
		load_module(name);
		count++;
	}
	fclose(order);
	printf("LAB-INIT modules loaded: %u\n", count);
}

static int has_serial(const char *disk, const char *wanted)
{
	char path[PATH_MAX];
	char serial[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/%s/serial", disk);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (!fgets(serial, sizeof(serial), file))
		serial[0] = '\0';
	fclose(file);
	serial[strcspn(serial, "\n")] = '\0';
	return strcmp(serial, wanted) == 0;
}

// Disks are told by their serial: their names follow the order of probing, which is the reverse of
// the command line's on virtio-mmio and not on PCI.
static void mount_root(void)
{
	DIR *disks = opendir("/sys/block");
	struct dirent *disk;
	char path[PATH_MAX];

	if (!disks)
		fail("cannot list /sys/block");
	while ((disk = readdir(disks)))
		if (has_serial(disk->d_name, "root"))
			break;
	if (!disk) {
		errno = ENODEV;
		fail("no disk has the serial \"root\"");
	}
	snprintf(path, sizeof(path), "/dev/%s", disk->d_name);
	closedir(disks);
	mount_at(path, "/root", "erofs", MS_RDONLY, NULL);
	printf("LAB-INIT root mounted: %s\n", path);
}

static void move(const char *from, const char *to)
{
	if (mount(from, to, NULL, MS_MOVE, NULL))
		fail("cannot move the mount %s to %s", from, to);
}

static void switch_root(void)
{
	move("/proc", "/root/proc");
	move("/sys", "/root/sys");
	move("/dev", "/root/dev");
	mount_at("run", "/root/run", "tmpfs", MS_NODEV | MS_NOSUID, "mode=755");
	mount_at("tmp", "/root/tmp", "tmpfs", MS_NODEV | MS_NOSUID, "mode=1777");
	mount_at("shm", "/root/dev/shm", "tmpfs", MS_NODEV | MS_NOSUID, "mode=1777");
	mount_at("devpts", "/root/dev/pts", "devpts", MS_NOEXEC | MS_NOSUID,
		 "ptmxmode=666,mode=620,gid=5");
	mount_at("/lab", "/root/run/lab", NULL, MS_BIND, NULL);
	if (chdir("/root"))
		fail("cannot enter the root");
	move(".", "/");
	if (chroot(".") || chdir("/"))
		fail("cannot change the root");
}

// Programs that are tested speak over 127.0.0.1 to themselves. A kernel without network has no use
// for it and is not at fault.
static void raise_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int internet = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (internet < 0)
		return;
	if (ioctl(internet, SIOCSIFFLAGS, &request))
		printf("LAB-INIT the loopback interface stays down: %s\n", strerror(errno));
	close(internet);
}

static pid_t start(void)
{
	static char *const arguments[] = { "python3", "-B", (char *)boot, NULL };
	static char *const environment[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"LANG=C.UTF-8",
		"TERM=dumb",
		NULL,
	};
	pid_t child;

	if (access(boot, R_OK))
		fail("the payload has no %s", boot);
	printf("LAB-INIT starting: %s\n", boot);
	child = fork();
	if (child < 0)
		fail("cannot start a process");
	if (child == 0) {
		setsid();
		execve("/usr/bin/python3", arguments, environment);
		printf("LAB-INIT cannot execute /usr/bin/python3: %s\n", strerror(errno));
		_exit(127);
	}
	return child;
}

static void collect_until(pid_t child)
{
	int status;
	pid_t ended;

	do
		ended = wait(&status);
	while (ended != child && (ended > 0 || errno == EINTR));
	if (ended != child)
		fail("cannot wait for %s", boot);
	if (WIFSIGNALED(status))
		printf("LAB-INIT %s was killed by signal %d\n", boot, WTERMSIG(status));
	else
		printf("LAB-INIT %s ended with status %d\n", boot, WEXITSTATUS(status));
}

int main(void)
{
	mount("dev", "/dev", "devtmpfs", MS_NOSUID, NULL);
	use_console();
	mount_at("proc", "/proc", "proc", MS_NODEV | MS_NOEXEC | MS_NOSUID, NULL);
	mount_at("sys", "/sys", "sysfs", MS_NODEV | MS_NOEXEC | MS_NOSUID, NULL);
	load_modules();
	mount_root();
	switch_root();
	raise_loopback();
	collect_until(start());
	power_off();
}
