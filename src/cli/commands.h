/* commands.h - every command of the program, each defined in its cmd_<name>.c; main.c lists them in order. */
#ifndef CRL_CLI_COMMANDS_H
#define CRL_CLI_COMMANDS_H

#include "cli/cli.h"

extern const struct crl_command crl_cmd_bench;
extern const struct crl_command crl_cmd_calibrate;
extern const struct crl_command crl_cmd_chat;
extern const struct crl_command crl_cmd_convert;
extern const struct crl_command crl_cmd_doctor;
extern const struct crl_command crl_cmd_eval;
extern const struct crl_command crl_cmd_export;
extern const struct crl_command crl_cmd_info;
extern const struct crl_command crl_cmd_logits;
extern const struct crl_command crl_cmd_plan;
extern const struct crl_command crl_cmd_report;
extern const struct crl_command crl_cmd_run;
extern const struct crl_command crl_cmd_tokenize;
extern const struct crl_command crl_cmd_verify;

#endif
