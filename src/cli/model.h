/* model.h - what the commands that run a model share: the options about it, opening it from a packed file or
 * a checkpoint, its prompt format, and reading texts and ids. */
#ifndef CRL_CLI_MODEL_H
#define CRL_CLI_MODEL_H

#include "cli/cli.h"
#include "run/engine.h"

/* Options about the model, for struct crl_usage.more. Their ids start at CRL_MODEL_OPTION. */
extern const struct crl_option crl_model_options[];
#define CRL_MODEL_OPTION 0x1000

struct crl_model_args {
    const char *path;     /* packed file or checkpoint folder */
    const char *quantize; /* recipe for a checkpoint; NULL: bf16 */
    struct crl_engine_options engine;
    size_t ctx; /* positions; 0: default of crl_session_new */
    bool quiet;
};

/* Take an option of the table. False after a message on misuse: return CRL_EXIT_MISUSED. */
bool crl_model_option(struct crl_model_args *a, const struct crl_cli *c, int id);

/* Open the model; a checkpoint is packed in memory with a progress line. A first interrupt ends that with
 * CRL_EINTR. */
enum crl_status crl_model_open(struct crl_engine **engine, const struct crl_usage *u,
                               const struct crl_model_args *a, struct crl_err *err);

/* An engine over a pack, which it takes over: progress on a terminal, notes about the placement. */
enum crl_status crl_model_load(struct crl_engine **engine, const struct crl_usage *u, struct crl_pack *pack,
                               const struct crl_engine_options *options, bool quiet, struct crl_err *err);

/* True for a folder, a .safetensors file or an index: what is not a packed file. */
bool crl_model_is_checkpoint(const char *path);

/* The tokenizer has the control tokens of the chat format, and the model was made to use them: it has a chat
 * template, or <|eot|> is among its end tokens. */
bool crl_model_chats(const struct crl_engine *engine);

/* Append the ids in a text: decimal numbers separated by commas or white space. `what` names it in messages.
 */
enum crl_status crl_ids_parse(struct crl_ids *ids, const char *text, size_t len, const char *what,
                              struct crl_err *err);

/* Append all of stdin. */
enum crl_status crl_stdin_read(struct crl_str *out, struct crl_err *err);

/* Append a file; "-" is stdin. */
enum crl_status crl_text_read(struct crl_str *out, const char *path, struct crl_err *err);

/* CRL_EFORMAT with the place of the first byte that is no UTF-8. */
enum crl_status crl_text_check(const char *text, size_t len, const char *what, struct crl_err *err);

/* The option's value as a real number in [lo, hi]; false after a message. */
bool crl_cli_real(const struct crl_cli *c, const char *name, double lo, double hi, float *out);

/* The value of --kv; false after a message. */
bool crl_cli_kv(const struct crl_cli *c, enum crl_kv_choice *out);

#endif
