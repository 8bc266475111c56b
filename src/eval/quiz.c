/* quiz.c - questions, prompts and figures of evaluations by questions. */
#include "eval/quiz.h"

#include "base/hash.h"
#include "base/mem.h"
#include "eval/about.h"
#include "eval/stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum crl_status read_questions(struct crl_quiz *z, bool split, struct crl_err *err)
{
    const struct crl_quiz_options *o = z->o;
    enum crl_status st = crl_questions_read(&z->all, o->path, o->format, err);

    if (!st && split) st = crl_questions_split_choices(z->all, err);
    if (!st && o->group) st = crl_questions_select(z->all, o->group, 0, err);
    if (!st) st = crl_questions_find_images(z->all, o->path, o->images, err);
    if (st || !o->shots) return st;
    if (o->shots_path) {
        st = crl_questions_read(&z->shots, o->shots_path, z->all->format, err);
        if (!st) st = crl_questions_find_images(z->shots, o->shots_path, o->images, err);
        if (!st && split) st = crl_questions_split_choices(z->shots, err);
        if (!st && z->shots->n < o->shots)
            st = crl_fail(err, CRL_ERANGE, "%s: %zu items where %zu examples are wanted", o->shots_path,
                          z->shots->n, o->shots);
    } else if (z->all->n <= o->shots) {
        st = crl_fail(err, CRL_ERANGE, "%s: %zu items: none is left besides %zu examples", o->path, z->all->n,
                      o->shots);
    }
    return st;
}

/* Which questions are asked: not those that serve as examples, and of the others every k-th. */
static enum crl_status pick(struct crl_quiz *z, struct crl_err *err)
{
    size_t from = z->o->shots_path ? 0 : z->o->shots, n = z->all->n - from;
    size_t most = z->o->limit && z->o->limit < n ? z->o->limit : n;

    z->q = crl_alloc(most, sizeof *z->q);
    z->prompt = crl_alloc(most, sizeof *z->prompt);
    z->image = crl_alloc(most, sizeof *z->image);
    if (!z->q || !z->prompt || !z->image) return crl_fail(err, CRL_ENOMEM, "no memory for %zu prompts", most);
    for (size_t i = 0; i < n; i++)
        if ((i + 1) * most / n != i * most / n) z->q[z->n++] = &z->all->v[from + i];
    return CRL_OK;
}

static enum crl_status check_question(const struct crl_quiz *z, const struct crl_question *q,
                                      struct crl_err *err)
{
    if (z->asker.ask != CRL_ASK_REPLY && (!q->n_choice || q->right < 0))
        return crl_fail(err, CRL_EFORMAT, "%s: item %s (line %zu) has no options to choose from", z->o->path,
                        q->id, q->line);
    return CRL_OK;
}

/* --- pictures ------------------------------------------------------------------------------------------- */

static void close_pictures(struct crl_picture **p, size_t n)
{
    for (size_t i = 0; i < n && p; i++) crl_picture_free(p[i]);
    crl_free(p);
}

/* Failures name the question. */
static enum crl_status open_pictures(const struct crl_quiz *z, const struct crl_question *q, const char *const *file,
                                     size_t n, struct crl_picture ***out, struct crl_err *err)
{
    struct crl_picture **p = crl_alloc(n, sizeof *p);
    enum crl_status st = p ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for %zu pictures", n);

    for (size_t i = 0; i < n && !st; i++) st = crl_picture_open(&p[i], z->engine, file[i], &z->o->picture, err);
    *out = p;
    if (!st) return CRL_OK;
    if (!crl_engine_eyes(z->engine) && err)
        snprintf(err->text, sizeof err->text, "%.200s is a text-only model; --without-images asks without them",
                 crl_pack_name(crl_engine_pack(z->engine)));
    crl_err_prefix(err, "%s: item %s (line %zu) has pictures", z->o->path, q->id, q->line);
    close_pictures(p, n);
    *out = NULL;
    return st;
}

/* The prompt's ids with the tokens of its pictures. */
static enum crl_status expand(struct crl_quiz *z, const struct crl_question *q, const struct crl_asked *asked,
                              struct crl_ids *ids, struct crl_err *err)
{
    size_t n = asked->prompt.n_image;
    struct crl_picture **p;
    enum crl_status st = open_pictures(z, q, asked->image, n, &p, err);

