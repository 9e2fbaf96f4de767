// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's data about the objects of a call, read by calls that are no events of a
 * monitor: opens with O_PATH, statx, readlink of /proc. While "witness on" is in force, the
 * report of an operation has also:
 *
 *	program, comm	names
 *	kpid, ktid	ids in the namespace of the /proc that the first process has
 *	root		PATH
 *	witness		one object for each path or descriptor among the words:
 *		arg		place of the word, from 0
 *		error		errno of the lookup that does not follow a last link
 *		resolved, st	its PATH and STAT; without st, parent is the STAT of the
 *				directory and resolved the path of a name that does not exist
 *		followed_error	of a link: errno of the lookup that follows it
 *		followed, fst	its PATH and STAT
 *	fd		path and st of a descriptor that the call returned
 *
 * PATH is relative to the root of the process, as /proc prints it. STAT has dev "MAJOR:MINOR",
 * ino, mnt, mode, uid, gid, nlink, size, and mtime, ctime and btime in nanoseconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fim-gen.h"

#define FIRST_FD    700 /* above the descriptors of scripts */
#define MAX_OBJECTS 3

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000
#endif

struct sight {
	int error;
	bool known; /* st is valid */
	struct statx st;
	char path[PATH_MAX + 16];
};

struct object {
	int arg;
	int dfd;
	const char *path; /* NULL: the object is dfd itself */
	char room[PATH_ROOM];
	bool parent; /* plain.st is the directory's */
	bool link;   /* followed holds something */
	struct sight plain, followed;
};

bool witness_on;
static int proc_fd = -1;	  /* /proc: a process in a chroot has none to ask */
static int own_fd = -1;		  /* /proc/self/fd */
static char root[PATH_MAX] = "/"; /* of the process, below that of its mount namespace */
static __thread struct object *objects;
static __thread int count;
static __thread struct sight result;
static __thread int kpid, ktid;

/* Opens a directory by a descriptor that no script uses. */
static int open_high(int dfd, const char *path)
{
	int fd = (int)syscall(SYS_openat, dfd, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	int moved = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);

	if (fd >= 0)
		syscall(SYS_close, fd);
	return moved;
}

void witness_open(void)
{
	proc_fd = open_high(AT_FDCWD, "/proc");
}

/* After a fork: /proc/self is another directory. */
void witness_forget(void)
{
	if (own_fd >= 0)
		syscall(SYS_close, own_fd);
	own_fd = -1;
	kpid = ktid = 0;
}

long run_witness(const struct op *op)
{
	witness_on = !strcmp(op->arg[0].text, "on");
	return 0;
}

/* All that it is for was read before. */
long run_look(const struct op *op)
{
	(void)op;
	return 0;
}

static void read_link(int dfd, const char *name, char *path, size_t size)
{
	long len = syscall(SYS_readlinkat, dfd, name, path, size - 1);

	path[len < 0 ? 0 : len] = '\0';
}

static bool stat_of(int dfd, const char *path, int flags, struct statx *st)
{
	memset(st, 0, sizeof(*st));
	return syscall(SYS_statx, dfd, path, flags, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, st) == 0;
}

static void see_fd(int fd, struct sight *sight)
{
	char name[16];

	if (own_fd < 0)
		own_fd = open_high(proc_fd, "self/fd");
	snprintf(name, sizeof(name), "%d", fd);
	read_link(own_fd, name, sight->path, sizeof(sight->path));
	sight->known = stat_of(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, &sight->st);
	sight->error = sight->known ? 0 : errno;
}

static void see(int dfd, const char *path, int flags, struct sight *sight)
{
	int fd = (int)syscall(SYS_openat, dfd, path, O_PATH | O_CLOEXEC | flags, 0);

	sight->path[0] = '\0';
	sight->known = false;
	sight->error = fd < 0 ? errno : 0;
	if (fd < 0)
		return;
	see_fd(fd, sight);
	syscall(SYS_close, fd);
}

/* For a name that does not exist: its directory, and the name. */
static void see_parent(struct object *object)
{
	char room[PATH_ROOM];
	size_t len = strlen(object->path);
	char *name;

	memcpy(room, object->path, len + 1);
	while (len > 1 && room[len - 1] == '/')
		room[--len] = '\0';
	name = strrchr(room, '/');
	if (name == room)
		see(object->dfd, "/", 0, &object->plain);
	else if (name)
		*name = '\0', see(object->dfd, room, O_DIRECTORY, &object->plain);
	else
		see(object->dfd, ".", 0, &object->plain);
	name = name ? name + 1 : room;
	object->parent = !object->plain.error;
	object->plain.error = ENOENT;
	len = strlen(object->plain.path);
	if (object->parent)
		snprintf(object->plain.path + len, sizeof(object->plain.path) - len, "%s%s",
			 len > 1 ? "/" : "", name);
}

static void see_object(struct object *object)
{
	object->parent = object->link = false;
	if (!object->path) {
		see_fd(object->dfd, &object->plain);
		return;
	}
	see(object->dfd, object->path, O_NOFOLLOW, &object->plain);
	if (object->plain.error == ENOENT)
		see_parent(object);
	object->link =
		object->plain.known && !object->parent && (object->plain.st.stx_mode & S_IFMT) == S_IFLNK;
	if (object->link)
		see(object->dfd, object->path, 0, &object->followed);
}

