/* SPDX-License-Identifier: Apache-2.0
 *
 * PID 1 of a guest after early-init has entered the root: it configures the
 * network and starts one sshd for each connection.
 *
 * In a root with systemd, systemd is PID 1 and starts it as a service.
 *
 * It is a static C program, because a shell with mount, ip, tar and a listening
 * sshd costs two seconds without hardware acceleration. It accepts connections
 * itself and runs `sshd -i` on each, so sshd starts once and not twice. It also
 * reads the keys from the run disk for each connection, so a machine that one
 * run saved and another run restored accepts only the keys of the latter.
 *
 * The run disk is the virtio disk with serial "fim-run", a tar archive (POSIX
 * ustar, files only):
 *   host_key          sshd's private key
 *   authorized_keys   the public keys that may log in
 *   clock             seconds and nanoseconds since 1970
 *   seed              64 random bytes
 *
 * If the content of the disk changes, another run has restored this guest from
 * a snapshot: the earlier connections are dead, the clock is wrong, and
 * everybody with the snapshot knows the state of the random number generator.
 *
 * init prints "fim-init: ready" on the console when it accepts connections, or
 * "fim-init: fatal: ..." and powers off.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ADDRESS		"10.0.2.15"
#define NETMASK		"255.255.255.0"
#define SSH_PORT	22
#define BACKLOG		64
#define RUN_DIR		"/run/fim"
#define RUN_DISK_SERIAL "fim-run"
#define TAR_BLOCK	512
#define SEED		64

static void print_line(const char *format, ...)
{
	char line[512];
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	/* One write for a line, because the kernel prints to the same console. */
	if (length > 0)
		dprintf(STDOUT_FILENO, "fim-init: %s\n", line);
}

/* Powers off, because a PID 1 that exits causes a kernel panic. */
static void fatal(const char *action)
{
	print_line("fatal: cannot %s: %s", action, strerror(errno));
	reboot(RB_POWER_OFF);
	_exit(1);
}

static void set_address(int control, unsigned long request, const char *address)
{
	struct ifreq interface = { .ifr_name = "eth0" };
	struct sockaddr_in *in = (struct sockaddr_in *)&interface.ifr_addr;

	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
	if (ioctl(control, request, &interface) != 0)
		fatal("set the address of eth0");
}

static void set_up(int control, const char *name)
{
	struct ifreq interface = { 0 };

	strncpy(interface.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(control, SIOCGIFFLAGS, &interface) != 0)
		fatal("read the flags of a network interface");
	interface.ifr_flags |= IFF_UP | IFF_RUNNING;
	if (ioctl(control, SIOCSIFFLAGS, &interface) != 0)
		fatal("bring up a network interface");
}

/* Needs no route: the host's end of the forwarded port is on the same network,
 * and the guest has no access to any other. */
static void network(void)
{
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (control < 0)
		fatal("open a socket");
	set_up(control, "lo");
	set_address(control, SIOCSIFADDR, ADDRESS);
	set_address(control, SIOCSIFNETMASK, NETMASK);
	set_up(control, "eth0");
	close(control);
}

static int listen_for_ssh(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(SSH_PORT) };
	int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof(any)) != 0 ||
	    listen(listener, BACKLOG) != 0)
		fatal("listen for SSH");
	return listener;
}

static int has_serial(char disk, const char *serial)
{
	char path[] = "/sys/block/vd_/serial", found[32] = "";
	int file;

	*strchr(path, '_') = disk;
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return 0;
	if (read(file, found, sizeof(found) - 1) < 0)
		found[0] = '\0';
	close(file);
	found[strcspn(found, "\n")] = '\0';
	return strcmp(found, serial) == 0;
}

static int open_run_disk(void)
{
	char device[] = "/dev/vda";

	for (; device[7] <= 'z'; device[7]++) {
		if (has_serial(device[7], RUN_DISK_SERIAL))
			return open(device, O_RDONLY | O_CLOEXEC);
	}
	errno = ENODEV;
	return -1;
}

/* Writes a new file and renames it, because another connection may be reading
 * the old one. */
static int write_file(const char *name, const char *data, size_t size)
{
	char path[sizeof(RUN_DIR) + 128], temporary[sizeof(path) + 16];
	int file, whole;

	snprintf(path, sizeof(path), RUN_DIR "/%.100s", name);
	snprintf(temporary, sizeof(temporary), "%s.%d", path, getpid());
	file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (file < 0)
		return -1;
	whole = write(file, data, size) == (ssize_t)size;
	close(file);
	return whole ? rename(temporary, path) : -1;
}

