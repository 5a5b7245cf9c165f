/* SPDX-License-Identifier: MIT */
/*
 * The control socket: a Unix stream socket, one JSON object a line each way.
 *
 *   {"do":"status"}                 {"do":"pause"}  {"do":"resume"}  {"do":"quit"}
 *   {"do":"snapshot","dir":"/..."}  {"do":"command","text":"verify:random","wait":true}
 *   {"do":"wait"}                   until the running command has ended
 *   {"do":"migrate","to":"HOST:PORT",...}  until it is over, or lost
 *   {"do":"migrate-status"}  {"do":"migrate-cancel"}  {"do":"migrate-recover","to":...}
 *
 * Answers are {"ok":true,...} or {"ok":false,"error":"..."}.
 */
#ifndef FAULTLINE_VMM_CONTROL_H
#define FAULTLINE_VMM_CONTROL_H

#include <jansson.h>

#include "machine.h"

struct vmm_control;

/* vmm_control_start() - listen on @path and serve on a thread. Return: 0 or -errno. */
int vmm_control_start(struct vmm_machine *machine, const char *path, struct vmm_control **control);

/* vmm_control_stop() - after vmm_machine_quit(). Return: 0, or -ETIMEDOUT: still at work. */
int vmm_control_stop(struct vmm_control *control);

/*
 * vmm_control_do() - one request. Return: the answer, to be released, or NULL
 * when it is to be given when the running command has ended.
 */
json_t *vmm_control_do(struct vmm_machine *machine, const json_t *request);

/* vmm_control_quick() - whether vmm_control_do() answers without waiting for vCPUs or pages */
bool vmm_control_quick(const json_t *request);

/* vmm_control_name() - what it asks for, or "" */
const char *vmm_control_name(const json_t *request);

/* vmm_control_needs_pages() - whether vmm_control_result() reads guest memory, and so may wait */
bool vmm_control_needs_pages(struct vmm_machine *machine);

/* vmm_control_result() - the answer when it has */
json_t *vmm_control_result(struct vmm_machine *machine);

/* vmm_control_ask() - the other end: send @request, print the answer. Return: 0 or -errno. */
int vmm_control_ask(const char *path, json_t *request, bool json);

/* vmm_control_query() - send @request, take the answer, to be released. Return: 0 or -errno. */
int vmm_control_query(const char *path, json_t *request, json_t **answer);

/* vmm_control_no_answer() - this thread's last error, in the form of an answer, on stdout */
void vmm_control_no_answer(void);

/* The two halves of it: the first returns a descriptor, which the second closes. */
int vmm_control_send(const char *path, json_t *request);
int vmm_control_receive(const char *path, int fd, json_t **answer);

#endif
