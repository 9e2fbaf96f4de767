// SPDX-License-Identifier: Apache-2.0
/* The calls that a script can make, as data. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "fim-gen.h"

#define CALL(name, spec)                                                                                     \
	{                                                                                                    \
#name, SYS_##name, spec, NULL, false                                                         \
	}
#define RECENT(name, number, spec)                                                                           \
	{                                                                                                    \
#name, number, spec, NULL, false                                                             \
	}
#define OWN(name, spec, run)                                                                                 \
	{                                                                                                    \
#name, 0, spec, run, false                                                                   \
	}
#define BLOCK(name, spec, run)                                                                               \
	{                                                                                                    \
#name, 0, spec, run, true                                                                    \
	}
#define RING(name, opcode, spec)                                                                             \
	{                                                                                                    \
		"ring_" #name, opcode, spec, run_ring, false                                                 \
	}
#define COMPAT(name, number, spec)                                                                           \
	{                                                                                                    \
#name, number, spec, run_compat, false                                                       \
	}

static const struct call calls[] = {
	BLOCK(repeat, "n", run_repeat),
	BLOCK(rate, "rfs", run_rate),
	BLOCK(fork, "", run_fork),
	BLOCK(thread, "", run_thread),
	BLOCK(program, "x?nn", run_program),
	BLOCK(beside, "", run_beside),
	OWN(witness, "x", run_witness),
	OWN(look, "p", run_look),
	OWN(wait, "n", run_wait),
	OWN(stopped, "n", run_stopped),
	OWN(resume, "n", run_resume),
	OWN(comm, "x", run_comm),
	OWN(mute, "", run_mute),
	OWN(handle, "nn", run_handle),
	OWN(cpu, "n", run_cpu),
	OWN(caps, "n", run_caps),
	OWN(rlimit, "nn", run_rlimit),
	OWN(exec, "p?xxxxxxx", run_exec),
	OWN(execveat, "Dpn?xxxxx", run_execveat),
	OWN(ring_features, "", run_ring_features),
	OWN(open_handle, "pn?FR", run_open_handle),
	OWN(splice, "FFn", run_splice),
	OWN(mapwrite, "Fx", run_mapwrite),
	OWN(chattr, "Fn", run_chattr),
	OWN(chattr_untouched, "Fn", run_chattr_untouched),
	OWN(fssetxattr, "Fn", run_fssetxattr),
	OWN(file_setattr, "Dpn", run_file_setattr),
	OWN(bind, "p", run_bind),
	{ "pipe", SYS_pipe2, "", run_pair, false },
	{ "socketpair", SYS_socketpair, "", run_pair, false },
	OWN(send_fd, "nF", run_send_fd),
	OWN(recv_fd, "nR", run_recv_fd),
	OWN(pass, "FR", run_pass),
	{ "fsconfig", FSCONFIG_SET_STRING, "Fxx", run_fsconfig, false },
	{ "fsconfig_flag", FSCONFIG_SET_FLAG, "Fx", run_fsconfig, false },
	{ "fsconfig_create", FSCONFIG_CMD_CREATE, "F", run_fsconfig, false },
	{ "fsconfig_reconfigure", FSCONFIG_CMD_RECONFIGURE, "F", run_fsconfig, false },
	/* Calls of i386, with its numbers; NAME16 are those with 16-bit users. */
	COMPAT(open32, 5, "pn?nR"),
	COMPAT(close32, 6, "F"),
	COMPAT(creat32, 8, "pnR"),
	{ "chattr32", 54, "Fn", run_chattr32, false },
	COMPAT(link32, 9, "pp"),
	COMPAT(unlink32, 10, "p"),
	COMPAT(mknod32, 14, "pn?n"),
	COMPAT(chmod32, 15, "pn"),
	COMPAT(lchown16, 16, "pnn"),
	COMPAT(mount32, 21, "ppx?nx"),
	COMPAT(oldumount32, 22, "p"),
	COMPAT(utime32, 30, "pt"),
	COMPAT(rename32, 38, "pp"),
	COMPAT(mkdir32, 39, "pn"),
	COMPAT(rmdir32, 40, "p"),
	COMPAT(umount32, 52, "p?n"),
	COMPAT(symlink32, 83, "xp"),
	COMPAT(truncate32, 92, "pn"),
	COMPAT(ftruncate32, 93, "Fn"),
	COMPAT(fchmod32, 94, "Fn"),
	COMPAT(fchown16, 95, "Fnn"),
	COMPAT(chown16, 182, "pnn"),
	COMPAT(truncate64, 193, "pn?n"),
	COMPAT(ftruncate64, 194, "Fn?n"),
	COMPAT(lchown32, 198, "pnn"),
	COMPAT(fchown32, 207, "Fnn"),
	COMPAT(chown32, 212, "pnn"),
	COMPAT(setxattr32, 226, "pxxl?n"),
	COMPAT(lsetxattr32, 227, "pxxl?n"),
	COMPAT(fsetxattr32, 228, "Fxxl?n"),
	COMPAT(removexattr32, 235, "px"),
	COMPAT(lremovexattr32, 236, "px"),
	COMPAT(fremovexattr32, 237, "Fx"),
	COMPAT(utimes32, 271, "pt"),
	COMPAT(openat32, 295, "Dpn?nR"),
	COMPAT(mkdirat32, 296, "Dpn"),
	COMPAT(mknodat32, 297, "Dpn?n"),
	COMPAT(fchownat32, 298, "Dpnn?n"),
	COMPAT(futimesat32, 299, "Dpt"),
	COMPAT(unlinkat32, 301, "Dp?n"),
	COMPAT(renameat32, 302, "DpDp"),
	COMPAT(linkat32, 303, "DpDp?n"),
	COMPAT(symlinkat32, 304, "xDp"),
	COMPAT(fchmodat32, 306, "Dpn"),
	COMPAT(utimensat32, 320, "Dpt?n"),
	COMPAT(renameat2_32, 353, "DpDp?n"),
	COMPAT(move_mount32, 429, "DpDp?n"),
	COMPAT(openat2_32, 437, "Dpn?nnhR"),
	RING(openat, IORING_OP_OPENAT, "Dpn?nR"),
	RING(unlinkat, IORING_OP_UNLINKAT, "Dp?n"),
	RING(renameat, IORING_OP_RENAMEAT, "DpDp"),
	RING(mkdirat, IORING_OP_MKDIRAT, "Dpn"),
	RING(linkat, IORING_OP_LINKAT, "DpDp"),
	RING(symlinkat, IORING_OP_SYMLINKAT, "xDp"),
	RING(openat2, IORING_OP_OPENAT2, "DpnnR"),
	RING(setxattr, RING_SETXATTR, "pxx"),
