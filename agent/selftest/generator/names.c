// SPDX-License-Identifier: Apache-2.0
/* The constants that a script can name. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
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
	NAME(RESOLVE_NO_MAGICLINKS),
	NAME(RESOLVE_CACHED),
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
	NAME(MS_SLAVE),
	NAME(MS_UNBINDABLE),
	NAME(MS_NOATIME),
	NAME(MNT_FORCE),
	NAME(MNT_DETACH),
	NAME(MNT_EXPIRE),
	NAME(UMOUNT_NOFOLLOW),
	NAME(CLONE_NEWNS),
	NAME(CLONE_NEWUSER),
	NAME(CLONE_NEWPID),
	NAME(CLONE_NEWCGROUP),
	NAME(CLONE_NEWNET),
	NAME(CLONE_FS),
	NAME(CLONE_FILES),
	NAME(FSOPEN_CLOEXEC),
	NAME(FSCONFIG_SET_FLAG),
	NAME(FSCONFIG_SET_STRING),
	NAME(FSCONFIG_CMD_CREATE),
	NAME(FSCONFIG_CMD_RECONFIGURE),
	NAME(FSMOUNT_CLOEXEC),
	NAME(FSPICK_EMPTY_PATH),
	NAME(FSPICK_NO_AUTOMOUNT),
	NAME(OPEN_TREE_CLONE),
	NAME(OPEN_TREE_CLOEXEC),
	NAME(MOVE_MOUNT_F_EMPTY_PATH),
	NAME(MOVE_MOUNT_T_EMPTY_PATH),
	NAME(MOUNT_ATTR_RDONLY),
	NAME(MOUNT_ATTR_NOSUID),
	NAME(MOUNT_ATTR_NODEV),
	NAME(MOUNT_ATTR_NOEXEC),
	NAME(AT_RECURSIVE),
	NAME(MFD_CLOEXEC),
	NAME(MFD_ALLOW_SEALING),
	{ "FS_IMMUTABLE_FL", 0x10 },
	{ "FS_APPEND_FL", 0x20 },
	{ "FS_XFLAG_IMMUTABLE", 0x8 },
	NAME(PR_SET_KEEPCAPS),
	NAME(PR_SET_NO_NEW_PRIVS),
	NAME(PR_SET_DUMPABLE),
	NAME(RLIMIT_NOFILE),
	NAME(RLIMIT_NPROC),
	NAME(RLIMIT_FSIZE),
	{ "CAP_CHOWN", 1L << CAP_CHOWN },
	{ "CAP_DAC_OVERRIDE", 1L << CAP_DAC_OVERRIDE },
	{ "CAP_DAC_READ_SEARCH", 1L << CAP_DAC_READ_SEARCH },
	{ "CAP_FOWNER", 1L << CAP_FOWNER },
	{ "CAP_FSETID", 1L << CAP_FSETID },
	{ "CAP_SETUID", 1L << CAP_SETUID },
	{ "CAP_SETGID", 1L << CAP_SETGID },
	{ "CAP_SYS_ADMIN", 1L << CAP_SYS_ADMIN },
	{ "CAP_SYS_CHROOT", 1L << CAP_SYS_CHROOT },
	{ "CAP_MKNOD", 1L << CAP_MKNOD },
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
