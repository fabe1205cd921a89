#include <utility>

#include "problem.h"

#define METRICCONV_ISA generic
#define METRICCONV_VECTOR_BYTES 16
#include "kernels.h"
