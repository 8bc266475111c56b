/* x86.h - what the x86 kernel files share. Only static inline helpers, so that no wide instruction leaks out. */
#ifndef CRL_SIMD_X86_H
#define CRL_SIMD_X86_H

#include <immintrin.h>

#if defined(__clang__)
#define CRL_UNROLL _Pragma("unroll")
#else
#define CRL_UNROLL _Pragma("GCC unroll 16")
#endif

#define CRL_INLINE static inline __attribute__((always_inline))

#endif