    if (st) return st;
    st = crl_pictures_expand(&asked->prompt, p, n, ids, err);
    for (size_t i = 0; i < n && !st; i++) {
        uint64_t both[2] = { z->pixels_hash, crl_picture_hash(p[i]) };
        z->pixels_hash = crl_hash(both, sizeof both);
        z->n_picture++;
    }
    close_pictures(p, n);
    return st ? st : crl_quiz_progress(z, 0, err); /* files of many pictures take a while */
}

static bool goes_on(void *ctx)
{
    return !crl_quiz_progress(ctx, ((struct crl_quiz *)ctx)->done, NULL);
}

enum crl_status crl_quiz_look(struct crl_quiz *z, size_t i, struct crl_quiz_sight *s, struct crl_err *err)
{
    const struct files *f = &z->image[i];
    const struct crl_ids *ids = &z->prompt[i];
    const float *const *rows = NULL;
    uint64_t *hash = NULL;
    enum crl_status st;

    *s = (struct crl_quiz_sight){ .n = 0 };
    if (!f->n) return CRL_OK;
    st = open_pictures(z, z->q[i], f->v, f->n, &s->picture, err);
    if (st) return st;
    s->n = f->n;
    for (size_t k = 0; k < f->n && !st; k++) st = crl_picture_look(s->picture[k], goes_on, z, err);
    if (!st) st = crl_pictures_place(z->engine, ids->v, ids->n, s->picture, s->n, &rows, err);
    if (!st && !(hash = crl_alloc(ids->n, sizeof *hash)))
        st = crl_fail(err, CRL_ENOMEM, "no memory for a prompt of %zu tokens", ids->n);
    for (size_t t = 0, k = 0, row = 0; t < ids->n && !st; t++) {
        if (!rows[t]) continue;
        if (row == crl_picture_rows_n(s->picture[k])) k++, row = 0;
        hash[t] = crl_picture_hash(s->picture[k]) | 1; /* 0 is text */
        row++;
    }
    s->feed = (struct crl_feed_sight){ rows, hash, hash ? ids->n : 0 };
    if (st) crl_quiz_look_away(s);
    return st;
}

void crl_quiz_look_away(struct crl_quiz_sight *s)
{
    close_pictures(s->picture, s->n);
    crl_free((void *)(uintptr_t)s->feed.rows);
    crl_free((void *)(uintptr_t)s->feed.hash);
    *s = (struct crl_quiz_sight){ .n = 0 };
}

/* --- prompts -------------------------------------------------------------------------------------------- */

/* The prompt of the question at hand, and the files of its pictures. */
static enum crl_status make_prompt(struct crl_quiz *z, const struct crl_question *q, struct crl_ids *ids,
                                   struct files *image, struct crl_err *err)
{
    struct crl_asked asked = { .cap_image = 0 };
    enum crl_status st = check_question(z, q, err);

    if (!st) {
        st = crl_ask_prompt(&z->asker, q, &asked, err);
        if (st) crl_err_prefix(err, "%s%s%s", z->o->path, z->shots ? " with examples of " : "",
                               z->shots ? z->o->shots_path : "");
    }
    if (!st && asked.prompt.n_image) st = expand(z, q, &asked, ids, err);
    else if (!st) *ids = asked.prompt.ids;
    if (!st && !asked.prompt.n_image) asked.prompt.ids = (struct crl_ids){ NULL, 0, 0 }; /* taken over */
    if (!st) *image = (struct files){ asked.image, asked.prompt.n_image };
    if (!st) asked.image = NULL;
    crl_asked_fini(&asked);
    return st;
}

static enum crl_status make_prompts(struct crl_quiz *z, size_t room, struct crl_err *err)
{
    struct crl_engine_info info;
    size_t n = 0, most;
    enum crl_status st = CRL_OK;

    crl_engine_info(z->engine, &info);
    most = z->o->ctx && z->o->ctx < info.n_ctx ? z->o->ctx : info.n_ctx;
    for (size_t i = 0; i < z->n && !st; i++) {
        struct crl_ids ids = { NULL, 0, 0 };
        struct files image = { NULL, 0 };
        st = make_prompt(z, z->q[i], &ids, &image, err);
        if (st || ids.n > most || room > most - ids.n) {
            if (!st) z->n_long++;
            if (!st && !z->o->skip_long)
                st = crl_fail(
                    err, CRL_EFULL,
                    "%s: item %s (line %zu): a prompt of %zu tokens and room for %zu do not fit into %zu "
                    "positions; --skip-long leaves such items out",
                    z->o->path, z->q[i]->id, z->q[i]->line, ids.n, room, most);
            crl_ids_fini(&ids);
            crl_free(image.v);
            continue;
        }
        if (ids.n > z->longest) z->longest = ids.n;
        z->q[n] = z->q[i];
        z->image[n] = image;
        z->prompt[n++] = ids;
    }
    z->n = n;
    if (!st && !n) st = crl_fail(err, CRL_EFULL, "%s: no item fits into %zu positions", z->o->path, most);
    return st;
}

