/* report.c - the page: verdict, latest figures, trends, expert usage, worst items. */
#define _GNU_SOURCE
#include "eval/report.h"

#include "base/mem.h"
#include "eval/compare.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUNS 60
#define RUNS_MAX 1000
#define WORST 10

/* A page being written; the first failure stays. */
struct page {
    struct crl_str *out;
    struct crl_err *err;
    enum crl_status st;
    struct crl_run **run; /* [n_run] shown, oldest first */
    size_t n_run;
    const struct crl_run *now, *base; /* the last one and what it is compared with; base may be NULL */
    struct crl_evaluation *now_eval;  /* of `now`, with items */
    const struct crl_comparison *compare;
    size_t worst;
};

/* --- writing -------------------------------------------------------------------------------------------- */

static void put(struct page *p, const char *s)
{
    if (!p->st) p->st = crl_str_puts(p->out, s, p->err);
}

CRL_PRINTF(2, 3) static void putf(struct page *p, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put(p, text);
}

/* Text of any origin. */
static void put_text(struct page *p, const char *s)
{
    size_t n;

    for (; *s && !p->st; s += n) {
        n = strcspn(
            s, "&<>\"'"
               "\001\002\003\004\005\006\007\010\013\014\016\017\020\021\022\023\024\025\026\027\030\031\032"
               "\033\034\035\036\037\177");
        if (n) {
            p->st = crl_str_add(p->out, s, n, p->err);
            continue;
        }
        n = 1;
        put(p, *s == '&'    ? "&amp;"
               : *s == '<'  ? "&lt;"
               : *s == '>'  ? "&gt;"
               : *s == '"'  ? "&quot;"
               : *s == '\'' ? "&#39;"
                            : "\xef\xbf\xbd");
    }
}

static const char *number(char text[48], double x)
{
    if (!isfinite(x)) strcpy(text, "&ndash;");
    else snprintf(text, 48, "%.5g", x);
    return text;
}

static void when(char text[32], int64_t t)
{
    time_t at = (time_t)t;
    struct tm tm;

    if (!gmtime_r(&at, &tm) || !strftime(text, 32, "%Y-%m-%d %H:%M", &tm)) strcpy(text, "?");
}

static const char style[] =
    "<style>\n"
    ":root{--ink:#1c2430;--soft:#5d6b7c;--line:#d7dde4;--paper:#fff;--tint:#f4f6f8;--blue:#2463a8;--red:#"
    "b3261e;--green:#1b7a43}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e9ef;--soft:#9aa8b8;--line:#37424f;--paper:#14181d;--"
    "tint:#1d232a;"
    "--blue:#7db4ef;--red:#ff8a80;--green:#7bd6a0}}\n"
    "body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 "
    "auto;max-width:72rem;padding:1.5rem}\n"
    "h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2rem 0 .6rem;border-bottom:1px solid "
    "var(--line);"
    "padding-bottom:.2rem}h3{font-size:1rem;margin:1.1rem 0 .4rem}\n"
    "p,.soft{color:var(--soft)}.bad{color:var(--red);font-weight:600}.good{color:var(--green)}\n"
    ".box{border:1px solid var(--line);border-left:5px solid var(--green);padding:.5rem "
    ".9rem;background:var(--tint)}"
    ".box.is-bad{border-left-color:var(--red)}.box p{margin:.2rem 0}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:."
    "2rem .7rem .2rem 0;"
    "text-align:right;border-bottom:1px solid "
    "var(--line);white-space:nowrap}th:first-child,td:first-child,td.t,th.t{text-align:left}"
    "th{font-weight:600;color:var(--soft)}tr.is-bad td{background:color-mix(in srgb,var(--red) "
    "12%,transparent)}\n"
    ".grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}figure{margin:0;"
    "border:1px solid var(--line);"
    "padding:.5rem}figcaption{font-size:.85rem}svg{width:100%;height:auto;display:block}\n"
    "details{border-bottom:1px solid var(--line);padding:.3rem "
    "0}summary{cursor:pointer}dl{display:grid;grid-template-columns:"
    "max-content 1fr;gap:.15rem .8rem;margin:.5rem 0 .5rem "
    "1rem}dt{color:var(--soft)}dd{margin:0;white-space:pre-wrap;"
    "overflow-wrap:anywhere}\n"
    "svg text{font:10px "
    "system-ui,sans-serif;fill:var(--soft)}.l{fill:none;stroke:var(--blue);stroke-width:1.5}.b{fill:var(--"
    "blue);"
    "opacity:.15}.d{fill:var(--blue)}.x{fill:var(--red)}.g{stroke:var(--line);stroke-width:1}\n"
    "</style>\n";

