// Sampling for the CPU backend: columns from images, and the gradients of images, parameters and masks from those of columns.
// Images are [N, H, W, C]; columns are [pixels, taps, C] for a range of the N * Ho * Wo output pixels.

#include <algorithm>
#include <optional>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "sampling.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define METRICCONV_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define METRICCONV_CLONES
#endif

namespace metricconv {
namespace {

using torch::stable::Tensor;

// The three loops over channels. Overloads rather than templates: multiversioned functions cannot be templates.
#define METRICCONV_CHANNEL_LOOPS(T)                                                                                                                \
  METRICCONV_CLONES void blend(const T* a, const T* b, const T* c, const T* d, const T* w, T scale, int64_t n, T* __restrict out) {               \
    const T wa = w[0] * scale, wb = w[1] * scale, wc = w[2] * scale, wd = w[3] * scale;                                                            \
    for (int64_t i = 0; i < n; ++i) out[i] = wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i];                                                        \
  }                                                                                                                                                \
  METRICCONV_CLONES void add_scaled(T* __restrict out, const T* __restrict grad, T scale, int64_t n) {                                             \
    for (int64_t i = 0; i < n; ++i) out[i] += scale * grad[i];                                                                                     \
  }                                                                                                                                                \
  METRICCONV_CLONES void dots(const T* a, const T* b, const T* c, const T* d, const T* grad, int64_t n, T* out) {                                  \
    constexpr int64_t lanes = 16;                                                                                                                  \
    T sa[lanes] = {}, sb[lanes] = {}, sc[lanes] = {}, sd[lanes] = {};                                                                              \
    int64_t i = 0;                                                                                                                                 \
    for (; i + lanes <= n; i += lanes)                                                                                                             \
      for (int64_t l = 0; l < lanes; ++l) {                                                                                                        \
        sa[l] += a[i + l] * grad[i + l];                                                                                                           \
        sb[l] += b[i + l] * grad[i + l];                                                                                                           \
        sc[l] += c[i + l] * grad[i + l];                                                                                                           \
        sd[l] += d[i + l] * grad[i + l];                                                                                                           \
      }                                                                                                                                            \
    for (int64_t l = 0; i + l < n; ++l) {                                                                                                          \
      sa[l] += a[i + l] * grad[i + l];                                                                                                             \
      sb[l] += b[i + l] * grad[i + l];                                                                                                             \
      sc[l] += c[i + l] * grad[i + l];                                                                                                             \
      sd[l] += d[i + l] * grad[i + l];                                                                                                             \
    }                                                                                                                                              \
    for (int64_t l = 1; l < lanes; ++l) sa[0] += sa[l], sb[0] += sb[l], sc[0] += sc[l], sd[0] += sd[l];                                            \
    out[0] = sa[0], out[1] = sb[0], out[2] = sc[0], out[3] = sd[0];                                                                                \
  }

METRICCONV_CHANNEL_LOOPS(float)
METRICCONV_CHANNEL_LOOPS(double)

// Pointers of the arguments that every kernel takes.
template <typename T>
struct Arguments {
  const T* images;
  const T* parameter;
  const T* mask;       // [N, groups * taps, outputs], or null
  const T* reference;  // [taps, 3] of a metric, [taps, 2] otherwise
  T eps;
  Geometry geometry;
  std::vector<T> zeros;  // stands for neighbours outside the image

  const T* neighbour(int64_t image, int64_t pixel, int64_t channel) const {
    const Geometry& g = geometry;
    return pixel < 0 ? zeros.data() : images + (image * g.height * g.width + pixel) * g.channels + channel;
  }
  int64_t mask_index(int64_t image, int64_t pixel, int64_t group, int64_t tap) const {
    const int64_t outputs = geometry.outputs();
    return ((image * geometry.groups + group) * geometry.taps() + tap) * outputs + pixel - image * outputs;
  }
};

// Calls visit(image, pixel, group, tap, taps, position, corners) for every sample of the pixels [begin, end).
template <typename T, typename Visit>
void for_samples(const Arguments<T>& a, int64_t begin, int64_t end, const Visit& visit) {
  const Geometry& g = a.geometry;
  const int64_t outputs = g.outputs(), count = g.taps();
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const int64_t image = pixel / outputs;
    for (int64_t group = 0; group < g.groups; ++group) {
      const Taps<T> taps(g, a.parameter, a.reference, a.eps, image, pixel - image * outputs, group);
      for (int64_t tap = 0; tap < count; ++tap) {
        const Position<T> position = taps.at(tap);
        visit(image, pixel, group, tap, taps, position, Corners<T>(position, g.height, g.width));
      }
    }
  }
}

