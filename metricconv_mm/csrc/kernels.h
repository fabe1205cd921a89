// The kernels for one instruction set. A file that includes this sets METRICCONV_ISA, the namespace and METRICCONV_VECTOR_BYTES, and may select
// the instruction set by a pragma after problem.h: what is included here is compiled for it, and what the standard library brings is not.

#define METRICCONV_INLINE inline __attribute__((always_inline))

namespace metricconv {
namespace METRICCONV_ISA {
namespace {
#include "vector.h"

#include "contraction.h"
#include "norms.h"
#include "tile.h"

#include "wide.h"
#include "wide_backward.h"

#include "narrow.h"

template <typename T, typename S>
struct Table {
  static int64_t packed_size(const Geometry& g) { return narrow<T>(g) ? g.out_channels * g.taps() * g.inputs_each() : packed_size_wide<T>(g); }
  static void pack(const Problem<T, S>& problem, T* packed, int64_t part, int64_t parts) {
    (narrow<T>(problem.geometry) ? pack_narrow<T> : pack_wide<T>)(problem.geometry, problem.weight, packed, part, parts);
  }
  static void forward(const Problem<T, S>& problem, int64_t begin, int64_t end) {
    (narrow<T>(problem.geometry) ? forward_narrow<T, S> : forward_wide<T, S>)(problem, begin, end);
  }
  static void backward(const Problem<T, S>& problem, const Share<T>& share) {
    if (narrow<T>(problem.geometry))
      backward_narrow(problem, share);
    else
      WideBackward<T, S>{problem, share}.run();
  }
  static void transpose(const S* src, int64_t rows, int64_t columns, int64_t src_stride, T* dst, int64_t dst_stride) {
    METRICCONV_ISA::transpose<T>(src, rows, columns, src_stride, dst, dst_stride);
  }
};

}  // namespace

template <typename T, typename S>
Kernels<T, S> kernels() {
  typedef Table<T, S> K;
  return {TILE, lanes<T>, K::packed_size, K::pack, K::forward, K::backward, K::transpose};
}

template Kernels<float, float> kernels();
template Kernels<float, BFloat16> kernels();
template Kernels<double, double> kernels();

}  // namespace METRICCONV_ISA
}  // namespace metricconv
