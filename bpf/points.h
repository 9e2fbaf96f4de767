/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Lists of the points where programs are attached. Each family of programs makes
 * one of each. agent/hooks/points.py has the same names, and the other names that
 * the functions have had; the loader attaches to the one that the kernel has.
 */
#ifndef FIM_POINTS_H
#define FIM_POINTS_H

#include "kernel.h"
#include "open.h"
#include "names.h"
#include "attributes.h"
#include "chattr.h"
#include "read_only.h"
#include "mounts.h"
#include "invalidation.h"
#include "tasks.h"
#include "restart.h"

/* The object is known: LSM hooks. */
#define FIM_LSM_RESOLVES(X)                                                                                  \
	X(open, file_open)                                                                                   \
	X(unlink, path_unlink)                                                                               \
	X(rmdir, path_rmdir)                                                                                 \
	X(mkdir, path_mkdir)                                                                                 \
	X(rename, path_rename)                                                                               \
	X(link, path_link)                                                                                   \
	X(symlink, path_symlink)                                                                             \
	X(mknod, path_mknod)                                                                                 \
	X(ftruncate, path_truncate)                                                                          \
	X(ioctl, file_ioctl)                                                                                 \
	X(ioctl32, file_ioctl_compat)                                                                        \
	X(move_mount, move_mount)                                                                            \
	X(pivot_root, sb_pivotroot)

/* The object is known: the functions that call the LSM hooks. */
#define FIM_RESOLVES(X)                                                                                      \
	X(open, resolve, security_file_open)                                                                 \
	X(unlink, resolve, security_path_unlink)                                                             \
	X(rmdir, resolve, security_path_rmdir)                                                               \
	X(mkdir, resolve, security_path_mkdir)                                                               \
	X(rename, resolve, security_path_rename)                                                             \
	X(link, resolve, security_path_link)                                                                 \
	X(symlink, resolve, security_path_symlink)                                                           \
	X(mknod, resolve, security_path_mknod)                                                               \
	X(ftruncate, resolve, security_path_truncate)                                                        \
	X(ioctl, resolve, security_file_ioctl)                                                               \
	X(ioctl32, resolve, security_file_ioctl_compat)                                                      \
	X(move_mount, resolve, security_move_mount)                                                          \
	X(pivot_root, resolve, security_sb_pivotroot)

/* The kernel begins to serve a request, or a hook notes something for it; or one hook is the whole event. */
#define FIM_ENTERS(X)                                                                                        \
	X(open, enter, do_filp_open)                                                                         \
	X(open_root, enter, do_file_open_root)                                                               \
	X(exec_open, enter, do_open_execat)                                                                  \
	X(may_open, given, may_open)                                                                         \
	X(walked, given, complete_walk)                                                                      \
	X(unlink, enter, do_unlinkat)                                                                        \
	X(rmdir, enter, do_rmdir)                                                                            \
	X(mkdir, enter, do_mkdirat)                                                                          \
	X(rename, enter, do_renameat2)                                                                       \
	X(link, enter, do_linkat)                                                                            \
	X(symlink, enter, do_symlinkat)                                                                      \
	X(mknod, enter, do_mknodat)                                                                          \
	X(truncate, enter, vfs_truncate)                                                                     \
	X(ftruncate, enter, do_sys_ftruncate)                                                                \
	X(chmod, enter, chmod_common)                                                                        \
	X(chown, enter, chown_common)                                                                        \
	X(utimes, enter, vfs_utimes)                                                                         \
	X(setxattr, enter, vfs_setxattr)                                                                     \
	X(removexattr, enter, vfs_removexattr)                                                               \
	X(set_acl, enter, vfs_set_acl)                                                                       \
	X(remove_acl, enter, vfs_remove_acl)                                                                 \
	X(chattr, enter, vfs_fileattr_set)                                                                   \
	X(chattr_path, enter, __do_sys_file_setattr)                                                         \
	X(bind, enter, unix_bind)                                                                            \
	X(mount, enter, path_mount)                                                                          \
	X(umount, enter, path_umount)                                                                        \
	X(move_mount, enter, __do_sys_move_mount)                                                            \
	X(move_mount32, enter, __ia32_sys_move_mount)                                                        \
	X(mount_setattr, enter, __do_sys_mount_setattr)                                                      \
	X(mount_setattr32, enter, __ia32_sys_mount_setattr)                                                  \
	X(open_tree_attr, enter, __do_sys_open_tree_attr)                                                    \
	X(open_tree_attr32, enter, __ia32_sys_open_tree_attr)                                                \
	X(pivot_root, enter, __do_sys_pivot_root)                                                            \
	X(pivot_root32, enter, __ia32_sys_pivot_root)                                                        \
	X(reconfigure, enter, reconfigure_super)                                                             \
	X(truncate_path, enter, __do_sys_truncate)                                                           \
	X(chmod_path, enter, do_fchmodat)                                                                    \
	X(chown_path, enter, do_fchownat)                                                                    \
	X(utimes_path, enter, do_utimes)                                                                     \
	X(setxattr_path, enter, path_setxattr)                                                               \
	X(removexattr_path, enter, path_removexattr)                                                         \
	X(lookup, given, filename_lookup)                                                                    \
	X(parent, given, filename_parentat)                                                                  \
	X(want_write, given, mnt_want_write)                                                                 \
	X(want_write_file, given, mnt_want_write_file)                                                       \
	X(drop_write, given, mnt_drop_write)                                                                 \
	X(signal, given, signal_setup_done)                                                                  \
	X(drop_write_file, given, mnt_drop_write_file)                                                       \
	X(close, once, __fput)                                                                               \
	X(unmounted, once, cleanup_mnt)                                                                      \
	X(freed, once, security_inode_free)                                                                  \
	X(moved, once, d_move)                                                                               \
	X(exchanged, once, d_exchange)                                                                       \
	X(linked, once, security_inode_link)                                                                 \
	X(unlinked, once, security_inode_unlink)

