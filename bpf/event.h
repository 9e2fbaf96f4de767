/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The wire format: one fixed header, then a payload of variable length, all in
 * the byte order of the machine.
 *
 * agent/events/decode.py reads it; a test compares the two through the object's
 * BTF. Change the layout and FIM_WIRE_VERSION together.
 */
#ifndef FIM_EVENT_H
#define FIM_EVENT_H

#include "kernel.h"

#define FIM_WIRE_VERSION 4

#define FIM_PATH_MAX  4096 /* bytes of one path with its terminators */
#define FIM_DEPTH_MAX 256  /* components of one path */
#define FIM_NAME_SIZE 256  /* one component with its terminator */
#define FIM_PARENTS   3	   /* directories above a file that can be discarded */
#define FIM_COMM_SIZE 16
#define FIM_FILES     2

/* Bit numbers in event masks, the same as in agent/events/model.py. */
enum fim_type {
	FIM_OPEN,
	FIM_CLOSE,
	FIM_UNLINK,
	FIM_RMDIR,
	FIM_MKDIR,
	FIM_RENAME,
	FIM_LINK,
	FIM_SYMLINK,
	FIM_MKNOD,
	FIM_TRUNCATE,
	FIM_CHMOD,
	FIM_CHOWN,
	FIM_UTIMES,
	FIM_SETXATTR,
	FIM_REMOVEXATTR,
	FIM_MOUNT,
	FIM_UMOUNT,
	FIM_EXEC,
	FIM_FORK,
	FIM_EXIT,
	FIM_CHATTR,
	FIM_TYPES = 32, /* room in the maps that are indexed by type */
};

/* The type of the program that saw the object. */
enum fim_family {
	FIM_LSM = 1,
	FIM_FENTRY,
	FIM_KPROBE,
	FIM_KPROBE_MULTI,
	FIM_TRACEPOINT,
	FIM_BCC,
};

/* How a path was resolved, and what that means for it. */
enum fim_file_flags {
	FIM_TRUNCATED = 1 << 0, /* too long or too deep: the path is a tail */
	FIM_AS_GIVEN = 1 << 1,	/* the caller's text, below a base directory */
	FIM_DETACHED = 1 << 2,	/* not reachable from the root of a namespace that has processes */
	FIM_UPPER = 1 << 3,	/* overlayfs: lies in the upper layer */
	FIM_LOWER = 1 << 4,	/* overlayfs: lies in a lower layer */
	FIM_CREATED = 1 << 5,	/* this operation created it */
	FIM_DELETED = 1 << 6,	/* its name was removed: the path is its last one */
};

/* A piece of the payload. */
struct fim_text {
	__u16 offset; /* from the payload's start */
	__u16 length; /* bytes with the last terminator; 0: absent */
};

struct fim_file {
	__u64 inode;
	__u64 identities[1 + FIM_PARENTS]; /* of the inode and of its parents on the same mount: see
					    * discarders.h; 0: never discarded, or beyond the root */
	__u32 device;			   /* the kernel's dev_t: major << 20 | minor */
	__u32 mount_id;
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__u32 nlink;
	__u32 flags;		       /* enum fim_file_flags */
	__u32 epochs[1 + FIM_PARENTS]; /* of the inode and of its parents */
	struct fim_text path;	       /* components, the last one first, each
					* terminated; FIM_AS_GIVEN: the base */
	struct fim_text given;	       /* the caller's text, FIM_AS_GIVEN, or the last component of
					* a name in a resolved directory */
	__u32 reserved;
};

/* Offset of a root that is not known. Its length is 0, like that of the top. */
#define FIM_ROOT_UNKNOWN 0xffff

struct fim_event {
	__u16 version; /* FIM_WIRE_VERSION */
	__u16 header;  /* bytes before the payload */
	__u32 size;    /* bytes of header and payload */
	__u64 time;    /* ns, CLOCK_BOOTTIME, when the object was seen */
	__u64 cgroup;
	__u16 type;   /* enum fim_type */
	__u16 family; /* enum fim_family */
	__s32 retval;
	__u32 pid;
	__u32 tid;
	__u32 ppid;
	__u32 uid;
	__u32 gid;
	__u32 auid;
	__u32 mount_ns;
	__u32 generation; /* of the discarders, read before the path */
	__u32 serial;	  /* of the policy that filtered it */
	__u32 flags;	  /* open, rename, umount, mount flags, xattr flags */
	__u32 mode;	  /* as asked for: open, mkdir, mknod, chmod */
	__u32 new_uid;	  /* chown */
	__u32 new_gid;
	__s32 exit_code;
	char comm[FIM_COMM_SIZE];
	struct fim_text name;	/* xattr, symlink text, file system type */
	struct fim_text source; /* of a mount; arguments of an exec */
	struct fim_text root;	/* of the process; length 0: the top, or not known */
	__u32 child_pid;	/* fork */
	struct fim_file file[FIM_FILES];
};

_Static_assert(sizeof(struct fim_text) == 4, "a text is one word of the wire format");
_Static_assert(sizeof(struct fim_file) == 96, "agent/events/decode.py: FILE");
_Static_assert(sizeof(struct fim_event) == 120 + FIM_FILES * 96, "agent/events/decode.py: HEAD and FILE");
_Static_assert(__builtin_offsetof(struct fim_event, file) == 120, "files follow the head without a gap");

#endif /* FIM_EVENT_H */
