// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "fim-gen.h"

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "exit")) /* a program that a script can exec */
		return atoi(argv[2]);
	umask(0);			  /* modes are to be exactly those of the script */
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* no workload without its witness */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_TIMERSLACK, 1);
	report_hello();
	while (script_read()) {
		run_ops(0, script.ops);
		report_done();
	}
	return 0;
}
