// Functions compiled once for each generation of processors, the fitting one chosen when the library is loaded.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define METRICCONV_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define METRICCONV_CLONES
#endif

// for what clones call: left alone, the compiler may keep one version of it, for the least processor
#define METRICCONV_INLINE [[gnu::always_inline]] inline
