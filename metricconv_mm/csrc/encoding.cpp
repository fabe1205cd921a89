// encode_metric for the CPU backend: one pass over the pixels in blocks, each group of channels on its own.

// a * b - c * c rounds twice, as PyTorch does, whatever the processor: contracted, differences of equal products would depend on it
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#include <algorithm>
#include <cstring>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "encoding.h"

namespace metricconv {
namespace {

using torch::stable::Tensor;

struct Kind {
  Encoding encoding;
  Drift drift;

  int matrix_channels() const {
    return encoding == Encoding::spectral_scaled ? 5 : encoding == Encoding::spectral ? 4 : encoding == Encoding::isotropic ? 1 : 3;
  }
  int drift_channels() const { return drift == Drift::none ? 0 : 2; }
  int channels() const { return matrix_channels() + drift_channels(); }
};

// run with the encoding as a template argument
template <typename Run>
METRICCONV_INLINE void with_encoding(Encoding encoding, const Run& run) {
  switch (encoding) {
    case Encoding::cholesky: return run.template operator()<Encoding::cholesky>();
    case Encoding::ldl: return run.template operator()<Encoding::ldl>();
    case Encoding::spectral: return run.template operator()<Encoding::spectral>();
    case Encoding::spectral_scaled: return run.template operator()<Encoding::spectral_scaled>();
    case Encoding::isotropic: return run.template operator()<Encoding::isotropic>();
  }
}

// run with the drift, and whether it is clipped, as template arguments
template <typename Run>
METRICCONV_INLINE void with_drift(Drift drift, bool clipped, const Run& run) {
  switch (drift) {
    case Drift::sigmoid: return clipped ? run.template operator()<Drift::sigmoid, true>() : run.template operator()<Drift::sigmoid, false>();
    case Drift::sigmoid_detached: return clipped ? run.template operator()<Drift::sigmoid_detached, true>() : run.template operator()<Drift::sigmoid_detached, false>();
    case Drift::clip_detached: return clipped ? run.template operator()<Drift::clip_detached, true>() : run.template operator()<Drift::clip_detached, false>();
    case Drift::none: return;
  }
}

template <typename T>
METRICCONV_INLINE void encode(Kind kind, const Limits<T> k, const Lane<T>* raw, Lane<T>* metric) {
  with_encoding(kind.encoding, [&]<Encoding encoding>() __attribute__((always_inline)) { encode_matrix<encoding>(k, raw, metric); });
  if (k.bound == 0) return std::memset(metric + 3, 0, 2 * sizeof(Lane<T>)), void();
  const Lane<T>* drift_channels = raw + kind.matrix_channels();
  with_drift(kind.drift, k.ceiling > 0, [&]<Drift drift, bool clipped>() __attribute__((always_inline)) { encode_drift<drift, clipped>(k, drift_channels, metric); });
}

template <typename T>
METRICCONV_INLINE void encode_backward(Kind kind, const Limits<T> k, const Lane<T>* raw, Lane<T>* grad, Lane<T>* grad_raw) {
  const int drift_channels = kind.matrix_channels();
  if (k.bound == 0) {
    std::memset(grad_raw + drift_channels, 0, kind.drift_channels() * sizeof(Lane<T>));
  } else {
    alignas(64) Lane<T> matrix[3];
    with_encoding(kind.encoding, [&]<Encoding encoding>() __attribute__((always_inline)) { encode_matrix<encoding>(k, raw, matrix); });
    with_drift(kind.drift, k.ceiling > 0, [&]<Drift drift, bool clipped>() __attribute__((always_inline)) {
      encode_drift_backward<drift, clipped>(k, raw + drift_channels, matrix, grad, grad_raw + drift_channels);
    });
  }
  with_encoding(kind.encoding, [&]<Encoding encoding>() __attribute__((always_inline)) { encode_matrix_backward<encoding>(k, raw, grad, grad_raw); });
}

// Overloads rather than templates: multiversioned functions cannot be templates.
#define METRICCONV_ENCODE_BLOCKS(T)                                                                                                       \
  METRICCONV_CLONES void encode_block(Kind kind, const Limits<T>& k, const Lane<T>* raw, Lane<T>* metric) { encode(kind, k, raw, metric); } \
  METRICCONV_CLONES void encode_block_backward(Kind kind, const Limits<T>& k, const Lane<T>* raw, Lane<T>* grad, Lane<T>* grad_raw) {      \
    encode_backward(kind, k, raw, grad, grad_raw);                                                                                        \
  }

METRICCONV_ENCODE_BLOCKS(float)
METRICCONV_ENCODE_BLOCKS(double)

// A tensor [images, groups * channels, pixels] with any strides, read and written a block of one group's pixels at a time.
template <typename T>
class Pixels {
 public:
  Pixels(T* data, const Tensor& tensor, int channels) : data_(data), channels_(channels), image_(tensor.stride(0)), channel_(tensor.stride(1)), pixel_(tensor.stride(2)) {}

