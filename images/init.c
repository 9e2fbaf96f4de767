/* SPDX-License-Identifier: Apache-2.0
 *
 * PID 1 of a guest once early-init has entered the root: network, then one sshd
 * for each connection.
 *
 * A static C program, because a shell with mount, ip, tar and a listening sshd
 * costs two seconds without hardware acceleration. It accepts connections
 * itself and runs `sshd -i` on each: that is one start of sshd rather than two,
 * and it makes keys a property of the connection. They are read anew from the
 * run disk each time, so a machine that was saved by one run and restored by
 * another accepts only the keys of the run that restored it.
 *
 * The run disk is the virtio disk with serial "fim-run", a tar archive (POSIX
 * ustar, files only):
 *   host_key          sshd's private key
 *   authorized_keys   who may come in
 *   clock             seconds and nanoseconds since 1970
 *   seed              64 random bytes
 *
 * Another disk than the last time means that another run goes on with a guest
 * that was saved: who was connected is gone, the time is another, and what was
 * random is known to whoever has the snapshot.
 *
 * The console says "fim-init: ready" when connections are accepted, or
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

static void say(const char *format, ...)
{
	char line[512];
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	/* One write a line: the kernel prints to the same console. */
	if (length > 0)
		dprintf(STDOUT_FILENO, "fim-init: %s\n", line);
}

/* Powers off rather than exits: a PID 1 that exits is a kernel panic, and this
 * is none. */
static void fatal(const char *what)
{
	say("fatal: %s: %s", what, strerror(errno));
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
		fatal(name);
	interface.ifr_flags |= IFF_UP | IFF_RUNNING;
	if (ioctl(control, SIOCSIFFLAGS, &interface) != 0)
		fatal(name);
}

/* No route: the host's end of the forwarded port is on the same network, and
 * there is no way out. */
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
	int yes = 1, door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (door < 0 || bind(door, (struct sockaddr *)&any, sizeof(any)) != 0 || listen(door, BACKLOG) != 0)
		fatal("listen for SSH");
	return door;
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

/* Writes a new file and renames it into place: another connection may be
 * reading the old one. */
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

/* Unpacks the archive's files, whose sizes are octal digits at offset 124; a
 * name with a slash is refused. */
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

/* Reads a file of the run disk and removes it: it is used once. */
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
	if (clock_settime(CLOCK_REALTIME, &now) != 0)
		say("cannot set the clock: %s", strerror(errno));
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
	/* The kernel uses what it was given only when it reseeds, else minutes
	 * from now. That call fails while it has never been seeded: then it will
	 * be with this. */
	if (device < 0 || ioctl(device, RNDADDENTROPY, &pool) != 0)
		say("cannot seed the random numbers: %s", strerror(errno));
	ioctl(device, RNDRESEEDCRNG);
	close(device);
}

/* The last close of a disk drops its pages, so each call sees what the disk
 * holds now. What is left of another run is ended first. */
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

	/* With -i sshd takes the connection as stdin and stdout; stderr stays
	 * the console. */
	dup2(connection, STDIN_FILENO);
	dup2(connection, STDOUT_FILENO);
	execv(arguments[0], arguments);
	_exit(127);
}

static void accept_one(int door)
{
	int connection = accept4(door, NULL, NULL, SOCK_CLOEXEC);

	if (connection < 0)
		return;
	if (read_run_disk() != 0)
		say("cannot read the run disk: %s", strerror(errno));
	if (fork() == 0) {
		signal(SIGCHLD, SIG_DFL);
		serve(connection);
	}
	close(connection);
}

int main(void)
{
	int door;

	/* Orphans of the whole guest end here: the kernel reaps what a parent
	 * ignores. */
	signal(SIGCHLD, SIG_IGN);
	umask(022);
	setsid();
	mkdir(RUN_DIR, 0700);
	mkdir("/run/sshd", 0755);
	network();
	if (read_run_disk() != 0)
		fatal("read the run disk");
	door = listen_for_ssh();
	say("ready");
	for (;;)
		accept_one(door);
}