/* --- the verdict ---------------------------------------------------------------------------------------- */

static void put_head(struct page *p)
{
    const struct crl_run *r = p->now;
    bool bad = r->verdict == CRL_VERDICT_REGRESSED || r->verdict == CRL_VERDICT_FAILED;
    char at[32];

    when(at, r->finished);
    put(p, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
           "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>corral: ");
    put_text(p, r->suite);
    put(p, "</title>\n");
    put(p, style);
    put(p, "</head>\n<body>\n<h1>Suite ");
    put_text(p, r->suite);
    putf(p, "</h1>\n<p>%zu run%s shown, the last one finished %s UTC</p>\n", p->n_run,
         p->n_run == 1 ? "" : "s", at);
    putf(p, "<div class=\"box%s\">\n<p><strong class=\"%s\">", bad ? " is-bad" : "", bad ? "bad" : "good");
    put(p, r->verdict == CRL_VERDICT_REGRESSED ? "Regression"
           : r->verdict == CRL_VERDICT_FAILED  ? "An evaluation failed"
                                               : "Good");
    putf(p, "</strong> &middot; run %lld &middot; ", (long long)r->id);
    put_text(p, r->model);
    put(p, " &middot; recipe ");
    put_text(p, r->recipe);
    putf(p, " &middot; %.4g bits per weight &middot; ",
         r->weights ? 8.0 * (double)r->bytes / (double)r->weights : 0.0);
    put_text(p, r->isa);
    putf(p, ", %u threads &middot; corral ", r->threads);
    put_text(p, r->corral);
    put(p, "</p>\n");
    if (p->base) {
        when(at, p->base->finished);
        putf(p, "<p>Compared with run %lld of %s UTC, recipe ", (long long)p->base->id, at);
        put_text(p, p->base->recipe);
        put(p, strcmp(p->base->weights_hash, r->weights_hash) ? ", other weights" : ", the same weights");
        put(p, "</p>\n");
    } else put(p, "<p>There is no good run before it to compare with.</p>\n");
    for (size_t i = 0; i < r->n_gate; i++) {
        putf(p, "<p class=\"%s\">%s <code>", r->gate[i].failed ? "bad" : "soft",
             r->gate[i].failed ? "&#10007;" : "&#10003;");
        put_text(p, r->gate[i].expression);
        put(p, "</code>: ");
        put_text(p, r->gate[i].what);
        put(p, "</p>\n");
    }
    put(p, "</div>\n");
}

/* --- the latest figures --------------------------------------------------------------------------------- */

static const struct crl_difference *difference(const struct page *p, const char *evaluation,
                                               const char *metric)
{
    for (size_t i = 0; p->compare && i < p->compare->n; i++)
        if (!strcmp(p->compare->v[i].evaluation, evaluation) && !strcmp(p->compare->v[i].metric, metric))
            return &p->compare->v[i];
    return NULL;
}

static void put_change(struct page *p, const struct crl_metric *m, const struct crl_metric *before,
                       const struct crl_difference *d)
{
    char a[48];

    if (!before) {
        put(p, "<td></td><td></td><td></td>");
        return;
    }
    putf(p, "<td>%s</td>", number(a, before->value));
    putf(p, "<td>%s%s</td>", m->value > before->value ? "+" : "", number(a, m->value - before->value));
    if (!d) put(p, "<td></td>");
    else if (d->significant)
        putf(p, "<td class=\"%s\">%s, p = %.2g</td>", d->worse ? "bad" : "good",
             d->worse ? "worse" : "better", d->p);
    else putf(p, "<td>%s</td>", d->n_worse || d->n_better ? "not significant" : "same");
}

