/* Read before every C++ file of llama.cpp (bootstrap.py, -include): what this compiler gets wrong or
   leaves lying. Changes no file of llama.cpp. docs/decisions/0003 has the measurements. */
#if defined(__cplusplus) && defined(__linux__) && defined(__x86_64__)

/* 1. Softcaps are tanhf over every attention score, 220 million in one prefill of a 3B model. glibc
   has a vector tanhf (libmvec), and shows it to compilers that claim fast math. */
#if defined(__GNUC__) && !defined(__clang__) && !defined(__FAST_MATH__)
#define __FAST_MATH__ 1
#include <math.h>
#undef __FAST_MATH__
#endif

/* 2. GCC before 14 tells its optimiser that ldtilecfg reads 8 of the 64 bytes it reads: the stores to
   the others vanish, and the first AMX multiplication ends the process. */
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 14
#include <immintrin.h>
struct uservlm_tile_config {
    char bytes[64];
};
static inline void uservlm_tile_loadconfig(const void * config) {
    __asm__ volatile("ldtilecfg\t%X0" ::"m"(*(const struct uservlm_tile_config *) config));
}
#undef _tile_loadconfig
#define _tile_loadconfig uservlm_tile_loadconfig
#endif

/* 3. How the runtime knows a library whose AMX code is whole from one that would crash. */
#if defined(__AMX_TILE__)
extern "C" __attribute__((weak, used, visibility("default"))) const int uservlm_amx_is_whole = 1;
#endif

#endif
