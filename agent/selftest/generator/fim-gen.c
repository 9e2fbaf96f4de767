// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fim-gen.h"

/*
 * The program that a script can exec: "exit STATUS", "open FILE STATUS", or "hold FILE STATUS", which stops
 * itself once the file is open.
 */
static int run_as_program(int argc, char **argv)
{
	if (argc < 4 || !strcmp(argv[1], "exit"))
		return atoi(argv[2]);
	if (syscall(SYS_openat, AT_FDCWD, argv[2], O_RDONLY) < 0)
		return 127;
	if (!strcmp(argv[1], "hold"))
		raise(SIGSTOP);
	return atoi(argv[3]);
}

int main(int argc, char **argv)
{
	if (argc > 2)
		return run_as_program(argc, argv);
	umask(0);			  /* modes must be exactly those of the script */
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* no workload without the process that checks it */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_TIMERSLACK, 1);
	witness_open();
	report_hello();
	while (script_read()) {
		run_ops(0, script.ops);
		report_done();
	}
	return 0;
}
