/* place.c - reports about placement. */
#include "cli/place.h"

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/show.h"

struct facts {
    const struct crl_placement *plan;
    const struct crl_load_stats *load;
    bool mapped, known;      /* known: the system said where the pages are */
    char why[200];           /* it did not */
    double *token_bytes;     /* [n_node] */
    struct crl_where *where; /* [n_node] */
};

static bool gather(const struct crl_engine *e, struct facts *f)
{
    const struct crl_weights *w = crl_engine_weights(e);
    struct crl_engine_info info;
    struct crl_err err = { "" };

    crl_engine_info(e, &info);
    f->plan = crl_weights_plan(w);
    f->load = crl_weights_stats(w);
    f->mapped = crl_weights_mapped(w);
    f->token_bytes = crl_alloc(f->plan->n_node, sizeof *f->token_bytes);
    f->where = crl_alloc(f->plan->n_node, sizeof *f->where);
    if (!f->token_bytes || !f->where) return false;
    crl_engine_token_bytes(e, f->token_bytes);
    if (info.pretended) crl_fail(&err, CRL_EUNSUPPORTED, "the machine is pretended, nothing is bound");
    else f->known = crl_weights_where(w, f->where, &err) == CRL_OK;
    snprintf(f->why, sizeof f->why, "%.190s", err.text);
    return true;
}

static void release(struct facts *f)
{
    crl_free(f->token_bytes);
    crl_free(f->where);
}

static double rate(const struct crl_load_stats *s)
{
    return s->seconds > 0 ? (double)s->bytes / s->seconds : 0;
}

static void print_load(const struct facts *f)
{
    const struct crl_load_stats *s = f->load;
    char t[CRL_CLI_TEXT], u[CRL_CLI_TEXT];

    if (!s->bytes) {
        fprintf(stderr, "load      nothing: %s\n", f->mapped ? "the weights stay in the file"
                                                            : "the weights were packed in memory");
        return;
    }
    fprintf(stderr, "load      %s in %.3f s, %s/s; %.0f%% past the page cache, hashes %s\n",
            crl_cli_bytes(t, (double)s->bytes), s->seconds, crl_cli_bytes(u, rate(s)),
            100 * (double)s->direct_bytes / (double)s->bytes, s->verified ? "checked" : "not checked");
}

static void print_node(const struct facts *f, unsigned i)
{
    char t[CRL_CLI_TEXT], u[CRL_CLI_TEXT], v[CRL_CLI_TEXT];

    fprintf(stderr, "node %-4u %u thread%s, %s read per token", i, f->plan->node[i].n_thread,
            f->plan->node[i].n_thread == 1 ? "" : "s", crl_cli_bytes(t, f->token_bytes[i]));
    if (f->known)
        fprintf(stderr, "; weights %s local, %s remote", crl_cli_bytes(u, (double)f->where[i].local),
                crl_cli_bytes(v, (double)f->where[i].remote));
    fputc('\n', stderr);
}

void crl_place_stats(const struct crl_engine *e)
{
    struct facts f = { 0 };

    if (gather(e, &f)) {
        print_load(&f);
        fprintf(stderr, "numa      mode %s, %u node%s%s%s\n", crl_numa_name(f.plan->mode), f.plan->n_node,
                f.plan->n_node == 1 ? "" : "s", f.known ? "" : "; ", f.known ? "" : f.why);
        for (unsigned i = 0; i < f.plan->n_node; i++) print_node(&f, i);
    }
    release(&f);
}

static json_t *node_json(const struct facts *f, unsigned i)
{
    json_t *o = json_pack("{s:I, s:I, s:o}", "threads", (json_int_t)f->plan->node[i].n_thread, "kv_heads",
                          (json_int_t)f->plan->node[i].n_kv_head, "weight_bytes_per_token",
                          crl_show_real(f->token_bytes[i]));

    if (!o || !f->known) return o;
    json_object_set_new(o, "bytes_local", json_integer((json_int_t)f->where[i].local));
    json_object_set_new(o, "bytes_remote", json_integer((json_int_t)f->where[i].remote));
    return o;
}

json_t *crl_place_json(const struct crl_engine *e)
{
    struct crl_engine_info info;
    struct facts f = { 0 };
    json_t *doc = NULL, *list = json_array();

    crl_engine_info(e, &info);
    if (gather(e, &f)) {
        for (unsigned i = 0; i < f.plan->n_node; i++) json_array_append_new(list, node_json(&f, i));
        doc = json_pack("{s:s, s:b, s:b, s:{s:I, s:I, s:f, s:f, s:b}, s:O}", "mode", info.numa, "pretended",
                        info.pretended, "mapped", f.mapped, "load", "bytes", (json_int_t)f.load->bytes, "direct_bytes",
                        (json_int_t)f.load->direct_bytes, "seconds", f.load->seconds, "bytes_per_s", rate(f.load),
                        "verified", f.load->verified, "nodes", list);
    }
    json_decref(list);
    release(&f);
    return doc;
}