static void put_metric_row(struct page *p, const struct crl_evaluation *e, const struct crl_metric *m)
{
    struct crl_evaluation *b = p->base ? crl_run_find(p->base, e->name) : NULL;
    const struct crl_metric *before = b && crl_comparable(b, e) ? crl_result_find(b->result, m->name) : NULL;
    const struct crl_difference *d = difference(p, e->name, m->name);
    char x[48], y[48], z[48];

    put(p, d && d->significant && d->worse ? "<tr class=\"is-bad\"><td>" : "<tr><td>");
    put_text(p, e->name);
    put(p, "</td><td class=\"t\">");
    put_text(p, m->name);
    putf(p, "</td><td>%s</td><td>", number(x, m->value));
    put_text(p, m->unit);
    put(p, "</td>");
    if (isfinite(m->low) && isfinite(m->high))
        putf(p, "<td>%s to %s</td>", number(y, m->low), number(z, m->high));
    else put(p, "<td></td>");
    put_change(p, m, before, d);
    put(p, "</tr>\n");
}

static void put_latest(struct page *p)
{
    put(p, "<h2>Latest figures</h2>\n<div class=\"wide\"><table>\n<tr><th>evaluation</th><th "
           "class=\"t\">metric</th>"
           "<th>value</th><th></th><th>95 % interval</th><th>baseline</th><th>change</th><th>paired "
           "test</th></tr>\n");
    for (size_t i = 0; i < p->now->n_eval; i++)
        for (size_t k = 0; k < p->now->eval[i].result->n_metric; k++)
            put_metric_row(p, &p->now->eval[i], &p->now->eval[i].result->metric[k]);
    put(p, "</table></div>\n");
    if (p->compare)
        putf(p,
             "<p>Paired tests over items: McNemar's for right or wrong, else a z test; significant after "
             "Holm's correction "
             "over %zu series at %g.</p>\n",
             p->compare->n, p->compare->alpha);
    for (size_t i = 0; p->compare && i < p->compare->n_left_out; i++) {
        put(p, "<p>Not compared: ");
        put_text(p, p->compare->left_out[i]);
        put(p, "</p>\n");
    }
}

static void put_speed(struct page *p)
{
    put(p, "<h2>Speed</h2>\n<div "
           "class=\"wide\"><table>\n<tr><th>evaluation</th><th>seconds</th><th>tokens/s</th>"
           "<th>baseline tokens/s</th><th>ratio</th></tr>\n");
    for (size_t i = 0; i < p->now->n_eval; i++) {
        const struct crl_evaluation *e = &p->now->eval[i],
                                    *b = p->base ? crl_run_find(p->base, e->name) : NULL;
        char x[48], y[48], z[48], w[48];
        put(p, "<tr><td>");
        put_text(p, e->name);
        putf(p, "</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", number(x, e->seconds),
             number(y, e->tokens_per_s), number(z, b ? b->tokens_per_s : NAN),
             number(w, b ? e->tokens_per_s / b->tokens_per_s : NAN));
    }
    put(p, "</table></div>\n");
}

/* --- trends --------------------------------------------------------------------------------------------- */

#define WIDTH 320.0
#define HEIGHT 120.0
#define LEFT 58.0
#define RIGHT 8.0
#define TOP 8.0
#define BOTTOM 18.0

/* A point of a trend; y NaN: the run has none. */
struct point {
    double y, low, high;
    bool bad;
    int64_t run;
};

static double at_x(size_t i, size_t n)
{
    return n < 2 ? (LEFT + WIDTH - RIGHT) / 2 : LEFT + (WIDTH - LEFT - RIGHT) * (double)i / (double)(n - 1);
}

struct scale {
    double lo, hi;
};

static double at_y(const struct scale *s, double y)
{
    return TOP + (HEIGHT - TOP - BOTTOM) * (s->hi - y) / (s->hi - s->lo);
}

static struct scale scale_of(const struct point *v, size_t n)
{
    struct scale s = { INFINITY, -INFINITY };
    double pad;

