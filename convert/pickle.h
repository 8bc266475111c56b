/* pickle.h - the table of tensors in the pickle that torch.save writes, read without a Python machine.
 *
 * A pickle is a program. This reader knows the few instructions which such a table consists of and runs
 * nothing: a global name is a word to be compared with the few that are allowed (OrderedDict, the rebuilding
 * of a tensor or parameter, the types of storages), calling one of those makes a record, and anything else
 * ends the reading with its name. What is read is a dictionary of text keys and tensors; keys that end in
 * "_extra_state" may hold other allowed values and are left out. */
#ifndef CRL_CONVERT_PICKLE_H
#define CRL_CONVERT_PICKLE_H

#include "convert/safetensors.h"

#define CRL_PICKLE_MAX ((size_t)8 << 20) /* bytes */

struct crl_pickle_tensor {
    const char *name;
    const char *storage; /* key: the entry data/KEY of the archive */
    enum crl_st_type type;
    const char *type_name; /* "BFloat16Storage" */
    uint64_t storage_size; /* elements, as the pickle says */
    uint64_t offset;       /* of the first element, in elements */
    size_t n_dim;
    uint64_t dim[CRL_ST_DIMS]; /* rows follow each other: other strides are refused */
};

struct crl_pickle;

/* `data` is needed during the call alone. */
enum crl_status crl_pickle_parse(struct crl_pickle **p, const void *data, size_t len, const char *what,
                                 struct crl_err *err);
void crl_pickle_free(struct crl_pickle *p);

size_t crl_pickle_count(const struct crl_pickle *p);
const struct crl_pickle_tensor *crl_pickle_at(const struct crl_pickle *p,
                                              size_t i); /* in the order of the file */

#endif