enum crl_status crl_quiz_open(struct crl_quiz *z, struct crl_engine *engine, const struct crl_quiz_options *o,
                              enum crl_ask ask, bool split, size_t room, struct crl_err *err)
{
    enum crl_status st;

    *z = (struct crl_quiz){ .o = o, .engine = engine };
    z->asker.tok = crl_engine_tok(engine);
    if (!z->asker.tok)
        return crl_fail(err, CRL_ENOENT, "%s: has no tokenizer", crl_pack_name(crl_engine_pack(engine)));
    st = read_questions(z, split, err);
    if (!st) {
        z->asker.format = z->all->format;
        z->asker.ask = ask;
        z->asker.chat = o->chat;
        z->asker.blind = o->without_images;
        z->asker.system = o->system;
        z->asker.template = o->template;
        z->asker.shots = o->shots_path ? z->shots : z->all;
        z->asker.n_shot = o->shots;
        st = crl_ask_check(&z->asker, err);
    }
    if (!st) st = pick(z, err);
    if (!st) st = make_prompts(z, room, err);
    if (!st) {
        size_t lanes = o->parallel ? o->parallel : CRL_QUIZ_PARALLEL;
        z->n_lane = lanes < z->n ? lanes : z->n;
        st = crl_lanes_new(&z->lane, z->n_lane, engine, z->longest + room, err);
    }
    if (st) crl_quiz_close(z);
    return st;
}

void crl_quiz_close(struct crl_quiz *z)
{
    for (size_t i = 0; i < z->n && z->prompt; i++) crl_ids_fini(&z->prompt[i]);
    for (size_t i = 0; i < z->n && z->image; i++) crl_free(z->image[i].v);
    crl_free(z->image);
    crl_lanes_free(z->lane, z->n_lane);
    crl_free(z->prompt);
    crl_free(z->q);
    crl_questions_free(z->all);
    crl_questions_free(z->shots);
    memset(z, 0, sizeof *z);
}

enum crl_status crl_quiz_progress(struct crl_quiz *z, size_t done, struct crl_err *err)
{
    z->done = done;
    if (!z->o->progress || z->o->progress(z->o->progress_ctx, done, z->n)) return CRL_OK;
    return crl_fail(err, CRL_EINTR, "interrupted");
}

/* --- figures -------------------------------------------------------------------------------------------- */

/* What the pictures are, and how much of them was computed rather than found in the cache. */
static enum crl_status about_pictures(struct crl_result *r, const struct crl_quiz *z, struct crl_err *err)
{
    struct crl_eyes_stats stats;
    enum crl_status st = crl_result_fact(r, "pictures", json_integer((json_int_t)z->n_picture), err);
    int bad;

    if (!st) st = crl_result_fact(r, "pictures_hash", crl_hash_json(z->pixels_hash), err);
    if (!st && z->o->picture.max_tiles)
        st = crl_result_fact(r, "max_tiles", json_integer((json_int_t)z->o->picture.max_tiles), err);
    if (st) return st;
    crl_eyes_stats(crl_engine_eyes(z->engine), &stats);
    bad = json_object_set_new(r->run, "tiles_encoded", json_integer((json_int_t)stats.tiles));
    return bad ? crl_fail(err, CRL_ENOMEM, "no memory for the facts of the run") : CRL_OK;
}

enum crl_status crl_quiz_facts(struct crl_result *r, const struct crl_quiz *z, double seconds,
                               struct crl_err *err)
{
    const struct crl_quiz_options *o = z->o;
    enum crl_status st = crl_about_model(r, z->engine, err);
    uint64_t fed = 0;