    for (size_t i = 0; i < n; i++) {
        if (!isfinite(v[i].y)) continue;
        s.lo = fmin(s.lo, fmin(v[i].y, isfinite(v[i].low) ? v[i].low : v[i].y));
        s.hi = fmax(s.hi, fmax(v[i].y, isfinite(v[i].high) ? v[i].high : v[i].y));
    }
    pad = s.hi > s.lo ? 0.06 * (s.hi - s.lo) : fmax(fabs(s.hi) * 0.05, 1e-9);
    s.lo -= pad;
    s.hi += pad;
    return s;
}

static void put_band(struct page *p, const struct point *v, size_t n, const struct scale *s)
{
    size_t from = 0, to;

    for (; from < n; from = to + 1) { /* stretches with an interval */
        for (to = from; to < n && isfinite(v[to].y) && isfinite(v[to].low) && isfinite(v[to].high);) to++;
        if (to - from < 2) continue;
        put(p, "<path class=\"b\" d=\"M");
        for (size_t i = from; i < to; i++) putf(p, "%.1f %.1f ", at_x(i, n), at_y(s, v[i].high));
        put(p, "L");
        for (size_t i = to; i-- > from;) putf(p, "%.1f %.1f ", at_x(i, n), at_y(s, v[i].low));
        put(p, "Z\"/>");
    }
}

static void put_chart(struct page *p, const struct point *v, size_t n, const char *label)
{
    struct scale s = scale_of(v, n);
    char lo[48], hi[48];
    bool open = false;

    putf(p, "<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    put_text(p, label);
    put(p, "\">");
    putf(p,
         "<line class=\"g\" x1=\"%g\" x2=\"%g\" y1=\"%g\" y2=\"%g\"/><line class=\"g\" x1=\"%g\" x2=\"%g\" "
         "y1=\"%g\" y2=\"%g\"/>",
         LEFT, WIDTH - RIGHT, TOP, TOP, LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM);
    putf(p, "<text x=\"2\" y=\"%g\">%s</text><text x=\"2\" y=\"%g\">%s</text>", TOP + 4, number(hi, s.hi),
         HEIGHT - BOTTOM, number(lo, s.lo));
    putf(p,
         "<text x=\"%g\" y=\"%g\">run %lld</text><text x=\"%g\" y=\"%g\" text-anchor=\"end\">run %lld</text>",
         LEFT, HEIGHT - 4, (long long)v[0].run, WIDTH - RIGHT, HEIGHT - 4, (long long)v[n - 1].run);
    put_band(p, v, n, &s);
    put(p, "<path class=\"l\" d=\"");
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(v[i].y)) {
            open = false;
            continue;
        }
        putf(p, "%s%.1f %.1f ", open ? "L" : "M", at_x(i, n), at_y(&s, v[i].y));
        open = true;
    }
    put(p, "\"/>");
    for (size_t i = 0; i < n; i++) {
        char y[48];
        if (!isfinite(v[i].y)) continue;
        putf(p,
             "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%g\"><title>run %lld: %s%s</title></circle>",
             v[i].bad ? "x" : "d", at_x(i, n), at_y(&s, v[i].y), v[i].bad ? 4.0 : 2.2, (long long)v[i].run,
             number(y, v[i].y), v[i].bad ? ", regressed" : "");
    }
    put(p, "</svg>");
}

/* Values of runs that asked the same as the last one. metric NULL: tokens per second. */
static size_t collect(const struct page *p, const struct crl_evaluation *e, const char *metric,
                      struct point *v)
{
    size_t known = 0;

    for (size_t i = 0; i < p->n_run; i++) {
        const struct crl_evaluation *one = crl_run_find(p->run[i], e->name);
        const struct crl_metric *m =
            one && metric && crl_comparable(one, e) ? crl_result_find(one->result, metric) : NULL;
        v[i] = (struct point){ NAN, NAN, NAN, p->run[i]->verdict == CRL_VERDICT_REGRESSED, p->run[i]->id };
        if (m) {
            v[i].y = m->value;
            v[i].low = m->low;
            v[i].high = m->high;
        } else if (one && !metric) v[i].y = one->tokens_per_s;
        known += isfinite(v[i].y);
    }
    return known;
}