  void load(int64_t image, int64_t group, int64_t first, int64_t count, Lane<std::remove_const_t<T>>* block) const {
    each(image, group, first, count, [&](T& value, int channel, int64_t pixel) { block[channel][pixel] = value; });
  }
  void store(int64_t image, int64_t group, int64_t first, int64_t count, const Lane<T>* block) const {
    each(image, group, first, count, [&](T& value, int channel, int64_t pixel) { value = block[channel][pixel]; });
  }

 private:
  template <typename Visit>
  void each(int64_t image, int64_t group, int64_t first, int64_t count, const Visit& visit) const {
    T* start = data_ + image * image_ + group * channels_ * channel_ + first * pixel_;
    if (pixel_ == 1)
      for (int c = 0; c < channels_; ++c)
        for (int64_t i = 0; i < count; ++i) visit(start[c * channel_ + i], c, i);
    else
      for (int64_t i = 0; i < count; ++i)
        for (int c = 0; c < channels_; ++c) visit(start[i * pixel_ + c * channel_], c, i);
  }

  T* data_;
  int channels_;
  int64_t image_, channel_, pixel_;
};

// Calls visit(image, group, first pixel, number of pixels) for blocks of pixels, and a Block of its own for every thread.
template <typename Block, typename Visit>
void for_blocks(const Tensor& raw, int channels, const Visit& visit) {
  const int64_t groups = raw.size(1) / channels, pixels = raw.size(2), blocks = (pixels + lanes - 1) / lanes;
  torch::stable::parallel_for(0, raw.size(0) * groups * blocks, 32, [&](int64_t begin, int64_t end) {
    Block block{};  // zeros, because the lanes that no pixel fills are computed too
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b % blocks * lanes;
      visit(block, b / blocks / groups, b / blocks % groups, first, std::min<int64_t>(lanes, pixels - first));
    }
  });
}

template <typename T>
struct Block {
  alignas(64) Lane<T> raw[7], metric[5], grad_raw[7];
};

template <typename T>
Limits<T> limits(const std::vector<double>& constants) {
  STD_TORCH_CHECK(constants.size() == 6, "expected 6 constants: eps_w, low, high, eps_L, eps, ceiling; got ", constants.size());
  const double eps_w = constants[0], low = constants[1], high = constants[2];
  return {T(1 - eps_w), T(low), T(high - low), T(constants[3]), T(constants[4]), T(constants[5])};
}

// raw [N, G * channels, P] and metric [N, G * 5, P], of one dtype.
void encode_metric(const Tensor& raw, int64_t encoding, int64_t drift, std::vector<double> constants, Tensor metric) {
  const Kind kind{static_cast<Encoding>(encoding), static_cast<Drift>(drift)};
  auto run = [&]<typename T>(T) {
    const Limits<T> k = limits<T>(constants);
    const Pixels<const T> source(static_cast<const T*>(raw.const_data_ptr()), raw, kind.channels());
    const Pixels<T> target(static_cast<T*>(metric.mutable_data_ptr()), metric, 5);
    for_blocks<Block<T>>(raw, kind.channels(), [&](Block<T>& block, int64_t image, int64_t group, int64_t first, int64_t count) {
      source.load(image, group, first, count, block.raw);
      encode_block(kind, k, block.raw, block.metric);
      target.store(image, group, first, count, block.metric);
    });
  };
  raw.scalar_type() == torch::headeronly::ScalarType::Double ? run(double()) : run(float());
}

void encode_metric_backward(const Tensor& grad, const Tensor& raw, int64_t encoding, int64_t drift, std::vector<double> constants, Tensor grad_raw) {
  const Kind kind{static_cast<Encoding>(encoding), static_cast<Drift>(drift)};
  auto run = [&]<typename T>(T) {
    const Limits<T> k = limits<T>(constants);
    const Pixels<const T> source(static_cast<const T*>(raw.const_data_ptr()), raw, kind.channels());
    const Pixels<const T> above(static_cast<const T*>(grad.const_data_ptr()), grad, 5);
    const Pixels<T> target(static_cast<T*>(grad_raw.mutable_data_ptr()), grad_raw, kind.channels());
    for_blocks<Block<T>>(raw, kind.channels(), [&](Block<T>& block, int64_t image, int64_t group, int64_t first, int64_t count) {
      source.load(image, group, first, count, block.raw);
      above.load(image, group, first, count, block.metric);
      encode_block_backward(kind, k, block.raw, block.metric, block.grad_raw);
      target.store(image, group, first, count, block.grad_raw);
    });
  };
  raw.scalar_type() == torch::headeronly::ScalarType::Double ? run(double()) : run(float());
}

}  // namespace
}  // namespace metricconv

STABLE_TORCH_LIBRARY_FRAGMENT(metricconv_mm_cpu, m) {
  m.def("encode_metric(Tensor raw, int encoding, int drift, float[] constants, Tensor(a!) metric) -> ()");
  m.def("encode_metric_backward(Tensor grad, Tensor raw, int encoding, int drift, float[] constants, Tensor(a!) grad_raw) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(metricconv_mm_cpu, CPU, m) {
  m.impl("encode_metric", TORCH_BOX(&metricconv::encode_metric));
  m.impl("encode_metric_backward", TORCH_BOX(&metricconv::encode_metric_backward));
}
