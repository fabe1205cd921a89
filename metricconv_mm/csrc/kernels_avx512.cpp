#include <utility>

#include "problem.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
#else
#pragma GCC target("arch=x86-64-v4")
#endif
#define METRICCONV_ISA avx512
#define METRICCONV_VECTOR_BYTES 64
#include "kernels.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
