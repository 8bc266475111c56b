/* history.c - the history on SQLite. */
#define _GNU_SOURCE
#include "eval/history.h"

#include "base/file.h"
#include "base/mem.h"

#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define APPLICATION 0x43524c48 /* "CRLH" */
#define WAIT_MS 10000

struct crl_history {
    sqlite3 *db;
    char *path;
};

static const char *const verdict_names[] = { "", "good", "regressed", "failed" };

const char *crl_verdict_name(enum crl_verdict v)
{
    return verdict_names[v];
}

/* --- schema --------------------------------------------------------------------------------------------- */

/* migration[v] leads from version v to v + 1. Never changed once released; docs/format-history.md says what
 * they hold. */
static const char *const migration[CRL_HISTORY_VERSION] = {
    "CREATE TABLE run("
    " id INTEGER PRIMARY KEY, suite TEXT NOT NULL, suite_hash TEXT NOT NULL, model TEXT NOT NULL,"
    " config_hash TEXT NOT NULL, weights_hash TEXT NOT NULL, recipe TEXT NOT NULL,"
    " weights INTEGER NOT NULL, bytes INTEGER NOT NULL, corral TEXT NOT NULL, isa TEXT NOT NULL,"
    " threads INTEGER NOT NULL, started INTEGER NOT NULL, finished INTEGER, owner TEXT NOT NULL);"
    "CREATE TABLE evaluation("
    " id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE, name TEXT NOT NULL,"
    " kind TEXT NOT NULL, spec_hash TEXT NOT NULL, facts TEXT NOT NULL, tables TEXT NOT NULL,"
    " seconds REAL, tokens_per_s REAL, UNIQUE(run, name));"
    "CREATE TABLE metric("
    " evaluation INTEGER NOT NULL REFERENCES evaluation(id) ON DELETE CASCADE, pos INTEGER NOT NULL,"
    " name TEXT NOT NULL, unit TEXT NOT NULL, value REAL NOT NULL, se REAL, low REAL, high REAL,"
    " n INTEGER NOT NULL, better INTEGER NOT NULL, PRIMARY KEY(evaluation, pos)) WITHOUT ROWID;"
    "CREATE TABLE item("
    " evaluation INTEGER NOT NULL REFERENCES evaluation(id) ON DELETE CASCADE, pos INTEGER NOT NULL,"
    " id TEXT NOT NULL, score REAL NOT NULL, weight REAL NOT NULL, detail TEXT,"
    " PRIMARY KEY(evaluation, pos)) WITHOUT ROWID;",

    "ALTER TABLE run ADD COLUMN verdict INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE gate("
    " run INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE, pos INTEGER NOT NULL, expression TEXT NOT "
    "NULL,"
    " failed INTEGER NOT NULL, what TEXT NOT NULL, PRIMARY KEY(run, pos)) WITHOUT ROWID;"
    "CREATE INDEX run_finished ON run(finished);",
};

/* SQLite's reason as a status and a sentence. */
static enum crl_status say(const struct crl_history *h, struct crl_err *err)
{
    int rc = sqlite3_errcode(h->db) & 0xff;

    switch (rc) {
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return crl_fail(err, CRL_EFORMAT, "%s: is damaged or no history: %s", h->path, sqlite3_errmsg(h->db));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return crl_fail(err, CRL_EIO, "%s: another process keeps it locked; waited %d s", h->path,
                        WAIT_MS / 1000);
    case SQLITE_NOMEM:
        return crl_fail(err, CRL_ENOMEM, "%s: no memory", h->path);
    case SQLITE_FULL:
        return crl_fail(err, CRL_EFULL, "%s: the disk is full", h->path);
    default:
        return crl_fail(err, CRL_EIO, "%s: %s", h->path, sqlite3_errmsg(h->db));
    }
}

static enum crl_status execute(struct crl_history *h, const char *sql, struct crl_err *err)
{
    return sqlite3_exec(h->db, sql, NULL, NULL, NULL) == SQLITE_OK ? CRL_OK : say(h, err);
}

/* --- statements ----------------------------------------------------------------------------------------- */

