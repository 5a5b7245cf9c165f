/* SPDX-License-Identifier: MIT */
/* A request of the control socket that may take long, in a thread of its own. */
#ifndef FAULTLINE_VMM_CONTROL_JOB_H
#define FAULTLINE_VMM_CONTROL_JOB_H

#include <jansson.h>

#include "machine.h"

/* Zeroed: none is running. All but @done belongs to the thread that starts and ends it. */
struct vmm_job {
	struct vmm_machine *machine;
	json_t *request;
	json_t *answer;
	pthread_t thread;
	bool running;
	bool done; /* atomic; the machine's wake_fd tells of it */
};

/* vmm_job_start() - do @request, which becomes the job's. Return: 0 or -errno. */
int vmm_job_start(struct vmm_job *job, struct vmm_machine *machine, json_t *request);

/* vmm_job_done() - whether vmm_job_end() would not wait */
bool vmm_job_done(const struct vmm_job *job);

/* vmm_job_end() - wait at most @seconds for it, then take its answer (which may be NULL). Return: 0
 * or -ETIMEDOUT. */
int vmm_job_end(struct vmm_job *job, unsigned int seconds, json_t **answer);

#endif
