/* SPDX-License-Identifier: Apache-2.0
 *
 * The first process of a guest, alone in the initramfs with the modules it loads.
 *
 * It loads the modules that /modules lists, mounts the read-only root, mounts an overlay on it whose upper
 * layer is /upper of this initramfs, mounts the disk with the kernel's other modules and the pseudo file
 * systems, and then executes the init of the root. That is systemd if the root has it and starts fim-init as
 * a service, else /usr/sbin/fim-init. It is a static C program, because each fork costs 10 ms without
 * hardware acceleration.
 *
 * If the initramfs holds the root itself, for a kernel that cannot mount disks, it stays the root.
 *
 * Files below /upper of a cpio archive that is appended to the initramfs become part of the guest's root.
 * This needs an initramfs on tmpfs, which it is unless the command line has root=.
 *
 * A machine that may reboot has a third disk, with ext4: then the upper layer of the root is on it, above
 * /upper.
 *
 * Disks are found by the UUID in their superblock and not by their order; see harness/images/erofs.py and
 * ext4.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEW_ROOT     "/newroot"
#define NEXT_INIT    "/usr/sbin/fim-init"
#define SYSTEMD	     "/usr/lib/systemd/systemd"
#define SERVICE	     "/etc/systemd/system/fim-init.service"
#define ROOT_UUID    "fim-harness-root"
#define MODULES_UUID "fim-harness-mods"
#define STATE_UUID   "fim-harness-disk"

#define SUPERBLOCK 1024

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Prints why the guest cannot boot and powers off, so that the host does not wait for a deadline. */
static void fatal(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	va_start(arguments, format);
	printf("fim-init: fatal: cannot ");
	vprintf(format, arguments);
	printf(": %s\n", strerror(error));
	va_end(arguments);
	fflush(stdout);
	reboot(RB_POWER_OFF);
	exit(1);
}

static void load_module(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		fatal("open %s", path);
	if (syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST)
		fatal("load %s", path);
	close(file);
}

/* /modules has one path a line, each after its dependencies. */
static void load_modules(void)
{
	char line[512];
	FILE *list = fopen("/modules", "re");

	if (!list)
		fatal("open /modules");
	while (fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = '\0';
		load_module(line);
	}
	fclose(list);
}

/* Where the superblock of a file system has its magic number, in little-endian bytes, and its UUID. */
struct format {
	const char *type;
	size_t magic, uuid;
	const char *bytes;
	size_t length;
	unsigned long flags;
};

static const struct format erofs = { "erofs", 0, 48, "\xe2\xe1\xf5\xe0", 4, MS_RDONLY };
static const struct format ext4 = { "ext4", 56, 104, "\x53\xef", 2, 0 };

static int disk_has_uuid(const char *device, const struct format *format, const char *uuid)
{
	unsigned char block[128];
	ssize_t size;
	int file = open(device, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return 0;
	size = pread(file, block, sizeof(block), SUPERBLOCK);
	close(file);
	return size == sizeof(block) && memcmp(block + format->magic, format->bytes, format->length) == 0 &&
	       memcmp(block + format->uuid, uuid, 16) == 0;
}

/* Mounts the disk with this format and UUID; returns 0, or -1 if no disk has them. */
static int mount_disk(const struct format *format, const char *uuid, const char *where)
{
	char device[] = "/dev/vda";

	for (; device[7] <= 'z'; device[7]++) {
		if (!disk_has_uuid(device, format, uuid))
			continue;
		if (mount(device, where, format->type, format->flags, NULL) != 0)
			fatal("mount %s", device);
		return 0;
	}
	errno = ENODEV;
	return -1;
}

/* A kernel without one of these is still worth a test: the tests that need it report what is missing. */
static const struct {
	const char *type, *where, *options;
	unsigned long flags;
} pseudo[] = {
	{ "proc", "/proc", "", MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "sysfs", "/sys", "", MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "devpts", "/dev/pts", "ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC },
	{ "tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV },
	{ "tmpfs", "/run", "mode=0755", MS_NOSUID | MS_NODEV },
	{ "tmpfs", "/tmp", "mode=1777", MS_NOSUID | MS_NODEV },
	{ "cgroup2", "/sys/fs/cgroup", "", MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "bpf", "/sys/fs/bpf", "mode=0700", MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "debugfs", "/sys/kernel/debug", "", MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "tracefs", "/sys/kernel/tracing", "", MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "securityfs", "/sys/kernel/security", "", MS_NOSUID | MS_NODEV | MS_NOEXEC },
};

static void mount_pseudo(void)
{
	for (size_t i = 0; i < LENGTH(pseudo); i++) {
		mkdir(pseudo[i].where, 0755);
		if (mount(pseudo[i].type, pseudo[i].where, pseudo[i].type, pseudo[i].flags,
			  pseudo[i].options) != 0)
			printf("fim-init: cannot mount %s at %s: %s\n", pseudo[i].type, pseudo[i].where,
			       strerror(errno));
	}
}

static void mount_root(void)
{
	const char *layers = "lowerdir=/lower,upperdir=/upper,workdir=/work";

	mkdir("/lower", 0755);
	mkdir("/upper", 0755);
	mkdir("/work", 0755);
	mkdir("/state", 0755);
	mkdir(NEW_ROOT, 0755);
	if (mount_disk(&erofs, ROOT_UUID, "/lower") != 0)
		fatal("find the root disk");
	if (mount_disk(&ext4, STATE_UUID, "/state") == 0) {
		mkdir("/state/upper", 0755);
		mkdir("/state/work", 0755);
		layers = "lowerdir=/upper:/lower,upperdir=/state/upper,workdir=/state/work";
	}
	if (mount("overlay", NEW_ROOT, "overlay", 0, layers) != 0)
		fatal("mount the overlay");
	mkdir(NEW_ROOT "/usr/lib/modules", 0755);
	if (mount_disk(&erofs, MODULES_UUID, NEW_ROOT "/usr/lib/modules") != 0)
		printf("fim-init: no disk has this kernel's modules\n");
}

static void enter_root(void)
{
	if (mount("/dev", NEW_ROOT "/dev", NULL, MS_MOVE, NULL) != 0)
		fatal("move /dev");
	if (chdir(NEW_ROOT) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0)
		fatal("move the root");
	if (chroot(".") != 0 || chdir("/") != 0)
		fatal("enter the root");
}

int main(void)
{
	char *arguments[] = { NEXT_INIT, NULL };
	char *environment[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
				"HOME=/root", "TERM=linux", NULL };

	mkdir("/dev", 0755);
	if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755") != 0 && errno != EBUSY)
		fatal("mount /dev");
	load_modules();
	if (access(NEXT_INIT, X_OK) != 0) {
		mount_root();
		enter_root();
	}
	mount_pseudo();
	fflush(stdout);
	if (access(SERVICE, R_OK) == 0) {
		arguments[0] = SYSTEMD;
		execve(SYSTEMD, arguments, environment);
		fatal("run %s", SYSTEMD);
	}
	execve(NEXT_INIT, arguments, environment);
	fatal("run %s", NEXT_INIT);
}
