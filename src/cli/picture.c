/* picture.c - options about pictures, and opening them. */
#include "cli/picture.h"

#include "base/mem.h"

#include <string.h>

bool crl_picture_option(struct crl_picture_args *a, const struct crl_cli *c, int id)
{
    unsigned long long n;

    switch (id) {
    case CRL_PICTURE_IMAGE:
        if (a->n == CRL_PICTURES_MAX) {
            crl_cli_misused(c->usage, "option --image: more than %d pictures", CRL_PICTURES_MAX);
            return false;
        }
        a->path[a->n++] = c->value;
        return true;
    case CRL_PICTURE_TILES:
        if (!crl_cli_number(c, "max-tiles", 1, CRL_TILES_MAX, &n)) return false;
        a->options.max_tiles = (uint32_t)n;
        return true;
    case CRL_PICTURE_STORED:
        a->options.as_stored = true;
        return true;
    }
    return true;
}

enum crl_status crl_pictures_add(struct crl_pictures *p, struct crl_engine *e, const char *path,
                                 const struct crl_picture_options *options, struct crl_err *err)
{
    enum crl_status st = crl_grow((void **)&p->v, &p->cap, p->n + 1, sizeof *p->v, CRL_PICTURES_MAX, err);

    if (!st) st = crl_picture_open(&p->v[p->n], e, path, options, err);
    if (!st) p->n++;
    return st;
}

enum crl_status crl_pictures_open(struct crl_pictures *p, struct crl_engine *e, const struct crl_picture_args *a,
                                  struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    for (size_t i = 0; !st && i < a->n; i++) st = crl_pictures_add(p, e, a->path[i], &a->options, err);
    return st;
}

void crl_pictures_fini(struct crl_pictures *p)
{
    for (size_t i = 0; i < p->n; i++) crl_picture_free(p->v[i]);
    crl_free(p->v);
    memset(p, 0, sizeof *p);
}
