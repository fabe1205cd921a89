// Unit geodesic balls for the CPU backend: pixels of a row together, rows in parallel.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "geodesic_flow.h"

namespace metricconv {
namespace {

using torch::stable::Tensor;

// Heat from the pixels (row, column) to (row, column + lanes - 1), those that the image has.
template <typename T>
METRICCONV_INLINE void spread(const Geodesic<T>& g, const T* kernels, int64_t row, int64_t column, Working<T>& work) {
  work.heat[0].reset({0, 0, 0, 0});
  for (int64_t i = 0; i < std::min<int64_t>(cell_lanes<T>, g.width - column); ++i) work.heat[0].cells[i] = 1;
  for (int64_t step = 0; step < g.heat_steps; ++step) heat_step(g, kernels, row, column, work.heat[step], work.heat[step + 1]);
}

template <typename T>
METRICCONV_INLINE void load_sample(const Geodesic<T>& g, const T* samples, int64_t count, T* sample) {
  for (int part = 0; part < 2; ++part)
    for (int64_t i = 0; i < cell_lanes<T>; ++i) sample[part * cell_lanes<T> + i] = i < count ? samples[part * g.height * g.width + i] : T(0);
}

template <typename T>
METRICCONV_INLINE void store_sample(const Geodesic<T>& g, const T* sample, int64_t count, T* samples) {
  for (int part = 0; part < 2; ++part) std::copy_n(sample + part * cell_lanes<T>, count, samples + part * g.height * g.width);
}

// Samples [K, 2, H, W] of a row, flown; how far heat got.
template <typename T>
METRICCONV_INLINE int64_t flow_pixels(const Geodesic<T>& g, const T* kernels, const T* samples, int64_t row, T* flown, Working<T>& work) {
  int64_t reach = 0;
  for (int64_t column = 0; column < g.width; column += cell_lanes<T>) {
    const int64_t count = std::min<int64_t>(cell_lanes<T>, g.width - column);
    spread(g, kernels, row, column, work);
    const Window<T>& heat = work.heat[g.heat_steps];
    reach = std::max(reach, heat.box.reach());
    flow_field(g, row, column, heat, work.field);
    T* path = work.path.data();
    for (int64_t k = 0; k < g.samples; ++k) {
      const int64_t offset = 2 * k * g.height * g.width + row * g.width + column;
      load_sample(g, samples + offset, count, path);
      advect(g, work.field, path);
      store_sample(g, path + g.flow_steps * 2 * cell_lanes<T>, count, flown + offset);
    }
  }
  return reach;
}

template <typename T>
METRICCONV_INLINE void flow_pixels_backward(const Geodesic<T>& g, const T* grad, const T* kernels, const T* samples, int64_t row, T* grad_kernels, T* grad_samples,
                                            Working<T>& work) {
  for (int64_t column = 0; column < g.width; column += cell_lanes<T>) {
    const int64_t count = std::min<int64_t>(cell_lanes<T>, g.width - column);
    spread(g, kernels, row, column, work);
    flow_field(g, row, column, work.heat[g.heat_steps], work.field);
    work.grad_field.reset(work.field.box);
    T* path = work.path.data();
    alignas(64) T slope[2 * cell_lanes<T>];
    for (int64_t k = 0; k < g.samples; ++k) {
      const int64_t offset = 2 * k * g.height * g.width + row * g.width + column;
      load_sample(g, samples + offset, count, path);
      load_sample(g, grad + offset, count, slope);
      advect(g, work.field, path);
      advect_backward(g, work.field, path, slope, work.grad_field);
      store_sample(g, slope, count, grad_samples + offset);
    }
    flow_field_backward(g, row, column, work.field, work.grad_field, work.grad[g.heat_steps]);
    for (int64_t step = g.heat_steps - 1; step >= 0; --step)
      heat_step_backward(g, kernels, row, column, work.heat[step], work.heat[step + 1], work.grad[step + 1], work.grad[step], grad_kernels);
  }
}

// Overloads rather than templates: multiversioned functions cannot be templates.
#define METRICCONV_GEODESIC_ROWS(T)                                                                                                                     \
  METRICCONV_CLONES int64_t flow_row(const Geodesic<T>& g, const T* kernels, const T* samples, int64_t row, T* flown, Working<T>& work) {                \
    return flow_pixels(g, kernels, samples, row, flown, work);                                                                                          \
  }                                                                                                                                                     \
  METRICCONV_CLONES void flow_row_backward(const Geodesic<T>& g, const T* grad, const T* kernels, const T* samples, int64_t row, T* grad_kernels,        \
                                           T* grad_samples, Working<T>& work) {                                                                         \
    flow_pixels_backward(g, grad, kernels, samples, row, grad_kernels, grad_samples, work);                                                             \
  }

METRICCONV_GEODESIC_ROWS(float)
METRICCONV_GEODESIC_ROWS(double)

// kernels [N, H, taps, padded], samples [N, K, 2, H, W]
template <typename T>
Geodesic<T> problem_of(const Tensor& kernels, const Tensor& samples, const std::vector<int64_t>& sizes, const std::vector<double>& constants) {
  STD_TORCH_CHECK(sizes.size() == 3, "expected 3 sizes: radius, heat steps, flow steps; got ", sizes.size());
  STD_TORCH_CHECK(constants.size() == 5, "expected 5 constants: flow_step, flow_eps, threshold, spacing of rows and columns; got ", constants.size());
  const int64_t height = samples.size(3), width = samples.size(4), radius = sizes[0], padded = width + 2 * cell_lanes<T>;
  STD_TORCH_CHECK(kernels.scalar_type() == samples.scalar_type() && kernels.size(1) == height && kernels.size(2) == (2 * radius + 1) * (2 * radius + 1) &&
                      kernels.size(3) == padded,
                  "expected kernels [N, H, taps, W + ", 2 * cell_lanes<T>, "] of the dtype of samples");
  return {height,
          width,
          radius,
          padded,
          sizes[1],
          sizes[2],
          samples.size(1),
          static_cast<T>(constants[0]),
          static_cast<T>(constants[1]),
          static_cast<T>(constants[2]),
          static_cast<T>(constants[3]),
          static_cast<T>(constants[4])};
}

template <typename T>
const T* constant(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename Run>
void with_type(const Tensor& tensor, const Run& run) {
  tensor.scalar_type() == torch::headeronly::ScalarType::Double ? run(double()) : run(float());
}

// Samples flown, and how far, in rows or columns, heat got from its pixel.
int64_t flow(const Tensor& kernels, const Tensor& samples, std::vector<int64_t> sizes, std::vector<double> constants, Tensor flown) {
  const int64_t images = samples.size(0), height = samples.size(3);
  std::vector<int64_t> reach(images * height, 0);
  with_type(samples, [&]<typename T>(T) {
    const Geodesic<T> g = problem_of<T>(kernels, samples, sizes, constants);
    const int64_t field = g.height * g.taps() * g.padded, image = 2 * g.samples * g.height * g.width;
    T* out = static_cast<T*>(flown.mutable_data_ptr());
    torch::stable::parallel_for(0, images * height, 1, [&](int64_t begin, int64_t end) {
      Working<T> work(g);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / height;
        reach[i] = flow_row(g, constant<T>(kernels) + n * field, constant<T>(samples) + n * image, i % height, out + n * image, work);
      }
    });
  });
  return reach.empty() ? 0 : *std::max_element(reach.begin(), reach.end());
}

// grad_kernels: [parts, N, H, taps, padded], zeros, to be summed over parts, each of which takes its share of an image's rows.
void flow_backward(const Tensor& grad, const Tensor& kernels, const Tensor& samples, std::vector<int64_t> sizes, std::vector<double> constants, Tensor grad_kernels,
                   Tensor grad_samples) {
  const int64_t images = samples.size(0), height = samples.size(3), parts = grad_kernels.size(0);
  with_type(samples, [&]<typename T>(T) {
    const Geodesic<T> g = problem_of<T>(kernels, samples, sizes, constants);
    const int64_t field = g.height * g.taps() * g.padded, image = 2 * g.samples * g.height * g.width;
    T *to_kernels = static_cast<T*>(grad_kernels.mutable_data_ptr()), *to_samples = static_cast<T*>(grad_samples.mutable_data_ptr());
    torch::stable::parallel_for(0, images * parts, 1, [&](int64_t begin, int64_t end) {
      Working<T> work(g);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / parts, part = i % parts;
        for (int64_t row = part * height / parts; row < (part + 1) * height / parts; ++row)
          flow_row_backward(g, constant<T>(grad) + n * image, constant<T>(kernels) + n * field, constant<T>(samples) + n * image, row,
                            to_kernels + (part * images + n) * field, to_samples + n * image, work);
      }
    });
  });
}

}  // namespace
}  // namespace metricconv

STABLE_TORCH_LIBRARY_FRAGMENT(metricconv_mm_cpu, m) {
  m.def("geodesic_flow(Tensor kernels, Tensor samples, int[] sizes, float[] constants, Tensor(a!) flown) -> int");
  m.def("geodesic_flow_backward(Tensor grad, Tensor kernels, Tensor samples, int[] sizes, float[] constants, Tensor(a!) grad_kernels, Tensor(b!) grad_samples) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(metricconv_mm_cpu, CPU, m) {
  m.impl("geodesic_flow", TORCH_BOX(&metricconv::flow));
  m.impl("geodesic_flow_backward", TORCH_BOX(&metricconv::flow_backward));
}
