// SPDX-License-Identifier: Apache-2.0
/* The constants that a script may call by name. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "fim-gen.h"

#define NAME(constant)                                                                                       \
	{                                                                                                    \
#constant, constant                                                                          \
	}

static const struct {
	const char *name;
	long value;
} names[] = {
	NAME(O_RDONLY),
	NAME(O_WRONLY),
	NAME(O_RDWR),
	NAME(O_CREAT),
	NAME(O_EXCL),
	NAME(O_TRUNC),
	NAME(O_APPEND),
	NAME(O_NONBLOCK),
	NAME(O_SYNC),
	NAME(O_DIRECTORY),
	NAME(O_NOFOLLOW),
	NAME(O_NOATIME),
	NAME(O_CLOEXEC),
	NAME(O_PATH),
	NAME(O_TMPFILE),
	NAME(AT_FDCWD),
	NAME(AT_REMOVEDIR),
	NAME(AT_SYMLINK_NOFOLLOW),
	NAME(AT_SYMLINK_FOLLOW),
	NAME(AT_EMPTY_PATH),
	{ "NOREPLACE", RENAME_NOREPLACE },
	{ "EXCHANGE", RENAME_EXCHANGE },
	{ "WHITEOUT", RENAME_WHITEOUT },
	NAME(RENAME_NOREPLACE),
	NAME(RENAME_EXCHANGE),
	NAME(RESOLVE_BENEATH),
	NAME(RESOLVE_IN_ROOT),
	NAME(RESOLVE_NO_SYMLINKS),
	NAME(RESOLVE_NO_XDEV),
	NAME(S_IFREG),
	NAME(S_IFCHR),
	NAME(S_IFBLK),
	NAME(S_IFIFO),
	NAME(S_IFSOCK),
	NAME(XATTR_CREATE),
	NAME(XATTR_REPLACE),
	NAME(MS_RDONLY),
	NAME(MS_NOSUID),
	NAME(MS_NODEV),
	NAME(MS_NOEXEC),
	NAME(MS_REMOUNT),
	NAME(MS_BIND),
	NAME(MS_MOVE),
	NAME(MS_REC),
	NAME(MS_PRIVATE),
	NAME(MS_SHARED),
	NAME(MNT_FORCE),
	NAME(MNT_DETACH),
	NAME(UMOUNT_NOFOLLOW),
	NAME(CLONE_NEWNS),
	NAME(CLONE_NEWUSER),
	NAME(CLONE_NEWPID),
};

static bool known_name(const char *name, size_t len, long *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strlen(names[i].name) == len && !memcmp(names[i].name, name, len)) {
			*value = names[i].value;
			return true;
		}
	}
	return false;
}

static bool known_number(const char *name, size_t len, long *value)
{
	char text[32];
	char *end;

	if (!len || len >= sizeof(text))
		return false;
	memcpy(text, name, len);
	text[len] = '\0';
	*value = strtol(text, &end, 0);
	return end == text + len;
}

/* One name or number, or several joined by '|'. */
bool name_value(const char *name, size_t len, long *value)
{
	const char *bar = memchr(name, '|', len);
	size_t head = bar ? (size_t)(bar - name) : len;
	long rest = 0;

	if (!known_name(name, head, value) && !known_number(name, head, value))
		return false;
	if (bar && !name_value(bar + 1, len - head - 1, &rest))
		return false;
	*value |= rest;
	return true;
}