#if defined(SYS_open) && !defined(AT_CALLS_ONLY)
	CALL(open, "pn?nR"),
	CALL(creat, "pnR"),
	CALL(unlink, "p"),
	CALL(rmdir, "p"),
	CALL(mkdir, "pn"),
	CALL(rename, "pp"),
	CALL(link, "pp"),
	CALL(symlink, "xp"),
	CALL(mknod, "pn?n"),
	CALL(chmod, "pn"),
	CALL(chown, "pnn"),
	CALL(lchown, "pnn"),
	CALL(utime, "pt"),
	CALL(utimes, "pt"),
	CALL(futimesat, "Dpt"),
	{ "umount", SYS_umount2, "p?n", NULL, false },
#else /* newer architectures never had these: the same by other calls */
	{ "open", SYS_openat, "cpn?nR", NULL, false },
	{ "unlink", SYS_unlinkat, "cp", NULL, false },
	{ "rmdir", SYS_unlinkat, "cpd", NULL, false },
	{ "mkdir", SYS_mkdirat, "cpn", NULL, false },
	{ "rename", SYS_renameat2, "cpcp", NULL, false },
	{ "link", SYS_linkat, "cpcp", NULL, false },
	{ "symlink", SYS_symlinkat, "xcp", NULL, false },
	{ "mknod", SYS_mknodat, "cpn?n", NULL, false },
	{ "chmod", SYS_fchmodat, "cpn", NULL, false },
	{ "chown", SYS_fchownat, "cpnn", NULL, false },
	{ "umount", SYS_umount2, "p?n", NULL, false },
#endif
	CALL(openat, "Dpn?nR"),
	CALL(openat2, "Dpn?nnhR"),
	CALL(close, "F"),
	CALL(unlinkat, "Dp?n"),
	CALL(mkdirat, "Dpn"),
	CALL(renameat, "DpDp"),
	CALL(renameat2, "DpDp?n"),
	CALL(linkat, "DpDp?n"),
	CALL(symlinkat, "xDp"),
	CALL(mknodat, "Dpn?n"),
	CALL(truncate, "pn"),
	CALL(ftruncate, "Fn"),
	CALL(fallocate, "Fnnn"),
	CALL(fchmod, "Fn"),
	CALL(fchmodat, "Dpn"),
	RECENT(fchmodat2, 452, "Dpn?n"),
	CALL(fchown, "Fnn"),
	CALL(fchownat, "Dpnn?n"),
	CALL(utimensat, "Dpt?n"),
	CALL(setxattr, "pxxl?n"),
	CALL(lsetxattr, "pxxl?n"),
	CALL(fsetxattr, "Fxxl?n"),
	RECENT(setxattrat, 463, "Dpnxxl?na"),
	CALL(removexattr, "px"),
	CALL(lremovexattr, "px"),
	CALL(fremovexattr, "Fx"),
	RECENT(removexattrat, 466, "Dpnx"),
	CALL(mount, "ppx?nx"),
	CALL(umount2, "p?n"),
	CALL(fsopen, "x?nR"),
	CALL(fsmount, "F?nnR"),
	CALL(fspick, "Dp?nR"),
	CALL(open_tree, "Dp?nR"),
	CALL(move_mount, "DpDp?n"),
	CALL(mount_setattr, "Dpnn?nnnm"),
	RECENT(open_tree_attr, 467, "Dpnn?nnnmR"),
	{ "memfd", SYS_memfd_create, "x?nR", NULL, false },
	CALL(write, "Fxl"),
	CALL(chdir, "p"),
	CALL(fchdir, "F"),
	CALL(chroot, "p"),
	CALL(pivot_root, "pp"),
	CALL(unshare, "n"),
	CALL(setns, "Fn"),
	CALL(setuid, "n"),
	CALL(setgid, "n"),
	CALL(setresuid, "nnn"),
	CALL(setresgid, "nnn"),
	CALL(setfsuid, "n"),
	CALL(setfsgid, "n"),
	CALL(prctl, "n?nnnn"),
	CALL(umask, "n"),
	CALL(dup, "FR"),
	{ "dup2", SYS_dup3, "FnR", NULL, false },
	CALL(sendfile, "FFnn"),
	CALL(copy_file_range, "FnFnnn"),
	CALL(fsync, "F"),
	CALL(sync, ""),
	CALL(getpid, ""),
	CALL(kill, "nn"),
	CALL(exit_group, "n"),
};

const struct call *call_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (!strcmp(calls[i].name, name))
			return &calls[i];
	}
	return NULL;
}