/* A prepared statement that remembers the first failure. */
struct query {
    struct crl_history *h;
    sqlite3_stmt *stmt;
    struct crl_err *err;
    enum crl_status st;
    int column;
};

static struct query query(struct crl_history *h, const char *sql, struct crl_err *err)
{
    struct query q = { h, NULL, err, CRL_OK, 0 };

    if (sqlite3_prepare_v2(h->db, sql, -1, &q.stmt, NULL) != SQLITE_OK) q.st = say(h, err);
    return q;
}

static void bound(struct query *q, int rc)
{
    if (!q->st && rc != SQLITE_OK) q->st = say(q->h, q->err);
}

static void put_int(struct query *q, int64_t v)
{
    if (!q->st) bound(q, sqlite3_bind_int64(q->stmt, ++q->column, v));
}

/* NaN and infinities become NULL. */
static void put_real(struct query *q, double v)
{
    if (!q->st)
        bound(q, isfinite(v) ? sqlite3_bind_double(q->stmt, ++q->column, v)
                             : sqlite3_bind_null(q->stmt, ++q->column));
}

static void put_text(struct query *q, const char *s)
{
    if (!q->st)
        bound(q, sqlite3_bind_text(q->stmt, ++q->column, s, s ? (int)strlen(s) : 0, SQLITE_TRANSIENT));
}

static void put_hash(struct query *q, uint64_t hash)
{
    char text[17];

    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    put_text(q, text);
}

static void put_json(struct query *q, const json_t *doc)
{
    char *text = doc ? crl_json_text(doc) : NULL;

    if (!q->st && doc && !text) q->st = crl_fail(q->err, CRL_ENOMEM, "no memory for JSON");
    put_text(q, text);
    crl_free(text);
}

/* The next row is there. */
static bool row(struct query *q)
{
    int rc;

    if (q->st) return false;
    rc = sqlite3_step(q->stmt);
    q->column = 0;
    if (rc == SQLITE_ROW) return true;
    if (rc != SQLITE_DONE) q->st = say(q->h, q->err);
    return false;
}

static void again(struct query *q)
{
    if (q->st) return;
    sqlite3_reset(q->stmt);
    q->column = 0;
}

static enum crl_status done(struct query *q)
{
    sqlite3_finalize(q->stmt);
    q->stmt = NULL;
    return q->st;
}

/* Run a statement without rows. */
static enum crl_status run_once(struct query *q)
{
    while (row(q)) continue;
    return done(q);
}

static int64_t get_int(struct query *q)
{
    return sqlite3_column_int64(q->stmt, q->column++);
}

static double get_real(struct query *q)
{
    int at = q->column++;

    return sqlite3_column_type(q->stmt, at) == SQLITE_NULL ? NAN : sqlite3_column_double(q->stmt, at);
}

static char *get_text(struct query *q)
{
    const unsigned char *s = sqlite3_column_text(q->stmt, q->column++);
    char *copy = crl_strdup(s ? (const char *)s : "");

    if (!copy && !q->st) q->st = crl_fail(q->err, CRL_ENOMEM, "no memory for a history");
    return copy;
}

static json_t *get_json(struct query *q)
{
    char *text = get_text(q);
    json_t *doc = NULL;

    if (text && *text && !q->st) q->st = crl_json_parse(&doc, text, strlen(text), q->h->path, q->err);
    crl_free(text);
    return doc;
}

static enum crl_status one_int(struct crl_history *h, const char *sql, int64_t *v, struct crl_err *err)
{
    struct query q = query(h, sql, err);

    *v = 0;
    if (row(&q)) *v = get_int(&q);
    return done(&q);
}

/* --- opening -------------------------------------------------------------------------------------------- */

static enum crl_status migrate(struct crl_history *h, int from, int to, struct crl_err *err)
{
    char sql[64];
    enum crl_status st = execute(h, "BEGIN IMMEDIATE", err);
    int64_t now = 0;

