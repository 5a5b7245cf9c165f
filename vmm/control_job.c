/* SPDX-License-Identifier: MIT */
#include "control_job.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "control.h"
#include "util.h"

static void *job_thread(void *arg)
{
	struct vmm_job *job = arg;

	job->answer = vmm_control_do(job->machine, job->request);
	__atomic_store_n(&job->done, true, __ATOMIC_RELEASE);
	eventfd_write(job->machine->wake_fd, 1);
	return NULL;
}

int vmm_job_start(struct vmm_job *job, struct vmm_machine *machine, json_t *request)
{
	int err;

	*job = (struct vmm_job){.machine = machine, .request = request, .running = true};
	err = pthread_create(&job->thread, NULL, job_thread, job);
	if (!err)
		return 0;
	job->running = false;
	json_decref(request);
	return vmm_fail(err, "start a thread: %s", strerror(err));
}

bool vmm_job_done(const struct vmm_job *job)
{
	return job->running && __atomic_load_n(&job->done, __ATOMIC_ACQUIRE);
}

int vmm_job_end(struct vmm_job *job, unsigned int seconds, json_t **answer)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	if (pthread_timedjoin_np(job->thread, NULL, &until))
		return -ETIMEDOUT;
	*answer = job->answer;
	json_decref(job->request);
	*job = (struct vmm_job){0};
	return 0;
}
