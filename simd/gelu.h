/* gelu.h - the one gelu of all kernels, so that every level gives the same bits.
 *
 * gelu(x) = x * Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2: the exact form, not the one with tanh. For t = |x| the upper
 * tail 1 - Phi(t) is exp(t * p(t)) / 2, p a polynomial of degree 9 fitted to log(erfc(t / sqrt 2)) / t on [0, 9.5] by
 * least squares, weighted for the error of t * Phi (4e-9 at most; rounding to float adds 4e-8 t). t stops at 9.5, where
 * the tail is 1e-21. NaN stays NaN. All products that are added to something are fused. */
#ifndef CRL_SIMD_GELU_H
#define CRL_SIMD_GELU_H

#include "simd/exp.h"

#define CRL_GELU_MOST 9.5f
#define CRL_GELU_TERMS 10

/* From the highest power down. */
#define CRL_GELU_P                                                                                                  \
    { -2.108697039e-08f, 6.387118106e-07f,  -8.081613487e-06f, 5.533889635e-05f,  -1.993651531e-04f,                \
      5.346375929e-06f,  4.816095810e-03f, -3.635471314e-02f, -3.183045983e-01f, -7.978851199e-01f }

static inline float crl_gelu(float x)
{
    static const float c[CRL_GELU_TERMS] = CRL_GELU_P;
    float t = fabsf(x), p = c[0], tail;

    if (t > CRL_GELU_MOST) t = CRL_GELU_MOST;
    for (int i = 1; i < CRL_GELU_TERMS; i++) p = fmaf(p, t, c[i]);
    tail = 0.5f * crl_exp(p * t);
    return x * (x < 0 ? tail : 1 - tail);
}

#endif
