/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Records: the process, the files, and sending. */
#ifndef FIM_RECORD_H
#define FIM_RECORD_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "account.h"
#include "drift.h"
#include "discarders.h"
#include "filesystems.h"
#include "path.h"

/* Starts a record: fills in the process, and clears the files. Returns 0 if there is no such slot. */
__noinline int fim_record_start(__u32 index, __u32 type, __u32 family)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fim_slot *slot = fim_slot_lookup(index);
	struct fim_config *cfg = fim_config_lookup();
	struct fim_event *event;
	__u64 ids;

	if (!slot || !cfg)
		return 0;
	event = &slot->event;
	__builtin_memset(event, 0, sizeof(*event));
	event->version = FIM_WIRE_VERSION;
	event->header = sizeof(*event);
	event->type = type;
	event->family = family;
	event->serial = cfg->serial;
	event->generation = fim_generation_read();
	event->time = bpf_ktime_get_boot_ns();
	event->cgroup = bpf_get_current_cgroup_id();
	ids = bpf_get_current_pid_tgid();
	event->pid = ids >> 32;
	event->tid = ids;
	ids = bpf_get_current_uid_gid();
	event->uid = ids;
	event->gid = ids >> 32;
	event->auid = BPF_CORE_READ(task, loginuid.val);
	event->ppid = BPF_CORE_READ(task, real_parent, tgid);
	event->mount_ns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	slot->bank = event->serial & 1;
	slot->used = 0;
	return 1;
}

/* Notes by what an inode may be discarded: the file's own, or that of a directory so many levels above. */
static __always_inline void fim_identify(struct fim_slot *slot, __u32 which, __u32 level, struct inode *inode)
{
	struct fim_file *file = &slot->event.file[which & 1];
	__u64 identity = slot->local ? fim_identity(inode) : 0;

	file->identities[fim_index(level, 4)] = identity;
	file->epochs[fim_index(level, 4)] = fim_epoch_read(identity);
}

__noinline int __fim_fill_inode(__u32 index, __u32 which, __u64 at)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct inode *inode = (void *)at;
	struct super_block *sb;
	struct fim_file *file;

	if (!slot)
		return 0;
	file = &slot->event.file[which & 1];
	sb = BPF_CORE_READ(inode, i_sb);
	file->device = BPF_CORE_READ(sb, s_dev);
	file->inode = BPF_CORE_READ(inode, i_ino);
	fim_identify(slot, which, 0, inode);
	file->mode = BPF_CORE_READ(inode, i_mode);
	file->uid = BPF_CORE_READ(inode, i_uid.val);
	file->gid = BPF_CORE_READ(inode, i_gid.val);
	file->nlink = BPF_CORE_READ(inode, i_nlink);
	if (BPF_CORE_READ(sb, s_magic) == OVERLAYFS_SUPER_MAGIC)
		file->flags |= fim_is_upper(inode) ? FIM_UPPER : FIM_LOWER;
	return 1;
}

/* Goes to the parent of the walk's place. Returns 0 at the top of the mount: discarders do not reach beyond.
 */
__noinline int fim_fill_parent(__u32 index, __u32 which, __u32 level)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct dentry *parent;

	if (!slot)
		return 0;
	parent = slot->entry.parent;
	if (parent == slot->dentry || slot->dentry == slot->top)
		return 0;
	fim_entry_read(&slot->entry, parent);
	fim_identify(slot, which, level, slot->entry.inode);
	slot->dentry = parent;
	return 1;
}

/* Fills in one of the event's files from its inode. */
static __always_inline int fim_fill_inode(__u32 index, __u32 which, struct inode *inode)
{
	return __fim_fill_inode(index, which, (__u64)inode);
}

__noinline int __fim_fill_file(__u32 index, __u32 which, __u64 at, __u64 on)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct dentry *dentry = (void *)at;
	struct mount *mount = (void *)on;
	struct super_block *sb;
	struct fim_file *file;
	struct inode *inode;
	__u32 level;

	if (!slot)
		return 0;
	file = &slot->event.file[which & 1];
	sb = BPF_CORE_READ(dentry, d_sb);
	slot->local = fim_is_local(BPF_CORE_READ(sb, s_magic));
	file->device = BPF_CORE_READ(sb, s_dev);
	file->mount_id = BPF_CORE_READ(mount, mnt_id);
	fim_entry_read(&slot->entry, dentry);
	inode = slot->entry.inode;
	if (inode) {
		fim_fill_inode(index, which, inode);
		/* Its name was removed: only a root never has one. */
		if (!BPF_CORE_READ(dentry, d_hash.pprev) && slot->entry.parent != dentry)
			file->flags |= FIM_DELETED;
	}
	slot->dentry = dentry;
	slot->top = BPF_CORE_READ(mount, mnt.mnt_root);
	for (level = 1; level <= FIM_PARENTS; level++)
		if (!fim_fill_parent(index, which, level))
			break;
	return 1;
}

/* Fills in one of the event's files from its dentry and mount, all but the path. */
static __always_inline int fim_fill_file(__u32 index, __u32 which, struct dentry *dentry, struct mount *mount)
{
	return __fim_fill_file(index, which, (__u64)dentry, (__u64)mount);
}

/*
 * Fills in where the process's root directory lies, if not at the top of its
 * mount namespace. The walk borrows the second file and restores it.
 */
__noinline int fim_fill_root(__u32 index)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fim_slot *slot = fim_slot_lookup(index);
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct fim_text path;
	struct fim_file *file;
	__u32 flags;

	if (!slot)
		return 0;
	slot->event.root.offset = FIM_ROOT_UNKNOWN;
	if (!fs) /* the process has released it: its end closes a file */
		return 0;
	file = &slot->event.file[1];
	path = file->path;
	flags = file->flags;
	file->flags = 0;
	fim_walk_begin(slot, 1, BPF_CORE_READ(fs, root.dentry), fim_real_mount(BPF_CORE_READ(fs, root.mnt)));
	fim_walk_rest(index);
	if (!file->flags) {
		slot->event.root.offset = slot->depth ? file->path.offset : 0;
		slot->event.root.length = slot->depth ? file->path.length : 0;
	}
	file->path = path;
	file->flags = flags;
	return 1;
}

/* Sends the record. Always inlined: perf_event_output takes the context, whose type is the program's. */
static __always_inline void fim_record_submit(void *ctx, __u32 index)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	__u64 size;
	long error;

	if (!slot)
		return;
	fim_fill_root(index);
	size = sizeof(struct fim_event) + slot->used;
	if (size > sizeof(struct fim_event) + FIM_PAYLOAD_MAX) {
		fim_lose(slot->event.type, oversize);
		return;
	}
	slot->event.size = size;
	if (!fim_ring_admits(size))
		error = 1;
	else if (fim_use_perf)
		error = bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, slot, size);
	else
		error = bpf_ringbuf_output(&ring, slot, size, 0);
	if (error)
		fim_lose(slot->event.type, ring_full);
	else
		fim_count(slot->event.type, submitted);
}

#endif /* FIM_RECORD_H */
