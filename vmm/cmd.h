/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_VMM_CMD_H
#define FAULTLINE_VMM_CMD_H

#define EXIT_OK     0
#define EXIT_FAILED 1
#define EXIT_USAGE  2

int vmm_cmd_run(int argc, char **argv);
int vmm_cmd_snapshot(int argc, char **argv);
int vmm_cmd_restore(int argc, char **argv);
int vmm_cmd_receive(int argc, char **argv);
int vmm_cmd_migrate(int argc, char **argv);
int vmm_cmd_control(int argc, char **argv);

#endif