    if (st) return st;
    st = one_int(h, "PRAGMA user_version", &now, err); /* another process may have been here first */
    if (!st && now > from) from = (int)now;
    for (int v = from; v < to && !st; v++) st = execute(h, migration[v], err);
    snprintf(sql, sizeof sql, "PRAGMA user_version = %d", to > from ? to : from);
    if (!st) st = execute(h, sql, err);
    snprintf(sql, sizeof sql, "PRAGMA application_id = %d", APPLICATION);
    if (!st) st = execute(h, sql, err);
    if (!st) return execute(h, "COMMIT", err);
    sqlite3_exec(h->db, "ROLLBACK", NULL, NULL, NULL);
    return st;
}

static enum crl_status check_version(struct crl_history *h, bool create, int most, struct crl_err *err)
{
    int64_t application, version, tables;
    enum crl_status st = one_int(h, "SELECT count(*) FROM sqlite_master", &tables, err);

    if (!st) st = one_int(h, "PRAGMA application_id", &application, err);
    if (!st) st = one_int(h, "PRAGMA user_version", &version, err);
    if (st) return st;
    if (tables && application != APPLICATION)
        return crl_fail(err, CRL_EFORMAT, "%s: is an SQLite database, but no history of corral", h->path);
    if (version < 0 || version > CRL_HISTORY_VERSION)
        return crl_fail(err, CRL_EFORMAT, "%s: is of version %lld, this program knows up to %d", h->path,
                        (long long)version, CRL_HISTORY_VERSION);
    if (version >= most) return CRL_OK;
    if (!create)
        return crl_fail(err, CRL_EFORMAT, "%s: is of version %lld; `corral eval suite` brings it up to %d",
                        h->path, (long long)version, CRL_HISTORY_VERSION);
    return migrate(h, (int)version, most, err);
}

static enum crl_status open_at(struct crl_history **out, const char *path, bool create, int version,
                               struct crl_err *err)
{
    int flags = SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0);
    struct crl_history *h = crl_alloc(1, sizeof *h);
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (!h || !(h->path = crl_strdup(path))) st = crl_fail(err, CRL_ENOMEM, "no memory for a history");
    if (!st && !create && !crl_file_exists(path))
        st = crl_fail(err, CRL_ENOENT, "%s: there is no history", path);
    if (!st && sqlite3_open_v2(path, &h->db, flags, NULL) != SQLITE_OK)
        st = h->db ? say(h, err) : crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    if (!st) {
        sqlite3_busy_timeout(h->db, WAIT_MS);
        st = execute(h, "PRAGMA foreign_keys = ON", err);
    }
    if (!st) st = check_version(h, create, version, err);
    if (st) {
        crl_history_close(h);
        return st;
    }
    *out = h;
    return CRL_OK;
}

enum crl_status crl_history_open(struct crl_history **out, const char *path, bool create, struct crl_err *err)
{
    return open_at(out, path, create, CRL_HISTORY_VERSION, err);
}

enum crl_status crl_history_open_version(struct crl_history **out, const char *path, int version,
                                         struct crl_err *err)
{
    return open_at(out, path, true, version, err);
}

void crl_history_close(struct crl_history *h)
{
    if (!h) return;
    sqlite3_close(h->db);
    crl_free(h->path);
    crl_free(h);
}

/* --- runs being made ------------------------------------------------------------------------------------ */

/* A process by its number and the time it was started at, in the machine's ticks; 0 when it is gone. */
static unsigned long long start_of(long pid)
{
    char path[64], text[1024], *p;
    unsigned long long start = 0;
    size_t n;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    f = fopen(path, "r");
    if (!f) return kill((pid_t)pid, 0) == 0; /* without /proc: it exists, that is all we know */
    n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    p = strrchr(text, ')'); /* the name may hold anything */
    for (int field = 2; p && field < 22; field++) p = strchr(p + 1, ' ');
    if (p) start = strtoull(p, NULL, 10);
    return start;
}

static bool is_alive(const char *owner)
{
    long pid;
    unsigned long long start;

    if (sscanf(owner, "%ld %llu", &pid, &start) != 2) return false;
    return pid > 0 && start && start_of(pid) == start;
}

