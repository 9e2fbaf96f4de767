/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fields of the kernel's types that programs read.
 *
 * Only names count: libbpf finds each field in the running kernel's BTF when it
 * loads the object, so order, size and neighbours may differ. drift.h has the
 * names that differ.
 */
#ifndef FIM_KERNEL_H
#define FIM_KERNEL_H

#include <linux/bpf.h>

typedef __u16 umode_t;
typedef __u32 fmode_t;

/*
 * Registers are read from the program's context, whose offsets the verifier
 * checks: plain layouts, fixed by the architectures' ABI and not relocated.
 */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx;
	unsigned long r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31], sp, pc, pstate;
};
struct pt_regs___called { /* libbpf ignores the suffix; bcc.h has one of its own */
	__s32 syscallno;
} __attribute__((preserve_access_index));
struct pt_regs {
	struct user_pt_regs user_regs;
};
#endif

/* Makes bpf_tracing.h name the registers as the kernel does. */
#define __VMLINUX_H__
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

/*
 * A function that each program contains once, however often it is called. At
 * each map lookup and at some helper calls the verifier inserts instructions,
 * and each time it copies what it knows about the whole program. So a load
 * gets cheaper with fewer such places, and with smaller programs.
 */
#define FIM_ONCE static __noinline

/*
 * Whether programs of this family jump to another one: at the return
 * (returns.h), and once the object is known (resolve.h). The latter call
 * functions of their own, and arm64 allows tail calls beside those only from 6.0.
 */
#define FIM_TAILS(family) ((family) == FIM_KPROBE || (family) == FIM_KPROBE_MULTI)
#if defined(__TARGET_ARCH_x86)
#define FIM_JUDGES_APART(family) FIM_TAILS(family)
#else
#define FIM_JUDGES_APART(family) 0
#endif

/* libbpf 1.1 has macros for five. */
#if defined(__TARGET_ARCH_x86)
#define FIM_PARM6(regs) ((regs)->r9)
#elif defined(__TARGET_ARCH_arm64)
#define FIM_PARM6(regs) ((regs)->user_regs.regs[5])
#endif

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

struct file_system_type {
	const char *name;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_flags;
	struct file_system_type *s_type;
	unsigned long s_magic;
};

struct inode {
	umode_t i_mode;
	kuid_t i_uid;
	kgid_t i_gid;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
};

struct qstr {
	__u64 hash_len;
	const unsigned char *name;
};

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
};

struct dentry {
	unsigned int d_flags;
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
};

struct ns_common {
	unsigned int inum;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
	int mnt_flags;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
	const char *mnt_devname;
	int mnt_id;
};

struct fs_context {
	struct file_system_type *fs_type;
	struct dentry *root;
	const char *source;
	unsigned int sb_flags;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_flags;
	fmode_t f_mode;
};

struct filename {
	const char *name;
};

struct nameidata___lookup { /* libbpf ignores the suffix; bcc.h has one of its own */
	struct path path;
	struct qstr last;
	struct filename *name;
};

/* Whether a lookup is the one of this name: a file system may look up others while it serves it. */
#define FIM_LOOKS_UP(nd, filename) (BPF_CORE_READ(nd, name) == (filename))

struct open_flags {
	int open_flag;
	umode_t mode;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
	unsigned int flags;
	int group_exit_code;
};

struct sigaction {
	unsigned long sa_flags;
};

struct k_sigaction {
	struct sigaction sa;
};

struct ksignal {
	struct k_sigaction ka;
};

struct linux_binprm {
	struct file *file;
	const char *filename;
	const char *interp;
};

struct user_namespace {
	struct user_namespace *parent;
	int level;
	kuid_t owner;
	struct ns_common ns;
};

struct cred {
	struct user_namespace *user_ns;
};

struct task_struct {
	unsigned int flags;
	const struct cred *real_cred;
	const struct cred *cred;
	int pid;
	int tgid;
	int exit_code;
	__u64 start_boottime;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	struct signal_struct *signal;
	struct task_struct *real_parent;
	struct nsproxy *nsproxy;
	struct fs_struct *fs;
	struct files_struct *files;
	struct nameidata *nameidata;
	kuid_t loginuid;
	void *stack;
};

#pragma clang attribute pop

#define AT_FDCWD (-100)

#define AF_UNIX 1

#define S_IFMT	 0170000
#define S_IFSOCK 0140000
#define S_IFDIR	 0040000
#define S_IFREG	 0100000

#define O_ACCMODE 00000003
#define O_WRONLY  00000001
#define O_RDWR	  00000002
#define O_CREAT	  00000100
#define O_TRUNC	  00001000
#define O_APPEND  00002000
#define O_SYNC	  04010000 /* the bit of O_DSYNC is part of it */
#define O_PATH	  010000000

#define EPERM	   1
#define EINTR	   4
#define EACCES	   13
#define EBUSY	   16
#define EEXIST	   17
#define EXDEV	   18
#define EISDIR	   21
#define ENOTTY	   25
#define ETXTBSY	   26
#define ENOSPC	   28
#define EROFS	   30
#define ENOTEMPTY  39
#define EADDRINUSE 98
#define MAX_ERRNO  4095

#define ERESTARTSYS	      512 /* never reaches user space, as the next three: the kernel restarts the call */
#define ERESTARTNOINTR	      513
#define ERESTARTNOHAND	      514
#define ENOIOCTLCMD	      515 /* of an ioctl that the object does not have */
#define ERESTART_RESTARTBLOCK 516

#define SIGNAL_GROUP_EXIT 4
#define SA_RESTART	  0x10000000

#define PF_IO_WORKER 0x00000010
#define PF_KTHREAD   0x00200000

#define OVERLAYFS_SUPER_MAGIC 0x794c7630

#include "read.h"

#endif /* FIM_KERNEL_H */