static void put_figure(struct page *p, const struct crl_evaluation *e, const char *metric, struct point *v)
{
    char label[256], x[48];

    if (!collect(p, e, metric, v)) return;
    snprintf(label, sizeof label, "%s: %s", e->name, metric ? metric : "tokens per second");
    put(p, "<figure><figcaption>");
    put_text(p, label);
    putf(p, " <strong>%s</strong></figcaption>", number(x, v[p->n_run - 1].y));
    put_chart(p, v, p->n_run, label);
    put(p, "</figure>\n");
}

/* Metrics of one layer of many have their place in the table; a chart each would bury the rest. */
static bool has_trend(const struct crl_metric *m)
{
    return m->better != CRL_BETTER_NONE && !strstr(m->name, ".layer");
}

static void put_trends(struct page *p)
{
    struct point *v = crl_alloc(p->n_run, sizeof *v);

    if (!v && !p->st) p->st = crl_fail(p->err, CRL_ENOMEM, "no memory for a report");
    if (p->st) {
        crl_free(v);
        return;
    }
    put(p, "<h2>Trends</h2>\n<p>Lines are values, bands 95 % intervals; a red point is a run that a "
           "condition called a "
           "regression. Only runs that asked the same as the last one are shown.</p>\n");
    for (size_t i = 0; i < p->now->n_eval; i++) {
        const struct crl_evaluation *e = &p->now->eval[i];
        put(p, "<h3>");
        put_text(p, e->name);
        put(p, "</h3>\n<div class=\"grid\">\n");
        for (size_t k = 0; k < e->result->n_metric; k++)
            if (has_trend(&e->result->metric[k])) put_figure(p, e, e->result->metric[k].name, v);
        put_figure(p, e, NULL, v);
        put(p, "</div>\n");
    }
    crl_free(v);
}

/* --- experts -------------------------------------------------------------------------------------------- */

/* The table "counts" of a routing: [[layer, [tokens of each expert]], ...]. A cell's colour is its share of
 * the layer, twice the even share being full. */
static void put_heat(struct page *p, const struct crl_evaluation *e)
{
    const json_t *rows = json_object_get(json_object_get(e->result->tables, "counts"), "rows");
    size_t n = json_array_size(rows), most = 0, i, k;
    json_t *row, *cell;

    json_array_foreach((json_t *)rows, i, row)
    {
        size_t len = json_array_size(json_array_get(row, 1));
        if (len > most) most = len;
    }
    if (!n || !most || most > 4096 || n > 4096) return;
    put(p, "<h3>");
    put_text(p, e->name);
    put(p, "</h3>\n<p>Share of a layer's tokens that go to each expert; white is none, full colour twice the "
           "even share or "
           "more.</p>\n");
    putf(p,
         "<svg viewBox=\"0 0 %zu %zu\" role=\"img\" aria-label=\"expert usage\" style=\"max-width:%zupx\">",
         40 + most * 14, 16 + n * 14, (40 + most * 14) * 2);
    json_array_foreach((json_t *)rows, i, row)
    {
        const json_t *counts = json_array_get(row, 1);
        double sum = 0;
        json_array_foreach((json_t *)counts, k, cell) sum += json_number_value(cell);
        putf(p, "<text x=\"0\" y=\"%zu\">%lld</text>", 24 + i * 14,
             (long long)json_integer_value(json_array_get(row, 0)));
        json_array_foreach((json_t *)counts, k, cell)
        {
            double share = sum > 0 ? json_number_value(cell) / sum : 0;
            putf(p,
                 "<rect x=\"%zu\" y=\"%zu\" width=\"13\" height=\"13\" class=\"d\" "
                 "style=\"opacity:%.2f\"><title>layer %lld, expert "
                 "%zu: %.1f %%</title></rect>",
                 36 + k * 14, 14 + i * 14, fmin(1, share * (double)most / 2),
                 (long long)json_integer_value(json_array_get(row, 0)), k, 100 * share);
        }
    }
    put(p, "<text x=\"36\" y=\"10\">expert 0</text></svg>\n");
}

static void put_experts(struct page *p)
{
    bool any = false;

    for (size_t i = 0; i < p->now->n_eval; i++) {
        if (!json_object_get(p->now->eval[i].result->tables, "counts")) continue;
        if (!any) put(p, "<h2>Experts</h2>\n");
        any = true;
        put_heat(p, &p->now->eval[i]);
    }
}

