/* amx_model.c - the AMX kernels compiled against the C model of the tile instructions, for machines without tiles. */
#define CRL_AMX_MODEL 1
#define crl_gemm_q8_amx crl_gemm_q8_amx_model
#define crl_gemm_q4_amx crl_gemm_q4_amx_model
#include "simd/amx/gemm.c"
