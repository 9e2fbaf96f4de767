/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where kernels differ in what programs read, newest first, each with the
 * commit's subject, or with the kernels between which it was observed.
 * Functions that were renamed are data in agent/hooks/points.py: the loader looks
 * their names up in the running kernel.
 *
 * 7.3   struct filename keeps `name` in an embedded struct __filename_head, and
 *       struct dentry its `d_name` in a union with a writable __d_name (6.12 had
 *       neither): libbpf finds both by name all the same.
 * 6.18  A file system has a pointer to its first mount, before that a list of
 *       them: fim_any_mount().
 * 6.18  The result of a map update is a long. In 6.1 the kernel calls the map's
 *       own function in place of the helper, which returns an int, and the upper
 *       half of the register is not its sign: fim_claim_end(), map_writer.bpf.c.
 * 6.13  A file counts its references in f_ref, from 0, before that in f_count,
 *       from 1 ("fs: port files to file_ref"): fim_is_last().
 * 6.12  ftruncate is done by do_ftruncate(file), in 6.1 still by
 *       do_sys_ftruncate(fd): fim_ftruncate_by_fd.
 * 6.12  FMODE_BACKING moved from bit 25 to 24, and bit 25 is FMODE_NONOTIFY now,
 *       which every file has while a content scanner watches its file system
 *       ("fsnotify: opt-in for permission events at file open time"). The real
 *       file that overlayfs opens below its own has FMODE_NOACCOUNT on all
 *       kernels: fim_is_backing().
 * 6.2   ftruncate asks security_file_truncate(file), before security_path_truncate()
 *       ("security: Create file_truncate hook from path_truncate hook"):
 *       fim_ftruncate_of_file.
 * 6.2   ACLs are set by vfs_set_acl(), no longer by vfs_setxattr() ("acl: add
 *       vfs_set_acl()"): a point of its own, best effort.
 * 5.19  The LSM hook path_rename is called once for an exchange, with flags;
 *       before, first with both names swapped ("LSM: Remove double path_rename
 *       hook calls for RENAME_EXCHANGE"): fim_exchange_twice.
 * 5.15  do_linkat() takes struct filename, before that the caller's
 *       pointer ("namei: make do_linkat() take struct filename"):
 *       fim_link_by_filename.
 * 5.12  vfs_setxattr() and others take the mount's user namespace as their
 *       first argument ("xattr: handle idmapped mounts"), from 6.3 its struct
 *       mnt_idmap ("fs: port xattr to mnt_idmap"): fim_has_idmap().
 */
#ifndef FIM_DRIFT_H
#define FIM_DRIFT_H

#include "kernel.h"

#define FMODE_OPENED	0x80000
#define FMODE_WRITE	0x2
#define FMODE_EXEC	0x20 /* in f_flags: __FMODE_EXEC */
#define FMODE_CREATED	0x100000
#define FMODE_NOACCOUNT 0x20000000

/* Whether a file system opened a file for itself, below the one that was asked for. */
static __always_inline int fim_is_backing(fmode_t mode)
{
	return !!(mode & FMODE_NOACCOUNT);
}

struct vfsmount___userns {
	void *mnt_userns;
} __attribute__((preserve_access_index));

struct vfsmount___idmap {
	void *mnt_idmap;
} __attribute__((preserve_access_index));

/* Whether vfs_setxattr() and others take that argument: mounts have the field that it is read from. */
static __always_inline int fim_has_idmap(void)
{
	return bpf_core_field_exists(((struct vfsmount___userns *)0)->mnt_userns) ||
	       bpf_core_field_exists(((struct vfsmount___idmap *)0)->mnt_idmap);
}

struct file___count {
	struct {
		long counter;
	} f_count;
} __attribute__((preserve_access_index));

struct file___ref {
	struct {
		struct {
			long counter;
		} refcnt;
	} f_ref;
} __attribute__((preserve_access_index));

#ifdef FIM_BCC_H
/* No header describes these fields; a remount is reported without a mount there, and a mount without its
 * source. */
static __always_inline struct mount *fim_any_mount(struct super_block *sb)
{
	return NULL;
}

static __always_inline const char *fim_mount_source(struct mount *mount)
{
	return NULL;
}
#else
struct super_block___list {
	struct {
		void *next;
	} s_mounts;
} __attribute__((preserve_access_index));

struct super_block___first {
	struct mount *s_mounts;
} __attribute__((preserve_access_index));

struct mount___listed {
	struct {
		void *next;
	} mnt_instance;
} __attribute__((preserve_access_index));

/* Two functions, of which one is never called: inlined, both offsets would be loaded before the choice. */
FIM_ONCE struct mount *fim_mount_of_list(struct super_block *sb)
{
	struct super_block___list *listed = (void *)sb;

	return BPF_CORE_READ(listed, s_mounts.next) -
	       bpf_core_field_offset(struct mount___listed, mnt_instance);
}

FIM_ONCE struct mount *fim_mount_of_pointer(struct super_block *sb)
{
	struct super_block___first *held = (void *)sb;

	return BPF_CORE_READ(held, s_mounts);
}

/* Returns the first mount of a file system. */
static __always_inline struct mount *fim_any_mount(struct super_block *sb)
{
	if (bpf_core_field_exists(((struct mount___listed *)0)->mnt_instance.next))
		return fim_mount_of_list(sb);
	return fim_mount_of_pointer(sb);
}

static __always_inline const char *fim_mount_source(struct mount *mount)
{
	return BPF_CORE_READ(mount, mnt_devname);
}
#endif

/* Whether this is the only reference to an open file. */
static __always_inline int fim_is_last(struct file *file)
{
	struct file___count *counted = (void *)file;
	struct file___ref *held = (void *)file;

	if (bpf_core_field_exists(counted->f_count.counter))
		return BPF_CORE_READ(counted, f_count.counter) == 1;
	return BPF_CORE_READ(held, f_ref.refcnt.counter) == 0;
}

/*
 * overlayfs is a module, and modules have BTF only from 5.11, so its inode is
 * not described everywhere. On all kernels from 5.10 to 7.3 struct ovl_inode
 * has its __upperdentry directly behind the inode that it embeds.
 */
static __always_inline int fim_is_upper(struct inode *inode)
{
	void *upper = NULL;

	fim_read_kernel(&upper, sizeof(upper), (void *)inode + bpf_core_type_size(struct inode));
	return upper != NULL;
}

#endif /* FIM_DRIFT_H */