static void owner_text(char text[64])
{
    snprintf(text, 64, "%ld %llu", (long)getpid(), start_of((long)getpid()));
}

/* An unfinished run of the same key without a living owner becomes ours. */
static enum crl_status adopt(struct crl_history *h, const struct crl_run_key *k, int64_t *run,
                             struct crl_err *err)
{
    struct query q =
        query(h,
              "SELECT id, owner FROM run WHERE finished IS NULL AND suite_hash = ? AND weights_hash = ? AND"
              " isa = ? AND corral = ? ORDER BY id DESC",
              err);
    enum crl_status st;
    char me[64];

    *run = 0;
    put_hash(&q, k->suite_hash);
    put_text(&q, k->weights_hash);
    put_text(&q, k->isa);
    put_text(&q, k->corral);
    while (!*run && row(&q)) {
        int64_t id = get_int(&q);
        char *owner = get_text(&q);
        if (owner && !is_alive(owner)) *run = id;
        crl_free(owner);
    }
    st = done(&q);
    if (st || !*run) return st;
    owner_text(me);
    q = query(h, "UPDATE run SET owner = ?, model = ?, threads = ? WHERE id = ?", err);
    put_text(&q, me);
    put_text(&q, k->model);
    put_int(&q, k->threads);
    put_int(&q, *run);
    return run_once(&q);
}

static enum crl_status insert_run(struct crl_history *h, const struct crl_run_key *k, int64_t *run,
                                  struct crl_err *err)
{
    struct query q =
        query(h,
              "INSERT INTO run(suite, suite_hash, model, config_hash, weights_hash, recipe, weights, bytes,"
              " corral, isa, threads, started, owner) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
              err);
    char me[64];
    enum crl_status st;

    owner_text(me);
    put_text(&q, k->suite);
    put_hash(&q, k->suite_hash);
    put_text(&q, k->model);
    put_text(&q, k->config_hash);
    put_text(&q, k->weights_hash);
    put_text(&q, k->recipe);
    put_int(&q, (int64_t)k->weights);
    put_int(&q, (int64_t)k->bytes);
    put_text(&q, k->corral);
    put_text(&q, k->isa);
    put_int(&q, k->threads);
    put_int(&q, (int64_t)time(NULL));
    put_text(&q, me);
    st = run_once(&q);
    if (!st) *run = sqlite3_last_insert_rowid(h->db);
    return st;
}

static enum crl_status commit_or_not(struct crl_history *h, enum crl_status st, struct crl_err *err)
{
    if (!st) st = execute(h, "COMMIT", err);
    if (st) sqlite3_exec(h->db, "ROLLBACK", NULL, NULL, NULL);
    return st;
}

enum crl_status crl_history_begin(struct crl_history *h, const struct crl_run_key *key, bool resume,
                                  int64_t *run, bool *resumed, struct crl_err *err)
{
    enum crl_status st = execute(h, "BEGIN IMMEDIATE", err);

    *resumed = false;
    if (st) return st;
    *run = 0;
    if (resume) st = adopt(h, key, run, err);
    if (!st && *run) *resumed = true;
    else if (!st) st = insert_run(h, key, run, err);
    return commit_or_not(h, st, err);
}

enum crl_status crl_history_has(struct crl_history *h, int64_t run, const char *name, uint64_t spec_hash,
                                bool *found, struct crl_err *err)
{
    struct query q = query(h, "SELECT 1 FROM evaluation WHERE run = ? AND name = ? AND spec_hash = ?", err);

    put_int(&q, run);
    put_text(&q, name);
    put_hash(&q, spec_hash);
    *found = row(&q);
    return done(&q);
}

static enum crl_status add_metrics(struct crl_history *h, int64_t id, const struct crl_result *r,
                                   struct crl_err *err)
{
    struct query q = query(h, "INSERT INTO metric VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", err);

    for (size_t i = 0; i < r->n_metric && !q.st; i++) {
        const struct crl_metric *m = &r->metric[i];
        again(&q);
        put_int(&q, id);
        put_int(&q, (int64_t)i);
        put_text(&q, m->name);
        put_text(&q, m->unit);
        put_real(&q, m->value);
        put_real(&q, m->se);
        put_real(&q, m->low);
        put_real(&q, m->high);
        put_int(&q, (int64_t)m->n);
        put_int(&q, m->better);
        row(&q);
    }
    return done(&q);
}