/* --- items ---------------------------------------------------------------------------------------------- */

struct ranked {
    const struct crl_item *item;
    double badness;
    bool turned; /* right before, wrong now */
};

static int by_badness(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->badness != y->badness) return x->badness > y->badness ? -1 : 1;
    return x->item < y->item ? -1 : 1;
}

static void put_detail(struct page *p, const json_t *detail)
{
    const char *key;
    json_t *v;

    put(p, "<dl>");
    json_object_foreach((json_t *)detail, key, v)
    {
        char *text = json_is_string(v) ? crl_strdup(json_string_value(v)) : NULL;
        if (!json_is_string(v)) {
            char *dump = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(5));
            text = dump ? crl_strdup(dump) : NULL;
            free(dump);
        }
        if (!text && !p->st) p->st = crl_fail(p->err, CRL_ENOMEM, "no memory for a report");
        put(p, "<dt>");
        put_text(p, key);
        put(p, "</dt><dd>");
        put_text(p, text ? text : "");
        put(p, "</dd>");
        crl_free(text);
    }
    put(p, "</dl>");
}

static void put_item(struct page *p, const struct ranked *r)
{
    char x[48];

    put(p, "<details><summary>");
    put_text(p, r->item->id);
    putf(p, " &middot; %s%s</summary>", number(x, r->item->score / r->item->weight),
         r->turned ? " <span class=\"bad\">better in the baseline</span>" : "");
    if (r->item->detail) put_detail(p, r->item->detail);
    else
        putf(p, "<dl><dt>sum</dt><dd>%.6g</dd><dt>weight</dt><dd>%.6g</dd></dl>", r->item->score,
             r->item->weight);
    put(p, "</details>\n");
}

/* How bad: how much worse than in the baseline where the items are the same, and after that how bad by
 * itself. */
static void put_worst_of(struct page *p, struct crl_evaluation *e)
{
    const struct crl_result *r = e->result;
    const struct crl_evaluation *b = p->base ? crl_run_find(p->base, e->name) : NULL;
    const struct crl_result *before =
        b && crl_comparable(b, e) && b->result->n_item == r->n_item ? b->result : NULL;
    struct ranked *v = crl_alloc(r->n_item, sizeof *v);
    size_t n = 0;
    double sign = -1;

    if (!v && !p->st) p->st = crl_fail(p->err, CRL_ENOMEM, "no memory for a report");
    for (size_t k = 0; k < r->n_metric; k++)
        if (r->metric[k].better != CRL_BETTER_NONE) {
            sign = r->metric[k].better == CRL_BETTER_LOW ? 1 : -1;
            break;
        }
    for (size_t i = 0; i < r->n_item && !p->st; i++) {
        double score = sign * r->item[i].score / r->item[i].weight;
        double change = before ? score - sign * before->item[i].score / before->item[i].weight : 0;
        if (sign < 0 && score <= -1 && change <= 0) continue; /* right */
        v[n++] = (struct ranked){ &r->item[i], (change > 1e-12 ? 1e6 * change : 0) + score, change > 1e-12 };
    }
    qsort(v, n, sizeof *v, by_badness);
    put(p, "<h3>");
    put_text(p, e->name);
    putf(p, "</h3>\n<p>%zu of %zu items are %s; the worst are listed, those first that became worse.</p>\n",
         n, r->n_item, sign < 0 ? "not fully right" : "ranked");
    for (size_t i = 0; i < n && i < p->worst; i++) put_item(p, &v[i]);
    crl_free(v);
}

static void put_worst(struct page *p)
{
    put(p, "<h2>Worst items</h2>\n");
    for (size_t i = 0; i < p->now->n_eval; i++)
        if (p->now->eval[i].result->n_item) put_worst_of(p, &p->now_eval[i]);
}

/* --- runs ----------------------------------------------------------------------------------------------- */

