/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The wire format: one fixed header, then a payload of variable length.
 *
 * agent/events/decode.py reads it; a test compares the two through the object's BTF.
 * Everything is in the byte order of the machine. Change the layout and
 * FIM_WIRE_VERSION together.
 */
#ifndef FIM_EVENT_H
#define FIM_EVENT_H

#define FIM_WIRE_VERSION 2

#define FIM_PATH_MAX  4096 /* bytes of one path, its terminators included */
#define FIM_DEPTH_MAX 256  /* components of one path */
#define FIM_NAME_SIZE 256  /* one component with its terminator */
#define FIM_PARENTS   3	   /* directories above a file that can be discarded */
#define FIM_COMM_SIZE 16
#define FIM_FILES     2

/* Bit numbers in event masks; agent/events/model.py has the same. */
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
	FIM_TYPES = 32, /* room in the maps that are indexed by type */
};

/* The family of the program that saw the object. */
enum fim_family {
	FIM_LSM = 1,
	FIM_FENTRY,
	FIM_KPROBE,
	FIM_KPROBE_MULTI,
	FIM_TRACEPOINT,
	FIM_BCC,
};

/* What is known about how a path was resolved. */
enum fim_file_flags {
	FIM_TRUNCATED = 1 << 0, /* too long or too deep: the path is a tail */
	FIM_AS_GIVEN = 1 << 1,	/* the caller's text, below a base directory */
	FIM_DETACHED = 1 << 2,	/* no longer reachable from a namespace's root */
	FIM_UPPER = 1 << 3,	/* overlayfs: lies in the upper layer */
	FIM_LOWER = 1 << 4,	/* overlayfs: lies in a lower layer */
	FIM_CREATED = 1 << 5,	/* made by this operation */
	FIM_DELETED = 1 << 6,	/* its name is gone: the path is the last it had */
};

/* A piece of the payload. */
struct fim_text {
	__u16 offset; /* from the payload's start */
	__u16 length; /* bytes, the last terminator included; 0: absent */
};

struct fim_file {
	__u64 inode;
	__u64 parents[FIM_PARENTS]; /* on the same mount, 0 beyond its root */
	__u32 device;		    /* the kernel's dev_t: major << 20 | minor */
	__u32 mount_id;
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__u32 nlink;
	__u32 flags;		       /* enum fim_file_flags */
	__u32 epochs[1 + FIM_PARENTS]; /* of the inode and of its parents */
	struct fim_text path;	       /* components, the last one first, each
					* terminated; FIM_AS_GIVEN: the base */
	struct fim_text given;	       /* the caller's text, FIM_AS_GIVEN only */
	__u32 reserved;
};

/* The offset of a root that is not known: of length 0, like the top. */
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
	__u32 generation; /* of the discarders, read before the path was */
	__u32 serial;	  /* of the policy that judged */
	__u32 flags;	  /* open, rename, umount, mount flags, xattr flags */
	__u32 mode;	  /* asked for: open, mkdir, mknod, chmod */
	__u32 new_uid;	  /* chown; fork: the child's pid */
	__u32 new_gid;	  /* chown; fork: the child's tid */
	__s32 exit_code;
	char comm[FIM_COMM_SIZE];
	struct fim_text name;	/* xattr, symlink text, file system type */
	struct fim_text source; /* of a mount; arguments of an exec */
	struct fim_text root;	/* the process's, if not the top; see below */
	__u32 reserved;
	struct fim_file file[FIM_FILES];
};

#endif /* FIM_EVENT_H */