static enum crl_status add_items(struct crl_history *h, int64_t id, const struct crl_result *r,
                                 struct crl_err *err)
{
    struct query q = query(h, "INSERT INTO item VALUES(?, ?, ?, ?, ?, ?)", err);

    for (size_t i = 0; i < r->n_item && !q.st; i++) {
        again(&q);
        put_int(&q, id);
        put_int(&q, (int64_t)i);
        put_text(&q, r->item[i].id);
        put_real(&q, r->item[i].score);
        put_real(&q, r->item[i].weight);
        put_json(&q, r->item[i].detail);
        row(&q);
    }
    return done(&q);
}

static double fact_number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    return json_is_number(v) ? json_number_value(v) : NAN;
}

static enum crl_status add_evaluation(struct crl_history *h, int64_t run, const char *name,
                                      uint64_t spec_hash, const struct crl_result *r, struct crl_err *err)
{
    struct query q = query(h, "DELETE FROM evaluation WHERE run = ? AND name = ?", err);
    enum crl_status st;
    int64_t id;

    put_int(&q, run);
    put_text(&q, name);
    st = run_once(&q);
    if (st) return st;
    q = query(h,
              "INSERT INTO evaluation(run, name, kind, spec_hash, facts, tables, seconds, tokens_per_s)"
              " VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
              err);
    put_int(&q, run);
    put_text(&q, name);
    put_text(&q, r->kind);
    put_hash(&q, spec_hash);
    put_json(&q, r->facts);
    put_json(&q, r->tables);
    put_real(&q, fact_number(r->run, "seconds"));
    put_real(&q, fact_number(r->run, "tokens_per_s"));
    st = run_once(&q);
    id = sqlite3_last_insert_rowid(h->db);
    if (!st) st = add_metrics(h, id, r, err);
    return st ? st : add_items(h, id, r, err);
}

enum crl_status crl_history_add(struct crl_history *h, int64_t run, const char *name, uint64_t spec_hash,
                                const struct crl_result *r, struct crl_err *err)
{
    enum crl_status st = crl_result_check(r, err);

    if (!st) st = execute(h, "BEGIN IMMEDIATE", err);
    if (st) return st;
    return commit_or_not(h, add_evaluation(h, run, name, spec_hash, r, err), err);
}

enum crl_status crl_history_gate(struct crl_history *h, int64_t run, const char *expression, bool failed,
                                 const char *what, struct crl_err *err)
{
    struct query q = query(h,
                           "INSERT INTO gate(run, pos, expression, failed, what)"
                           " SELECT ?1, coalesce(max(pos) + 1, 0), ?2, ?3, ?4 FROM gate WHERE run = ?1",
                           err);

    put_int(&q, run);
    put_text(&q, expression);
    put_int(&q, failed);
    put_text(&q, what);
    return run_once(&q);
}

enum crl_status crl_history_finish(struct crl_history *h, int64_t run, enum crl_verdict verdict,
                                   struct crl_err *err)
{
    struct query q = query(h, "UPDATE run SET finished = ?, verdict = ? WHERE id = ?", err);

    put_int(&q, (int64_t)time(NULL));
    put_int(&q, verdict);
    put_int(&q, run);
    return run_once(&q);
}

/* --- reading back --------------------------------------------------------------------------------------- */

