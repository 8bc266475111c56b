/* logsum.c - log of a sum of exponentials. */
#include "eval/logsum.h"

#include <math.h>

#define BLOCK 1024 /* values summed in float: 64 per lane of the kernel */

double crl_log_sum_exp(const struct crl_kernels *k, float *logits, size_t n, float *max)
{
    float top = -INFINITY;
    double sum = 0;

    for (size_t at = 0; at < n; at += BLOCK) {
        float old = top, part = 0;

        k->softmax(logits + at, n - at < BLOCK ? n - at : BLOCK, 1, false, &top, &part);
        sum = (at ? sum * exp((double)old - (double)top) : 0) + (double)part;
    }
    if (max) *max = top;
    return (double)top + log(sum);
}
