// SPDX-License-Identifier: Apache-2.0
/* Converts the words of a line to the arguments of a call; and calls that need more than that. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fim-gen.h"

#define MAX_TEXTS 4

#ifndef MAP_32BIT
#define MAP_32BIT 0
#endif

struct xattr_value { /* struct xattr_args of linux/xattr.h, from 6.13 */
	__aligned_u64 value;
	__u32 size;
	__u32 flags;
};

/* The memory that the arguments of one call point to. */
struct frame {
	long value[MAX_ARGS + 4];
	char text[MAX_TEXTS][PATH_ROOM];
	long times[4]; /* struct timespec[2], struct timeval[2], struct utimbuf or their 32-bit forms */
	struct open_how how;
	struct mount_attr mount;
	struct xattr_value xattr;
};

static long vars[MAX_VARS] = { [0 ... MAX_VARS - 1] = -EBADF }; /* never a descriptor */

void var_set(int var, long value)
{
	if (var != NO_VAR)
		vars[var] = value;
}

long value_of(const struct arg *arg)
{
	return arg->kind == ARG_VAR ? vars[arg->number] : arg->number;
}

/* Expands the text after a '%' at @from into @to; returns the number of bytes of @from that it used. */
static size_t expand(const char *from, char **to)
{
	if (*from == 'd')
		*to += sprintf(*to, "%ld", turn_now());
	else if (*from == '{')
		*to += sprintf(*to, "%ld", vars[atoi(from + 1)]);
	else
		*(*to)++ = '%';
	return *from == '{' ? strcspn(from, "}") + 1 : 1;
}

/* Returns the text with %d and %{0} replaced; a replaced text is stored in @room, of PATH_ROOM bytes. */
const char *text_of(const struct arg *arg, char *room, size_t *len)
{
	char *to = room;

	*len = arg->len;
	if (arg->kind == ARG_POINTER)
		return (const char *)arg->number;
	if (!arg->indexed)
		return arg->text;
	for (const char *from = arg->text; *from && to < room + PATH_ROOM - 24;) {
		if (*from == '%')
			from += expand(from + 1, &to) + 1;
		else
			*to++ = *from++;
	}
	*to = '\0';
	*len = to - room;
	return room;
}

/* The structure that @nr takes: two of seconds and nanoseconds, of seconds and microseconds, or of seconds.
 */
static void times_of(const struct call *call, const char *word, long *times)
{
	bool compat = call->run == run_compat;
	bool plain = compat ? call->nr == 30 : !strcmp(call->name, "utime");
	bool now = !strcmp(word, "now") && strstr(call->name, "utimensat");
	long seconds = atol(word);
	long part = now ? UTIME_NOW : 0;
	const long native[] = { seconds, plain ? seconds : part, seconds, part };
	const int narrow[] = { (int)native[0], (int)native[1], (int)native[2], (int)native[3] };

	if (compat)
		memcpy(times, narrow, sizeof(narrow));
	else
		memcpy(times, native, sizeof(native));
}

static long *fold_how(long *end, struct open_how *how)
{
	long *value = end - 3;

	how->flags = value[0];
	how->mode = value[1];
	how->resolve = value[2];
	value[0] = (long)how;
	value[1] = sizeof(*how);
	return value + 2;
}

static long *fold_mount(long *end, struct mount_attr *mount)
{
	long *value = end - 4;

	mount->attr_set = value[0];
	mount->attr_clr = value[1];
	mount->propagation = value[2];
	mount->userns_fd = value[3];
	value[0] = (long)mount;
	value[1] = sizeof(*mount);
	return value + 2;
}

static long *fold_xattr(long *end, struct xattr_value *xattr)
{
	long *value = end - 3;

	xattr->value = (__u64)value[0];
	xattr->size = (__u32)value[1];
	xattr->flags = (__u32)value[2];
	value[0] = (long)xattr;
	value[1] = sizeof(*xattr);
	return value + 2;
}