/* Unpacks the files of a tar archive. A header has the size as octal digits at
 * offset 124. A name with a slash is an error. */
static int unpack(const char *archive, size_t length)
{
	size_t at = 0, size;

	while (at + TAR_BLOCK <= length && archive[at] != '\0') {
		const char *header = archive + at;

		size = strtoul(header + 124, NULL, 8);
		at += TAR_BLOCK;
		errno = EINVAL;
		if (size > length - at || memchr(header, '/', 100))
			return -1;
		if (write_file(header, archive + at, size) != 0)
			return -1;
		at += (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
	}
	return 0;
}

/* Reads a file of the run disk and removes it, because it is used only once. */
static ssize_t take_file(const char *path, void *data, size_t size)
{
	ssize_t length = -1;
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file >= 0) {
		length = read(file, data, size);
		close(file);
		unlink(path);
	}
	return length;
}

static void set_clock(void)
{
	struct timespec now = { 0 };
	char text[64] = "", *end;

	if (take_file(RUN_DIR "/clock", text, sizeof(text) - 1) <= 0)
		return;
	now.tv_sec = strtoll(text, &end, 10);
	now.tv_nsec = strtol(end, NULL, 10);
	/* After a reboot the disk is older than the clock, which the hardware's set. */
	if (getpid() != 1 && now.tv_sec <= time(NULL))
		return;
	if (clock_settime(CLOCK_REALTIME, &now) != 0)
		print_line("cannot set the clock: %s", strerror(errno));
}

static void stir_random(void)
{
	struct {
		struct rand_pool_info info;
		char seed[SEED];
	} pool = { .info = { .entropy_count = SEED * 8, .buf_size = SEED } };
	int device;

	if (take_file(RUN_DIR "/seed", pool.seed, SEED) != SEED)
		return;
	device = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	/* The kernel uses added entropy when it reseeds, which may be minutes from
	 * now, so make it reseed. RNDRESEEDCRNG fails before the first seeding;
	 * then the kernel seeds itself from this entropy anyway. */
	if (device < 0 || ioctl(device, RNDADDENTROPY, &pool) != 0)
		print_line("cannot seed the random numbers: %s", strerror(errno));
	ioctl(device, RNDRESEEDCRNG);
	close(device);
}

/* The last close of a disk drops its cached pages, so each call reads the
 * current content. Processes of an earlier run are killed first. */
static int read_run_disk(void)
{
	static char archive[64 * 1024], last[sizeof(archive)];
	ssize_t length;
	int disk = open_run_disk();

	if (disk < 0)
		return -1;
	length = read(disk, archive, sizeof(archive));
	close(disk);
	if (length < 0)
		return -1;
	if (memcmp(archive, last, sizeof(archive)) == 0)
		return 0;
	if (getpid() == 1)
		kill(-1, SIGKILL);
	memcpy(last, archive, sizeof(archive));
	if (unpack(archive, length) != 0)
		return -1;
	set_clock();
	stir_random();
	return 0;
}

static void serve(int connection)
{
	char *arguments[] = { "/usr/sbin/sshd", "-i", "-e", "-f", "/etc/ssh/sshd_config", NULL };

	/* With -i sshd uses stdin and stdout as the connection; stderr remains the
	 * console. */
	dup2(connection, STDIN_FILENO);
	dup2(connection, STDOUT_FILENO);
	execv(arguments[0], arguments);
	_exit(127);
}

static void accept_one(int listener)
{
	int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (connection < 0)
		return;
	if (read_run_disk() != 0)
		print_line("cannot read the run disk: %s", strerror(errno));
	if (fork() == 0) {
		signal(SIGCHLD, SIG_DFL);
		serve(connection);
	}
	close(connection);
}

int main(void)
{
	int listener;

	/* PID 1 inherits all orphans of the guest; the kernel reaps the children of
	 * a process that ignores SIGCHLD. */
	signal(SIGCHLD, SIG_IGN);
	umask(022);
	setsid();
	mkdir(RUN_DIR, 0700);
	mkdir("/run/sshd", 0755);
	network();
	if (read_run_disk() != 0)
		fatal("read the run disk");
	listener = listen_for_ssh();
	print_line("ready");
	for (;;)
		accept_one(listener);
}