/* What the return would have shown, where the kernel may lose returns. */
#define FIM_AFTER_LOST_RETURNS(X) X(installed, given, fd_install)

/* The return value is known. */
#define FIM_EXITS(X)                                                                                         \
	X(open, do_filp_open)                                                                                \
	X(open_root, do_file_open_root)                                                                      \
	X(exec_open, do_open_execat)                                                                         \
	X(unlink, do_unlinkat)                                                                               \
	X(rmdir, do_rmdir)                                                                                   \
	X(mkdir, do_mkdirat)                                                                                 \
	X(rename, do_renameat2)                                                                              \
	X(link, do_linkat)                                                                                   \
	X(symlink, do_symlinkat)                                                                             \
	X(mknod, do_mknodat)                                                                                 \
	X(truncate, vfs_truncate)                                                                            \
	X(ftruncate, do_sys_ftruncate)                                                                       \
	X(chmod, chmod_common)                                                                               \
	X(chown, chown_common)                                                                               \
	X(utimes, vfs_utimes)                                                                                \
	X(setxattr, vfs_setxattr)                                                                            \
	X(removexattr, vfs_removexattr)                                                                      \
	X(set_acl, vfs_set_acl)                                                                              \
	X(remove_acl, vfs_remove_acl)                                                                        \
	X(chattr, vfs_fileattr_set)                                                                          \
	X(chattr_path, __do_sys_file_setattr)                                                                \
	X(ioctl, __do_sys_ioctl)                                                                             \
	X(ioctl32, __do_compat_sys_ioctl)                                                                    \
	X(bind, unix_bind)                                                                                   \
	X(parent, filename_parentat)                                                                         \
	X(mount, path_mount)                                                                                 \
	X(umount, path_umount)                                                                               \
	X(move_mount, __do_sys_move_mount)                                                                   \
	X(move_mount32, __ia32_sys_move_mount)                                                               \
	X(mount_setattr, __do_sys_mount_setattr)                                                             \
	X(mount_setattr32, __ia32_sys_mount_setattr)                                                         \
	X(open_tree_attr, __do_sys_open_tree_attr)                                                           \
	X(open_tree_attr32, __ia32_sys_open_tree_attr)                                                       \
	X(pivot_root, __do_sys_pivot_root)                                                                   \
	X(pivot_root32, __ia32_sys_pivot_root)                                                               \
	X(reconfigure, reconfigure_super)                                                                    \
	X(truncate_path, __do_sys_truncate)                                                                  \
	X(chmod_path, do_fchmodat)                                                                           \
	X(chown_path, do_fchownat)                                                                           \
	X(utimes_path, do_utimes)                                                                            \
	X(setxattr_path, path_setxattr)                                                                      \
	X(removexattr_path, path_removexattr)                                                                \
	X(want_write_file, mnt_want_write_file)

/* Processes: tracepoints, and functions near them. */
#define FIM_TRACEPOINTS(X)                                                                                   \
	X(exec, once, sched_process_exec)                                                                    \
	X(fork, once, sched_process_fork)                                                                    \
	X(exit, once, sched_process_exit)

#define FIM_TASKS(X)                                                                                         \
	X(exec, once, finalize_exec)                                                                         \
	X(fork, once, wake_up_new_task)                                                                      \
	X(exit, once, taskstats_exit)

#endif /* FIM_POINTS_H */