enum crl_status crl_history_find(struct crl_history *h, const char *which, const struct crl_run *like,
                                 int64_t *run, struct crl_err *err)
{
    bool good = strcmp(which, "good") == 0, last = strcmp(which, "last") == 0;
    char *end;
    long long id = strtoll(which, &end, 10);
    struct query q;
    enum crl_status st;

    if (!good && !last && (end == which || *end || id < 1))
        return crl_fail(err, CRL_ERANGE, "\"%s\" is no run: a number, last or good", which);
    q = query(h,
              "SELECT id FROM run WHERE (?1 = 0 OR id = ?1) AND (?1 <> 0 OR finished IS NOT NULL) AND (?2 = "
              "0 OR verdict = 1)"
              " AND (?3 = 0 OR id < ?3) AND (?4 IS NULL OR suite = ?4) AND (?5 IS NULL OR config_hash = ?5)"
              " ORDER BY id DESC LIMIT 1",
              err);
    put_int(&q, good || last ? 0 : id);
    put_int(&q, good);
    put_int(&q, like && (good || last) ? like->id : 0);
    put_text(&q, like && (good || last) ? like->suite : NULL);
    put_text(&q, like && (good || last) ? like->config_hash : NULL);
    *run = row(&q) ? get_int(&q) : 0;
    st = done(&q);
    if (st || *run) return st;
    return crl_fail(err, CRL_ENOENT, "%s: there is no %srun%s%s", h->path, good ? "good " : "",
                    good || last ? "" : " ", good || last ? " to be found" : which);
}

static enum crl_status load_metrics(struct crl_history *h, struct crl_evaluation *e, struct crl_err *err)
{
    struct query q = query(
        h, "SELECT name, unit, value, se, low, high, n, better FROM metric WHERE evaluation = ? ORDER BY pos",
        err);

    put_int(&q, e->id);
    while (row(&q)) {
        char *name = get_text(&q), *unit = get_text(&q);
        struct crl_metric *m;
        if (!q.st) q.st = crl_result_metric(e->result, &m, name, get_real(&q), 0, err);
        if (!q.st) {
            snprintf(m->unit, sizeof m->unit, "%s", unit);
            m->se = get_real(&q);
            m->low = get_real(&q);
            m->high = get_real(&q);
            m->n = (uint64_t)get_int(&q);
            m->better = (enum crl_better)get_int(&q);
        }
        crl_free(name);
        crl_free(unit);
    }
    return done(&q);
}

static enum crl_status load_evaluations(struct crl_history *h, struct crl_run *run, struct crl_err *err)
{
    struct query q =
        query(h,
              "SELECT id, name, kind, facts, tables, seconds, tokens_per_s FROM evaluation WHERE run = ?"
              " ORDER BY id",
              err);

    put_int(&q, run->id);
    while (row(&q)) {
        struct crl_evaluation *e;
        char *kind;
        q.st = crl_grow((void **)&run->eval, &run->cap_eval, run->n_eval + 1, sizeof *run->eval, 65536, err);
        if (q.st) break;
        e = &run->eval[run->n_eval++];
        e->id = get_int(&q);
        e->name = get_text(&q);
        kind = get_text(&q);
        if (!q.st) q.st = crl_result_new(&e->result, kind, err);
        crl_free(kind);
        if (q.st) break;
        json_decref(e->result->facts);
        e->result->facts = get_json(&q);
        json_decref(e->result->tables);
        e->result->tables = get_json(&q);
        e->seconds = get_real(&q);
        e->tokens_per_s = get_real(&q);
        if (!q.st && (!json_is_object(e->result->facts) || !json_is_object(e->result->tables)))
            q.st = crl_fail(err, CRL_EFORMAT, "%s: evaluation %lld has no facts", h->path, (long long)e->id);
        if (!q.st) q.st = load_metrics(h, e, err);
    }
    return done(&q);
}

static enum crl_status load_gates(struct crl_history *h, struct crl_run *run, struct crl_err *err)
{
    struct query q = query(h, "SELECT expression, what, failed FROM gate WHERE run = ? ORDER BY pos", err);

    put_int(&q, run->id);
    while (row(&q)) {
        struct crl_gate_note *g;
        q.st = crl_grow((void **)&run->gate, &run->cap_gate, run->n_gate + 1, sizeof *run->gate, 65536, err);
        if (q.st) break;
        g = &run->gate[run->n_gate++];
        g->expression = get_text(&q);
        g->what = get_text(&q);
        g->failed = get_int(&q) != 0;
    }
    return done(&q);
}

