/* arm.h - what the ARM kernel files share. Only static inline helpers, so that nothing leaks out. */
#ifndef CRL_SIMD_ARM_H
#define CRL_SIMD_ARM_H

#include <arm_neon.h>

#if defined(__clang__)
#define CRL_UNROLL _Pragma("unroll")
#else
#define CRL_UNROLL _Pragma("GCC unroll 16")
#endif

#define CRL_INLINE static inline __attribute__((always_inline))

#endif
