/* sections.h - the parts of a checkpoint folder that are no weights, as they go into the packed file:
 * tokenizer, generation defaults, chat template, preprocessing of images. A folder may lack any of them. */
#ifndef CRL_CONVERT_SECTIONS_H
#define CRL_CONVERT_SECTIONS_H

#include "store/pack.h"

struct crl_side_files {
    struct crl_sections sections; /* points into data */
    void *data[CRL_SECTION_END];  /* owned */
};

/* What is there is checked: JSON must parse, text must be UTF-8, a tokenizer must be one that is understood.
 */
enum crl_status crl_side_files_read(struct crl_side_files *f, const char *dir, struct crl_err *err);
void crl_side_files_free(struct crl_side_files *f);

#endif