enum crl_status crl_history_load(struct crl_history *h, int64_t id, struct crl_run **out, struct crl_err *err)
{
    struct query q =
        query(h,
              "SELECT started, coalesce(finished, 0), suite, model, config_hash, weights_hash, recipe, isa,"
              " corral, weights, bytes, threads, verdict FROM run WHERE id = ?",
              err);
    struct crl_run *run = crl_alloc(1, sizeof *run);
    enum crl_status st;
    int64_t verdict;

    *out = NULL;
    if (!run && !q.st) q.st = crl_fail(err, CRL_ENOMEM, "no memory for a run");
    put_int(&q, id);
    if (row(&q)) {
        run->id = id;
        run->started = get_int(&q);
        run->finished = get_int(&q);
        run->suite = get_text(&q);
        run->model = get_text(&q);
        run->config_hash = get_text(&q);
        run->weights_hash = get_text(&q);
        run->recipe = get_text(&q);
        run->isa = get_text(&q);
        run->corral = get_text(&q);
        run->weights = (uint64_t)get_int(&q);
        run->bytes = (uint64_t)get_int(&q);
        run->threads = (unsigned)get_int(&q);
        verdict = get_int(&q);
        run->verdict =
            verdict >= 0 && verdict <= CRL_VERDICT_FAILED ? (enum crl_verdict)verdict : CRL_VERDICT_NONE;
    } else if (!q.st) {
        q.st = crl_fail(err, CRL_ENOENT, "%s: there is no run %lld", h->path, (long long)id);
    }
    st = done(&q);
    if (!st) st = load_evaluations(h, run, err);
    if (!st) st = load_gates(h, run, err);
    if (st) {
        crl_run_free(run);
        return st;
    }
    *out = run;
    return CRL_OK;
}

enum crl_status crl_history_items(struct crl_history *h, struct crl_evaluation *e, struct crl_err *err)
{
    struct query q =
        query(h, "SELECT id, score, weight, detail FROM item WHERE evaluation = ? ORDER BY pos", err);

    if (e->result->n_item) return done(&q);
    put_int(&q, e->id);
    while (row(&q)) {
        char *id = get_text(&q);
        double score = get_real(&q), weight = get_real(&q);
        json_t *detail = get_json(&q);
        if (!q.st) q.st = crl_result_item(e->result, id, score, weight, detail, err);
        else json_decref(detail);
        crl_free(id);
    }
    return done(&q);
}

void crl_run_free(struct crl_run *run)
{
    if (!run) return;
    for (size_t i = 0; i < run->n_eval; i++) {
        crl_free(run->eval[i].name);
        crl_result_free(run->eval[i].result);
    }
    for (size_t i = 0; i < run->n_gate; i++) {
        crl_free(run->gate[i].expression);
        crl_free(run->gate[i].what);
    }
    crl_free(run->eval);
    crl_free(run->gate);
    crl_free(run->suite);
    crl_free(run->model);
    crl_free(run->config_hash);
    crl_free(run->weights_hash);
    crl_free(run->recipe);
    crl_free(run->isa);
    crl_free(run->corral);
    crl_free(run);
}

struct crl_evaluation *crl_run_find(const struct crl_run *run, const char *name)
{
    for (size_t i = 0; i < run->n_eval; i++)
        if (strcmp(run->eval[i].name, name) == 0) return &run->eval[i];
    return NULL;
}

enum crl_status crl_history_runs(struct crl_history *h, size_t most, int64_t **ids, size_t *n,
                                 struct crl_err *err)
{
    struct query q = query(
        h,
        "SELECT id FROM (SELECT id FROM run WHERE finished IS NOT NULL ORDER BY id DESC LIMIT ?) ORDER BY id",
        err);
    size_t cap = 0;
    enum crl_status st;

    *ids = NULL;
    *n = 0;
    put_int(&q, (int64_t)most);
    while (row(&q)) {
        q.st = crl_grow((void **)ids, &cap, *n + 1, sizeof **ids, most, err);
        if (!q.st) (*ids)[(*n)++] = get_int(&q);
    }
    st = done(&q);
    if (st) {
        crl_free(*ids);
        *ids = NULL;
        *n = 0;
    }
    return st;
}
