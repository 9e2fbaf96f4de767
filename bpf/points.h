/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every place where a program is attached, once; the families make a program
 * of each. agent/hooks.py has the same names and the functions' other names.
 */
#ifndef FIM_POINTS_H
#define FIM_POINTS_H

#include "open.h"
#include "names.h"

/* The object is known: LSM hooks. */
#define FIM_LSM_RESOLVES(X)                                                                                  \
	X(open, file_open)                                                                                   \
	X(unlink, path_unlink)                                                                               \
	X(rmdir, path_rmdir)                                                                                 \
	X(mkdir, path_mkdir)                                                                                 \
	X(rename, path_rename)                                                                               \
	X(link, path_link)                                                                                   \
	X(symlink, path_symlink)                                                                             \
	X(mknod, path_mknod)

/* The object is known: the functions that call the LSM hooks. */
#define FIM_RESOLVES(X)                                                                                      \
	X(open, resolve, security_file_open)                                                                 \
	X(unlink, resolve, security_path_unlink)                                                             \
	X(rmdir, resolve, security_path_rmdir)                                                               \
	X(mkdir, resolve, security_path_mkdir)                                                               \
	X(rename, resolve, security_path_rename)                                                             \
	X(link, resolve, security_path_link)                                                                 \
	X(symlink, resolve, security_path_symlink)                                                           \
	X(mknod, resolve, security_path_mknod)

/* The kernel begins to serve a request; names are about to be looked up. */
#define FIM_ENTERS(X)                                                                                        \
	X(open, enter, do_filp_open)                                                                         \
	X(open_root, enter, do_file_open_root)                                                               \
	X(unlink, enter, do_unlinkat)                                                                        \
	X(rmdir, enter, do_rmdir)                                                                            \
	X(mkdir, enter, do_mkdirat)                                                                          \
	X(rename, enter, do_renameat2)                                                                       \
	X(link, enter, do_linkat)                                                                            \
	X(symlink, enter, do_symlinkat)                                                                      \
	X(mknod, enter, do_mknodat)                                                                          \
	X(parent, given, filename_parentat)

/* The return value is known. */
#define FIM_EXITS(X)                                                                                         \
	X(open, do_filp_open)                                                                                \
	X(open_root, do_file_open_root)                                                                      \
	X(unlink, do_unlinkat)                                                                               \
	X(rmdir, do_rmdir)                                                                                   \
	X(mkdir, do_mkdirat)                                                                                 \
	X(rename, do_renameat2)                                                                              \
	X(link, do_linkat)                                                                                   \
	X(symlink, do_symlinkat)                                                                             \
	X(mknod, do_mknodat)

#endif /* FIM_POINTS_H */