template <typename T>
void columns_kernel(const Arguments<T>& a, int64_t begin, int64_t end, T* columns) {
  const Geometry& g = a.geometry;
  const int64_t n = g.group_channels();
  torch::stable::parallel_for(begin, end, 16, [&](int64_t first, int64_t last) {
    for_samples(a, first, last, [&](int64_t image, int64_t pixel, int64_t group, int64_t tap, const Taps<T>&, const Position<T>&, const Corners<T>& corners) {
      const int64_t channel = group * n;
      const T scale = a.mask ? a.mask[a.mask_index(image, pixel, group, tap)] : T(1);
      const T* rows[4];
      for (int c = 0; c < 4; ++c) rows[c] = a.neighbour(image, corners.pixel[c], channel);
      blend(rows[0], rows[1], rows[2], rows[3], corners.weight, scale, n, columns + ((pixel - begin) * g.taps() + tap) * g.channels + channel);
    });
  });
}

// Gradients of parameter and mask, each pixel's on its own.
template <typename T>
void parameter_kernel(const Arguments<T>& a, int64_t begin, int64_t end, const T* grad_columns, T* grad_parameter, T* grad_mask) {
  const Geometry& g = a.geometry;
  const int64_t n = g.group_channels(), channels = g.parameter_channels(), outputs = g.outputs();
  torch::stable::parallel_for(begin, end, 16, [&](int64_t first, int64_t last) {
    std::vector<T> sums(g.groups * channels);
    for (int64_t pixel = first; pixel < last; ++pixel) {
      std::fill(sums.begin(), sums.end(), T(0));
      const int64_t image = pixel / outputs;
      for_samples(a, pixel, pixel + 1, [&](int64_t, int64_t, int64_t group, int64_t tap, const Taps<T>& taps, const Position<T>& position, const Corners<T>& corners) {
        const int64_t channel = group * n;
        const T* rows[4];
        for (int c = 0; c < 4; ++c) rows[c] = a.neighbour(image, corners.pixel[c], channel);
        T d[4];
        dots(rows[0], rows[1], rows[2], rows[3], grad_columns + ((pixel - begin) * g.taps() + tap) * g.channels + channel, n, d);
        T scale = 1;
        if (a.mask) {
          const int64_t index = a.mask_index(image, pixel, group, tap);
          scale = a.mask[index];
          if (grad_mask) grad_mask[index] = corners.weight[0] * d[0] + corners.weight[1] * d[1] + corners.weight[2] * d[2] + corners.weight[3] * d[3];
        }
        const T x = corners.fraction_x, y = corners.fraction_y;
        const T grad_x = (1 - y) * (d[1] - d[0]) + y * (d[3] - d[2]), grad_y = (1 - x) * (d[2] - d[0]) + x * (d[3] - d[1]);
        taps.accumulate(tap, position, scale * grad_x, scale * grad_y, sums.data() + group * channels);
      });
      if (grad_parameter)
        for (int64_t c = 0; c < g.groups * channels; ++c) grad_parameter[(image * g.groups * channels + c) * outputs + pixel % outputs] = sums[c];
    }
  });
}

// Gradient of the images, added to grad_images. Threads share out images and slices of channels, so that none writes where another does, and the
// sums do not depend on their number.
template <typename T>
void images_kernel(const Arguments<T>& a, int64_t begin, int64_t end, const T* grad_columns, T* grad_images) {
  const Geometry& g = a.geometry;
  constexpr int64_t slice = 16;
  const int64_t n = g.group_channels(), slices = (n + slice - 1) / slice, outputs = g.outputs();
  const int64_t first_image = begin / outputs, images = (end + outputs - 1) / outputs - first_image;
  torch::stable::parallel_for(0, images * slices, 1, [&](int64_t first, int64_t last) {
    while (first < last) {
      // the slices of one image that follow each other are one pass
      const int64_t image = first_image + first / slices, from = first % slices;
      const int64_t count = std::min(slices - from, last - first), channels = std::min((from + count) * slice, n) - from * slice;
      for_samples(a, std::max(begin, image * outputs), std::min(end, (image + 1) * outputs),
                  [&](int64_t, int64_t pixel, int64_t group, int64_t tap, const Taps<T>&, const Position<T>&, const Corners<T>& corners) {
                    const int64_t channel = group * n + from * slice;
                    const T scale = a.mask ? a.mask[a.mask_index(image, pixel, group, tap)] : T(1);
                    const T* grad = grad_columns + ((pixel - begin) * g.taps() + tap) * g.channels + channel;
                    for (int c = 0; c < 4; ++c)
                      if (corners.pixel[c] >= 0)
                        add_scaled(grad_images + (image * g.height * g.width + corners.pixel[c]) * g.channels + channel, grad,
                                   corners.weight[c] * scale, channels);
                  });
      first += count;
    }
  });
}

