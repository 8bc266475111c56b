/* pth.h - one file of a checkpoint as torch.save writes it: a zip archive of stored entries, one of which is
 * a pickled table of tensors. Nothing in it is executed (pickle.h), nothing in it is larger than the file
 * (zip.h). Tensors come out as those of a safetensors file do. */
#ifndef CRL_CONVERT_PTH_H
#define CRL_CONVERT_PTH_H

#include "convert/safetensors.h"

struct crl_pth;

enum crl_status crl_pth_open(struct crl_pth **pth, const char *path, struct crl_err *err);
/* The same for bytes in memory, which must outlive the object. */
enum crl_status crl_pth_parse(struct crl_pth **pth, const void *data, uint64_t size, const char *what,
                              struct crl_err *err);
void crl_pth_close(struct crl_pth *pth);

const struct crl_in *crl_pth_in(const struct crl_pth *pth); /* NULL after crl_pth_parse */
uint64_t crl_pth_header_hash(const struct crl_pth *pth);
size_t crl_pth_count(const struct crl_pth *pth);
const struct crl_st_tensor *crl_pth_at(const struct crl_pth *pth, size_t i); /* data is NULL, offset is set */

#endif
