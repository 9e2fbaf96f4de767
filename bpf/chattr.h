/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Changes of an inode's flags, as chattr(1) makes them: FS_IOC_SETFLAGS,
 * FS_IOC_FSSETXATTR and file_setattr(2). From 5.13 one function serves all.
 * Before, each file system serves the ioctl itself, so it is entered where the
 * kernel asks the security modules about it, which have the file.
 */
#ifndef FIM_CHATTR_H
#define FIM_CHATTR_H

#include "kernel.h"
#include "event.h"
#include "context.h"
#include "operation.h"
#include "returns.h"
#include "attributes.h"

#define FIM_SETFLAGS   0x40086602 /* FS_IOC_SETFLAGS of 64 bits */
#define FIM_SETFLAGS32 0x40046602
#define FIM_FSSETXATTR 0x401c5820

/* Returns the flags of FS_IOC_SETFLAGS for those of FS_IOC_FSSETXATTR (FS_XFLAG_*) that both have. */
static __always_inline __u32 fim_inode_flags(__u32 xflags)
{
	__u32 flags = (xflags & 0x08) << 1 | (xflags & 0x10) << 1; /* immutable, append */

	flags |= (xflags & 0x20) >> 2;	  /* synchronous */
	flags |= (xflags & 0x40) << 1;	  /* noatime */
	flags |= (xflags & 0x80) >> 1;	  /* nodump */
	flags |= (xflags & 0x200) << 20;  /* inherits the project */
	flags |= (xflags & 0x8000) << 10; /* dax */
	return flags;
}

static __always_inline int fim_is_setting_flags(__u32 command)
{
	return command == FIM_SETFLAGS || command == FIM_SETFLAGS32 || command == FIM_FSSETXATTR;
}

/* vfs_fileattr_set([idmap,] struct dentry *dentry, struct fileattr *fa), whose first field is the flags */
static __always_inline int chattr_enter(void *ctx, __u32 family)
{
	__u32 flags = 0;

	fim_read_kernel(&flags, sizeof(flags), (void *)fim_arg_after_idmap(ctx, family, 1));
	return fim_op_enter_noted(ctx, family, FIM_AT_CHATTR, FIM_CHATTR, flags, NULL);
}

static __always_inline int chattr_exit(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_returning(FIM_AT_CHATTR);
	__s32 ret;

	if (!op)
		return 0;
	ret = fim_ret(ctx, family, FIM_AT_CHATTR);
	return fim_op_end(ctx, family, op, ret == -ENOIOCTLCMD ? -ENOTTY : ret);
}

/* file_setattr(2), from 6.17 */
FIM_PLAIN_POINT(chattr_path, FIM_AT_CHATTR_PATH, FIM_CHATTR)

/* Reads the flags that an ioctl asks for. */
static __always_inline long fim_ioctl_read_flags(__u32 *flags, __u32 command, const void *asked)
{
	__u32 word = 0;
	long error = bpf_probe_read_user(&word, sizeof(word), asked);

	*flags = command == FIM_FSSETXATTR ? fim_inode_flags(word) : word;
	return error;
}

/* An ioctl, of 64 bits or of 32: both are entered as FIM_AT_IOCTL, for older kernels ask one function. */
static __always_inline int fim_ioctl_enter(void *ctx, __u32 family)
{
	struct path *path = (void *)fim_arg(ctx, family, 0) + bpf_core_field_offset(struct file, f_path);
	const void *asked = (void *)fim_arg(ctx, family, 2);
	__u32 command = fim_arg(ctx, family, 1);
	struct dentry *dentry;
	struct fim_inflight *op;
	__u32 flags;
	long error;

	if (!fim_is_setting_flags(command))
		return 0;
	/* overlayfs asks again for the file below, which has the path of the one above */
	dentry = BPF_CORE_READ(path, dentry);
	op = fim_op_lookup();
	if (op && op->point == FIM_AT_IOCTL && op->reached == dentry && fim_frame(ctx, family) < op->frame)
		return 0;
	error = fim_ioctl_read_flags(&flags, command, asked);
	op = fim_op_enter_object(ctx, family, FIM_AT_IOCTL, FIM_CHATTR, flags, 0, path, NULL);
	if (!op)
		return 0;
	op->reached = dentry;
	op->text = error ? asked : NULL; /* in memory that the caller has not touched: read at the return */
	op->asked = command;
	return fim_op_judge_path(ctx, family, op, path);
}

/* security_file_ioctl(struct file *file, unsigned int cmd, unsigned long arg) */
static __always_inline int ioctl_resolve(void *ctx, __u32 family)
{
	return fim_ioctl_enter(ctx, family);
}

/* security_file_ioctl_compat(), with the same arguments: for 32-bit callers, from 5.10.210 on */
static __always_inline int ioctl32_resolve(void *ctx, __u32 family)
{
	return fim_ioctl_enter(ctx, family); /* of a 32-bit caller */
}

static __always_inline int fim_ioctl_exit(void *ctx, __u32 family, __s32 ret)
{
	struct fim_inflight *op = fim_op_lookup_returning(FIM_AT_IOCTL);

	if (!op)
		return 0;
	if (op->text)
		fim_ioctl_read_flags(&op->flags, op->asked, op->text);
	return fim_op_end(ctx, family, op, ret);
}

/* ioctl(2), of 64 bits and of 32 */
static __always_inline int ioctl_exit(void *ctx, __u32 family)
{
	return fim_ioctl_exit(ctx, family, fim_ret(ctx, family, FIM_AT_IOCTL));
}

static __always_inline int ioctl32_exit(void *ctx, __u32 family)
{
	return fim_ioctl_exit(ctx, family, fim_ret(ctx, family, FIM_AT_IOCTL32));
}

#endif /* FIM_CHATTR_H */
