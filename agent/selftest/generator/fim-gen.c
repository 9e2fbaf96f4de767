// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "fim-gen.h"

int main(void)
{
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
