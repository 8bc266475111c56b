/* exp.h - the one exponential of all kernels, so that every level gives the same bits.
 *
 * exp(x) = 2^n * exp(r) with n = round(x / ln 2), |r| <= ln 2 / 2, and the Taylor sum of exp(r) up to r^7: the rest is
 * below 6e-9. ln 2 is taken in two parts so that n * ln 2 subtracts exactly. x is clamped to where 2^n is a normal
 * number: exp(-100) comes out as 1.2e-38, exp(100) as 2.4e38; NaN stays NaN. All products are fused. */
#ifndef CRL_SIMD_EXP_H
#define CRL_SIMD_EXP_H

#include <math.h>

#define CRL_EXP_LO (-87.33654f)
#define CRL_EXP_HI 88.37626f
#define CRL_LOG2E 1.44269504f
#define CRL_LN2_HI 0.693359375f /* 9 bits: exact times any n */
#define CRL_LN2_LO (-2.12194440e-4f)

/* 1/7!, 1/6! .. 1/2! */
#define CRL_EXP_C7 1.98412698e-4f
#define CRL_EXP_C6 1.38888889e-3f
#define CRL_EXP_C5 8.33333333e-3f
#define CRL_EXP_C4 4.16666667e-2f
#define CRL_EXP_C3 1.66666667e-1f
#define CRL_EXP_C2 0.5f

static inline float crl_exp(float x)
{
    float n, r, p;

    if (x < CRL_EXP_LO) x = CRL_EXP_LO;
    if (x > CRL_EXP_HI) x = CRL_EXP_HI;
    if (isnan(x)) return x;
    n = rintf(x * CRL_LOG2E);
    r = fmaf(n, -CRL_LN2_LO, fmaf(n, -CRL_LN2_HI, x));
    p = fmaf(CRL_EXP_C7, r, CRL_EXP_C6);
    p = fmaf(p, r, CRL_EXP_C5);
    p = fmaf(p, r, CRL_EXP_C4);
    p = fmaf(p, r, CRL_EXP_C3);
    p = fmaf(p, r, CRL_EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    return ldexpf(p, (int)n);
}

#endif