    for (size_t i = 0; i < z->n_lane; i++) fed += z->lane[i].n_fed;
    if (!st) st = crl_about_speed(r, fed, seconds, err);
    if (!st) st = crl_result_fact(r, "data_hash", crl_hash_json(z->all->hash), err);
    if (!st) st = crl_result_fact(r, "format", json_string(crl_data_name(z->all->format)), err);
    if (!st && o->group) st = crl_result_fact(r, "group", json_string(o->group), err);
    if (!st) st = crl_result_fact(r, "items", json_integer((json_int_t)z->n), err);
    if (!st && z->n_long) st = crl_result_fact(r, "left_out", json_integer((json_int_t)z->n_long), err);
    if (!st) st = crl_result_fact(r, "prompt", json_string(o->chat ? "chat" : "text"), err);
    if (!st) st = crl_result_fact(r, "shots", json_integer((json_int_t)o->shots), err);
    if (!st && z->shots) st = crl_result_fact(r, "shots_hash", crl_hash_json(z->shots->hash), err);
    if (!st && z->n_picture) st = about_pictures(r, z, err);
    if (!st && o->system) st = crl_result_fact(r, "system", json_string(o->system), err);
    if (!st && o->template) st = crl_result_fact(r, "template", json_string(o->template), err);
    return st;
}

static double mean(const double *x, size_t n, double *se)
{
    double sum = 0, square = 0;

    for (size_t i = 0; i < n; i++) sum += x[i];
    sum /= (double)n;
    for (size_t i = 0; i < n; i++) square += (x[i] - sum) * (x[i] - sum);
    *se = n > 1 ? sqrt(square / (double)(n - 1) / (double)n) : NAN;
    return sum;
}

enum crl_status crl_quiz_mean(struct crl_result *r, const char *name, const char *unit,
                              enum crl_better better, const double *x, size_t n, struct crl_err *err)
{
    struct crl_metric *m;
    double se, value = mean(x, n, &se);
    enum crl_status st = crl_result_metric(r, &m, name, value, n, err);

    if (st) return st;
    m->se = se;
    m->low = value - 1.959964 * se;
    m->high = value + 1.959964 * se;
    m->better = better;
    memcpy(m->unit, unit, strlen(unit) + 1);
    return CRL_OK;
}

static bool all_or_nothing(const double *score, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (score[i] != 0 && score[i] != 1) return false;
    return true;
}

enum crl_status crl_quiz_share(struct crl_result *r, const char *name, const double *score, size_t n,
                               struct crl_err *err)
{
    enum crl_status st = crl_quiz_mean(r, name, "", CRL_BETTER_HIGH, score, n, err);
    struct crl_metric *m;

    if (st) return st;
    m = &r->metric[r->n_metric - 1];
    if (all_or_nothing(score, n)) crl_wilson(m->value * (double)n, (double)n, &m->low, &m->high);
    if (m->low < 0) m->low = 0;
    if (m->high > 1) m->high = 1;
    return CRL_OK;
}

struct member {
    const char *group;
    double score;
    size_t order; /* among the questions: groups come in the order of the file */
};

static int by_group(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    int c = strcmp(x->group, y->group);

    return c ? c : x->order < y->order ? -1 : 1;
}

enum crl_status crl_quiz_groups(struct crl_result *r, const struct crl_quiz *z, const double *score,
                                struct crl_err *err)
{
    struct member *m = crl_alloc(z->n, sizeof *m);
    json_t *columns = json_pack("[s, s, s, s, s]", "group", "n", "score", "low", "high"),
           *rows = json_array();
    size_t groups = 0, to;
    int bad = !m || !columns || !rows;

    for (size_t i = 0; i < z->n && !bad; i++)
        m[i] = (struct member){ z->q[i]->group ? z->q[i]->group : "", score[i], i };
    if (!bad) qsort(m, z->n, sizeof *m, by_group);
    for (size_t from = 0; from < z->n && !bad; from = to, groups++) {
        double sum = 0, low, high;
        for (to = from; to < z->n && !strcmp(m[to].group, m[from].group); to++) sum += m[to].score;
        crl_wilson(sum, (double)(to - from), &low, &high);
        bad = json_array_append_new(rows, json_pack("[s, I, f, f, f]", m[from].group, (json_int_t)(to - from),
                                                    sum / (double)(to - from), low, high));
    }
    crl_free(m);
    if (!bad && groups > 1) return crl_result_table(r, "groups", columns, rows, err);
    json_decref(columns);
    json_decref(rows);
    return bad ? crl_fail(err, CRL_ENOMEM, "no memory for a table of groups") : CRL_OK;
}