static long *fold(char letter, long *end, struct frame *frame)
{
	if (letter == 'h')
		return fold_how(end, &frame->how);
	if (letter == 'm')
		return fold_mount(end, &frame->mount);
	return fold_xattr(end, &frame->xattr);
}

static void fill_frame(const struct op *op, struct frame *frame)
{
	const struct arg *arg = op->arg;
	long *value = frame->value;
	size_t len = 0;
	int texts = 0;

	for (const char *spec = op->call->spec; *spec; spec++) {
		if (strchr("hma", *spec)) {
			value = fold(*spec, value, frame);
		} else if (*spec == 'l') {
			*value++ = (long)len;
		} else if (*spec == 'c') {
			*value++ = AT_FDCWD;
		} else if (*spec == 'd') {
			*value++ = AT_REMOVEDIR;
		} else if (*spec == '?' || *spec == 'R') {
			continue;
		} else if (arg == op->arg + op->args) {
			*value++ = 0;
		} else if (*spec == 'p' || *spec == 'x') {
			*value++ = (long)text_of(arg++, frame->text[texts++], &len);
		} else if (*spec == 't') {
			times_of(op->call, arg->text, frame->times);
			*value++ = arg->kind == ARG_POINTER ? arg->number : (long)frame->times;
			arg++;
		} else {
			*value++ = value_of(arg++);
		}
	}
}

/* The arguments of a call, which stay valid until the thread's next call; all of it at addresses of 32 bits.
 */
const long *call_values(const struct op *op)
{
	static __thread struct frame *frame;

	if (!frame)
		frame = mmap(NULL, sizeof(*frame), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (frame == MAP_FAILED)
		fail(op->line, "no memory for the arguments of %s", op->call->name);
	memset(frame->value, 0, sizeof(frame->value));
	fill_frame(op, frame);
	return frame->value;
}

long call_make(const struct op *op)
{
	const long *v;
	long ret;

	if (op->call->run)
		return op->call->run(op);
	v = call_values(op);
	ret = syscall(op->call->nr, v[0], v[1], v[2], v[3], v[4], v[5]);
	return ret < 0 ? -errno : ret;
}

static void ignore(int signal)
{
	(void)signal;
}

/* Installs a handler of a signal; the second argument is 1 to restart the interrupted call. */
long run_handle(const struct op *op)
{
	struct sigaction action = {
		.sa_handler = ignore,
		.sa_flags = value_of(&op->arg[1]) ? SA_RESTART : 0,
	};

	return sigaction((int)value_of(&op->arg[0]), &action, NULL) < 0 ? -errno : 0;
}

long run_comm(const struct op *op)
{
	return prctl(PR_SET_NAME, op->arg[0].text) < 0 ? -errno : 0;
}

/* Writes a text into a file through a memory map, after a write that makes the file large enough. */
long run_mapwrite(const struct op *op)
{
	const struct arg *text = &op->arg[1];
	int fd = (int)value_of(&op->arg[0]);
	void *memory;

	if (pwrite(fd, "", 1, (off_t)text->len) < 0)
		return -errno;
	memory = mmap(NULL, text->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	memcpy(memory, text->text, text->len);
	return munmap(memory, text->len) < 0 ? -errno : (long)text->len;
}

/* Runs the following lines on this CPU only. */
long run_cpu(const struct op *op)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(value_of(&op->arg[0]), &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

/* Keeps these capabilities and no others; a line "prctl PR_SET_KEEPCAPS 1" keeps them across a setuid. */
long run_caps(const struct op *op)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };
	unsigned long mask = (unsigned long)value_of(&op->arg[0]);

	for (int i = 0; i < 2; i++) {
		data[i].effective = (__u32)(mask >> (32 * i));
		data[i].permitted = data[i].effective;
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

long run_rlimit(const struct op *op)
{
	struct rlimit limit;

	limit.rlim_cur = limit.rlim_max = (rlim_t)value_of(&op->arg[1]);
	return setrlimit((int)value_of(&op->arg[0]), &limit) < 0 ? -errno : 0;
}