static void add_object(int arg, int dfd, const struct arg *word)
{
	struct object *object = &objects[count];
	size_t len = 0;

	if (count == MAX_OBJECTS)
		return;
	object->arg = arg;
	object->dfd = dfd;
	object->path = word ? text_of(word, object->room, &len) : NULL;
	if (word && word->kind == ARG_POINTER && word->number)
		return; /* unreadable: nothing is named */
	if (object->path && (!*object->path || len >= sizeof(object->room)))
		object->path = NULL;
	see_object(object);
	count++;
}

void witness_before(const struct op *op)
{
	const char *spec = op->call->spec;
	int dfd = AT_FDCWD;
	int arg = 0;

	if (!objects)
		objects = calloc(MAX_OBJECTS, sizeof(*objects));
	if (!objects)
		fail(op->line, "no memory for the witness");
	count = 0;
	result.known = false;
	for (; *spec && arg < op->args; spec++) {
		if (*spec == 'D')
			dfd = (int)value_of(&op->arg[arg]);
		else if (*spec == 'p')
			add_object(arg, dfd, &op->arg[arg]), dfd = AT_FDCWD;
		else if (*spec == 'F')
			add_object(arg, (int)value_of(&op->arg[arg]), NULL);
		if (*spec != 'f' && !strchr(SILENT, *spec))
			arg++;
	}
}

/* The root of a process is not visible to it: /proc prints "/". */
static void follow_root(const struct op *op)
{
	const struct object *object = objects;
	const char *to;

	if (op->tally.ret < 0 || !count)
		return;
	to = object->link ? object->followed.path : object->plain.path;
	if (!strcmp(op->call->name, "pivot_root"))
		strcpy(root, "/");
	else if (!strcmp(op->call->name, "chroot") && strcmp(to, "/"))
		strncat(strcmp(root, "/") ? root : memset(root, 0, 1), to, sizeof(root) - strlen(root) - 1);
}

void witness_after(const struct op *op)
{
	follow_root(op);
	if (op->tally.ret >= 0 && strchr(op->call->spec, 'R'))
		see_fd((int)op->tally.ret, &result);
}

static void add_time(struct line *line, const char *key, const struct statx_timestamp *time)
{
	line_add_number(line, key, time->tv_sec * 1000000000ULL + time->tv_nsec);
}

static void add_st(struct line *line, const char *key, const struct statx *st)
{
	line_add(line, ",\"%s\":", key);
	line_add_number(line, "{\"dev\":\"", st->stx_dev_major);
	line_add_number(line, ":", st->stx_dev_minor);
	line_add_number(line, "\",\"ino\":", st->stx_ino);
	line_add_number(line, ",\"mnt\":", st->stx_mnt_id);
	line_add_number(line, ",\"mode\":", st->stx_mode);
	line_add_number(line, ",\"uid\":", st->stx_uid);
	line_add_number(line, ",\"gid\":", st->stx_gid);
	line_add_number(line, ",\"nlink\":", st->stx_nlink);
	line_add_number(line, ",\"size\":", st->stx_size);
	add_time(line, ",\"mtime\":", &st->stx_mtime);
	add_time(line, ",\"ctime\":", &st->stx_ctime);
	add_time(line, ",\"btime\":", &st->stx_btime);
	line_add(line, "}");
}

static void add_sight(struct line *line, const char *const keys[3], const struct sight *sight)
{
	if (sight->error)
		line_add(line, ",\"%s\":%d", keys[0], sight->error);
	if (*sight->path) {
		line_add(line, ",\"%s\":", keys[1]);
		line_add_path(line, sight->path);
	}
	if (sight->known)
		add_st(line, keys[2], &sight->st);
}

static void add_one(struct line *line, const struct object *object)
{
	static const char *const plain[] = { "error", "resolved", "st" };
	static const char *const missing[] = { "error", "resolved", "parent" };
	static const char *const followed[] = { "followed_error", "followed", "fst" };

	line_add(line, "{\"arg\":%d", object->arg);
	add_sight(line, object->parent ? missing : plain, &object->plain);
	if (object->link)
		add_sight(line, followed, &object->followed);
	line_add(line, "}");
}

/* The ids of the process that its monitor sees; those of getpid() are of its own namespace. */
static void learn_ids(void)
{
	char ids[64];

	read_link(proc_fd, "thread-self", ids, sizeof(ids));
	if (sscanf(ids, "%d/task/%d", &kpid, &ktid) != 2)
		kpid = ktid = 0;
}

static void add_process(struct line *line)
{
	char comm[17] = "";

	prctl(PR_GET_NAME, comm);
	if (!ktid)
		learn_ids();
	line_add(line, ",\"program\":");
	line_add_path(line, program_name);
	line_add(line, ",\"comm\":");
	line_add_path(line, comm);
	line_add_number(line, ",\"kpid\":", kpid);
	line_add_number(line, ",\"ktid\":", ktid);
	line_add(line, ",\"root\":");
	line_add_path(line, root);
}

void witness_add(struct line *line)
{
	static const char *const keys[] = { "error", "path", "st" };

	add_process(line);
	line_add(line, ",\"witness\":[");
	for (int i = 0; i < count; i++) {
		line_add(line, "%s", i ? "," : "");
		add_one(line, &objects[i]);
	}
	line_add(line, "]");
	if (result.known) {
		line_add(line, ",\"fd\":{\"returned\":1");
		add_sight(line, keys, &result);
		line_add(line, "}");
	}
}