template <typename T>
const T* pointer(const std::optional<Tensor>& tensor) {
  return tensor ? static_cast<const T*>(tensor->const_data_ptr()) : nullptr;
}

template <typename T>
Arguments<T> arguments(const Tensor& images, const Tensor& parameter, const std::optional<Tensor>& mask, const Tensor& reference,
                       double eps, const std::vector<int64_t>& s) {
  STD_TORCH_CHECK(s.size() == 12, "expected 12 sizes: output, kernel, stride, padding, dilation, groups, kind; got ", s.size());
  const Geometry geometry{images.size(0), images.size(3), images.size(1), images.size(2), s[0], s[1], s[2], s[3], s[4], s[5],
                          s[6],           s[7],           s[8],           s[9],           s[10], static_cast<Kind>(s[11])};
  return {static_cast<const T*>(images.const_data_ptr()), static_cast<const T*>(parameter.const_data_ptr()), pointer<T>(mask), static_cast<const T*>(reference.const_data_ptr()),
          static_cast<T>(eps), geometry, std::vector<T>(geometry.group_channels(), T(0))};
}

void columns(const Tensor& images, const Tensor& parameter, const std::optional<Tensor>& mask, const Tensor& reference, double eps,
             std::vector<int64_t> sizes, int64_t begin, int64_t end, Tensor out) {
  auto run = [&]<typename T>(T) {
    columns_kernel<T>(arguments<T>(images, parameter, mask, reference, eps, sizes), begin, end, static_cast<T*>(out.mutable_data_ptr()));
  };
  images.scalar_type() == torch::headeronly::ScalarType::Double ? run(double()) : run(float());
}

void backward(const Tensor& images, const Tensor& parameter, const std::optional<Tensor>& mask, const Tensor& reference, double eps,
              std::vector<int64_t> sizes, int64_t begin, int64_t end, const Tensor& grad_columns, std::optional<Tensor> grad_images,
              std::optional<Tensor> grad_parameter, std::optional<Tensor> grad_mask) {
  auto run = [&]<typename T>(T) {
    const auto a = arguments<T>(images, parameter, mask, reference, eps, sizes);
    const T* grad = static_cast<const T*>(grad_columns.const_data_ptr());
    auto output = [](std::optional<Tensor>& t) { return t ? static_cast<T*>(t->mutable_data_ptr()) : nullptr; };
    if (grad_parameter || grad_mask) parameter_kernel<T>(a, begin, end, grad, output(grad_parameter), output(grad_mask));
    if (grad_images) images_kernel<T>(a, begin, end, grad, output(grad_images));
  };
  images.scalar_type() == torch::headeronly::ScalarType::Double ? run(double()) : run(float());
}

}  // namespace
}  // namespace metricconv

STABLE_TORCH_LIBRARY(metricconv_mm_cpu, m) {
  m.def("columns(Tensor images, Tensor parameter, Tensor? mask, Tensor reference, float eps, int[] sizes, int begin, int end, Tensor(a!) out) -> ()");
  m.def(
      "backward(Tensor images, Tensor parameter, Tensor? mask, Tensor reference, float eps, int[] sizes, int begin, int end, Tensor grad_columns, "
      "Tensor(a!)? grad_images, Tensor(b!)? grad_parameter, Tensor(c!)? grad_mask) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(metricconv_mm_cpu, CPU, m) {
  m.impl("columns", TORCH_BOX(&metricconv::columns));
  m.impl("backward", TORCH_BOX(&metricconv::backward));
}