static void put_runs(struct page *p)
{
    put(p, "<h2>Runs</h2>\n<div class=\"wide\"><table>\n<tr><th>run</th><th class=\"t\">finished "
           "(UTC)</th><th class=\"t\">model</th>"
           "<th class=\"t\">recipe</th><th class=\"t\">weights</th><th class=\"t\">corral</th><th "
           "class=\"t\">level</th><th>threads</th>"
           "<th class=\"t\">verdict</th></tr>\n");
    for (size_t i = p->n_run; i-- > 0;) {
        const struct crl_run *r = p->run[i];
        const char *const cell[] = { r->model, r->recipe, r->weights_hash, r->corral, r->isa };
        bool bad = r->verdict >= CRL_VERDICT_REGRESSED;
        char at[32];
        when(at, r->finished);
        putf(p, "<tr%s><td>%lld</td><td class=\"t\">%s</td>", bad ? " class=\"is-bad\"" : "",
             (long long)r->id, at);
        for (size_t k = 0; k < 5; k++) {
            put(p, "<td class=\"t\">");
            put_text(p, cell[k]);
            put(p, "</td>");
        }
        putf(p, "<td>%u</td><td class=\"t %s\">%s</td></tr>\n", r->threads, bad ? "bad" : "",
             crl_verdict_name(r->verdict));
    }
    put(p, "</table></div>\n");
}

/* Runs of the suite and of models of the last one's configuration. */
static void load_runs(struct page *p, struct crl_history *h, const struct crl_report_options *o)
{
    size_t n = 0, most = o->runs ? o->runs : RUNS;
    const char *suite = o->suite;
    struct crl_run *last = NULL;
    int64_t *ids = NULL;

    p->st = crl_history_runs(h, 1 << 20, &ids, &n, p->err);
    if (most > RUNS_MAX) most = RUNS_MAX;
    if (!p->st && !(p->run = crl_alloc(most, sizeof *p->run)))
        p->st = crl_fail(p->err, CRL_ENOMEM, "no memory for a report");
    for (size_t i = n; i-- > 0 && p->n_run < most && !p->st;) { /* newest first */
        struct crl_run *r;
        p->st = crl_history_load(h, ids[i], &r, p->err);
        if (p->st) break;
        if ((suite && strcmp(r->suite, suite)) || (last && strcmp(r->config_hash, last->config_hash))) {
            crl_run_free(r);
            continue;
        }
        if (!last) {
            last = r;
            suite = r->suite;
        }
        p->run[p->n_run++] = r;
    }
    crl_free(ids);
    if (!p->st && !p->n_run)
        p->st = crl_fail(p->err, CRL_ENOENT, "the history has no finished run%s%s",
                         o->suite ? " of suite " : "", o->suite ? o->suite : "");
    for (size_t i = 0; i < p->n_run / 2; i++) {
        struct crl_run *swap = p->run[i];
        p->run[i] = p->run[p->n_run - 1 - i];
        p->run[p->n_run - 1 - i] = swap;
    }
}

enum crl_status crl_report_html(struct crl_history *h, const struct crl_report_options *o,
                                struct crl_str *out, struct crl_err *err)
{
    struct page p = { .out = out, .err = err, .worst = o->worst ? o->worst : WORST };
    struct crl_comparison *compare = NULL;
    struct crl_run *base = NULL, *now;
    int64_t id;

    load_runs(&p, h, o);
    if (!p.st) {
        now = p.run[p.n_run - 1];
        p.now = now;
        p.now_eval = now->eval;
        if (crl_history_find(h, "good", now, &id, NULL) == CRL_OK) p.st = crl_history_load(h, id, &base, err);
        p.base = base;
        if (!p.st && base) p.st = crl_compare(&compare, h, base, h, now, 0, err);
        p.compare = compare;
        for (size_t i = 0; i < now->n_eval && !p.st; i++) p.st = crl_history_items(h, &now->eval[i], err);
    }
    if (!p.st) {
        put_head(&p);
        put_latest(&p);
        put_trends(&p);
        put_speed(&p);
        put_experts(&p);
        put_worst(&p);
        put_runs(&p);
        put(&p, "</body>\n</html>\n");
    }
    crl_comparison_free(compare);
    crl_run_free(base);
    for (size_t i = 0; i < p.n_run; i++) crl_run_free(p.run[i]);
    crl_free(p.run);
    return p.st;
}
