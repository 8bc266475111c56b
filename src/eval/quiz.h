/* quiz.h - what evaluations by questions share: options, the questions of a file with their prompts,
 * progress, and figures over items. */
#ifndef CRL_EVAL_QUIZ_H
#define CRL_EVAL_QUIZ_H

#include "eval/ask.h"
#include "eval/feed.h"
#include "eval/result.h"
#include "run/picture.h"

struct crl_quiz_options {
    const char *path;
    enum crl_data_format format;
    const char *group;      /* glob; NULL: all */
    size_t limit;           /* most questions, spread over the file; 0: all */
    size_t shots;           /* examples in the prompt */
    const char *shots_path; /* where they come from; NULL: the first questions of the file, which are then not
                               asked */
    const char *system;
    const char *template;
    bool chat;
    bool without_images;  /* ask questions that have images without them */
    const char *images;   /* folder of the images; NULL: that of the data */
    struct crl_picture_options picture;
    bool skip_long;  /* leave out questions that do not fit into the context; else they fail the evaluation */
    size_t parallel; /* questions at a time; 0: CRL_QUIZ_PARALLEL */
    size_t ctx;      /* most positions of a session; 0: the model's own */
    bool (*progress)(void *ctx, size_t done, size_t total); /* questions; false stops. May be NULL */
    void *progress_ctx;
};
#define CRL_QUIZ_PARALLEL 16

/* The pictures of one question, held as long as it is at work. Zeroed storage is empty. */
struct crl_quiz_sight {
    struct crl_picture **picture; /* [n] */
    size_t n;
    struct crl_feed_sight feed; /* for its requests */
};

struct crl_quiz {
    const struct crl_quiz_options *o;
    struct crl_engine *engine;
    struct crl_questions *all, *shots; /* shots: NULL unless examples come from a file of their own */
    struct crl_asker asker;
    const struct crl_question **q; /* [n] those to be asked */
    struct crl_ids *prompt;        /* [n] */
    struct files {
        const char **v; /* [n] of pictures in the prompt: strings of the questions */
        size_t n;
    } *image;             /* [n] of the questions */
    size_t n_picture;     /* in all prompts */
    uint64_t pixels_hash; /* of all pictures */
    size_t done;          /* questions */
    size_t n, n_long;              /* asked; left out because they are too long */
    size_t longest;                /* tokens of a prompt */
    struct crl_lane *lane;         /* [n_lane] */
    size_t n_lane;
};

/* Read the file and make every prompt, for which every picture is opened once and closed again. room: positions
 * to keep free behind a prompt. split: lettered lines in questions become options. The lanes have room for the
 * longest prompt and `room`. */
enum crl_status crl_quiz_open(struct crl_quiz *z, struct crl_engine *engine, const struct crl_quiz_options *o,
                              enum crl_ask ask, bool split, size_t room, struct crl_err *err);
void crl_quiz_close(struct crl_quiz *z);

/* Open the pictures of question i and encode those that the engine's cache does not have. */
enum crl_status crl_quiz_look(struct crl_quiz *z, size_t i, struct crl_quiz_sight *s, struct crl_err *err);
void crl_quiz_look_away(struct crl_quiz_sight *s);

/* After `done` questions: show it, CRL_EINTR when the user asked to stop. */
enum crl_status crl_quiz_progress(struct crl_quiz *z, size_t done, struct crl_err *err);

/* Facts about the data and the prompts; model, and speed over the tokens that the lanes computed. */
enum crl_status crl_quiz_facts(struct crl_result *r, const struct crl_quiz *z, double seconds,
                               struct crl_err *err);

/* A metric that is a mean of scores in [0, 1]: Wilson's interval when all of them are 0 or 1. */
enum crl_status crl_quiz_share(struct crl_result *r, const char *name, const double *score, size_t n,
                               struct crl_err *err);

/* A metric that is a mean of any numbers. */
enum crl_status crl_quiz_mean(struct crl_result *r, const char *name, const char *unit,
                              enum crl_better better, const double *x, size_t n, struct crl_err *err);

/* A table "groups" with the mean score of each, when there is more than one group. score [n] of the questions
 * asked. */
enum crl_status crl_quiz_groups(struct crl_result *r, const struct crl_quiz *z, const double *score,
                                struct crl_err *err);

#endif
