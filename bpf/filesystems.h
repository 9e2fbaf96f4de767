/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * File systems on which files may be discarded.
 *
 * A discarder rests on the path of an inode, so the path must change only where
 * programs see it: this kernel renames, links and unlinks every name itself, and
 * informs the cache of names before anyone can use the new one. A file system of
 * another host or of a process (nfs, cifs, 9p, fuse, virtiofs) changes names
 * behind the kernel, kernfs (sysfs, cgroup) looks renamed entries up anew, and on
 * case-insensitive ones (vfat, exfat, ntfs3) one inode has many spellings. What
 * is not listed is never discarded. docs/limits.md explains the list to users.
 */
#ifndef FIM_FILESYSTEMS_H
#define FIM_FILESYSTEMS_H

#include "kernel.h"

/* include/uapi/linux/magic.h, and fs/bcachefs, fs/xfs and fs/ramfs. */
#define FIM_LOCAL_FILESYSTEMS(X)                                                                             \
	X(0xef53)     /* ext2, ext3, ext4 */                                                                 \
	X(0x58465342) /* xfs */                                                                              \
	X(0x9123683e) /* btrfs */                                                                            \
	X(0xca451a4e) /* bcachefs */                                                                         \
	X(0xf2f52010) /* f2fs */                                                                             \
	X(0x01021994) /* tmpfs, devtmpfs */                                                                  \
	X(0x858458f6) /* ramfs, rootfs */                                                                    \
	X(OVERLAYFS_SUPER_MAGIC)                                                                             \
	X(0xe0f5e1e2) /* erofs */                                                                            \
	X(0x73717368) /* squashfs */                                                                         \
	X(0x9fa0)     /* proc */

/*
 * Whether all changes of names on a file system with this magic number go through the functions that
 * programs are attached to.
 */
static __always_inline int fim_is_local(__u64 magic)
{
	switch (magic) {
#define FIM_CASE(magic) case magic:
		FIM_LOCAL_FILESYSTEMS(FIM_CASE)
#undef FIM_CASE
		return 1;
	default:
		return 0;
	}
}

#endif /* FIM_FILESYSTEMS_H */
