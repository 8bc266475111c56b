/* toolcall.h - does a model's reply call tools, and which with what?
 *
 * Llama 4 was taught several forms and mixes them, so all are read: JSON objects, one or several, separated
 * by ";" or nothing, or in a list; a Python list of calls with literal arguments;
 * <function=NAME>{...}</function>; NAME.call(...). The markers <|python_start|> and <|python_end|> may be
 * there or not. Anything else, also a reply that is only nearly a call, is plain text. Nothing of the reply
 * is ever executed. */
#ifndef CRL_TEXT_TOOLCALL_H
#define CRL_TEXT_TOOLCALL_H

#include "base/json.h"

/* *calls: a new list [{"name": string, "arguments": object}, ...] of at least one call, or NULL when the
 * reply is plain text. The order is that of the reply. Fails only when memory is refused. */
enum crl_status crl_toolcall_parse(json_t **calls, const char *text, size_t len, struct crl_err *err);

#endif
