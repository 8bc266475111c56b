/* ask.h - questions as prompts: templates, examples ("shots"), and what each data set's replies are compared
 * by.
 *
 * With a chat format the question is a user's message and the reply is opened; examples are earlier turns.
 * Without, everything is one text: examples with their answers, then the question. Prompts of one set share
 * their beginning up to the question itself, which runs use (eval/feed.h).
 *
 * In a question with pictures "<image N>" stands for its N-th and "<image>" for the next one that is not named by
 * a number; pictures that the text does not mention come before it, in their order. */
#ifndef CRL_EVAL_ASK_H
#define CRL_EVAL_ASK_H

#include "eval/items.h"
#include "eval/metrics.h"
#include "text/chat.h"

enum crl_ask {
    CRL_ASK_REPLY,  /* for a reply that is generated */
    CRL_ASK_LETTER, /* options listed with letters */
    CRL_ASK_OPTION  /* options not shown: each is tried as the reply */
};

/* How replies to a data set's questions are taken and compared, unless the user says otherwise. */
struct crl_ask_rule {
    enum crl_extract extract;
    enum crl_score score;
    size_t max_tokens;
    const char *stop[3]; /* of replies outside the chat format; NULL behind the last */
};
const struct crl_ask_rule *crl_ask_rule(enum crl_data_format format);

struct crl_asker {
    const struct crl_tok *tok;
    enum crl_data_format format;
    enum crl_ask ask;
    bool chat;
    bool blind;           /* leave pictures out; the marks are then text */
    const char *system;   /* a first message of that role, NULL: none */
    const char *template; /* of a question, NULL: the data set's; {question} {context} {choices} {tests} are
                             filled in */
    const struct crl_questions *shots; /* examples, NULL: none */
    size_t n_shot;                     /* the first so many of them */
};

/* CRL_ERANGE for a template with an unknown name in braces or without {question}; other braces stand for
 * themselves. */
enum crl_status crl_ask_check(const struct crl_asker *a, struct crl_err *err);

/* A prompt, in which each picture stands as one id. Zeroed storage is empty. */
struct crl_asked {
    struct crl_prompt prompt;
    const char **image; /* [prompt.n_image] their files: strings of the questions */
    size_t cap_image;
};
void crl_asked_fini(struct crl_asked *p);

/* The prompt for a question; *out must be empty. CRL_EFORMAT when a mark names a picture that is not there. */
enum crl_status crl_ask_prompt(const struct crl_asker *a, const struct crl_question *q, struct crl_asked *out,
                               struct crl_err *err);

/* Append the ids of a reply as they follow that prompt: an option's text, or a letter. */
enum crl_status crl_ask_option(const struct crl_asker *a, const char *text, struct crl_ids *out,
                               struct crl_err *err);

#endif
