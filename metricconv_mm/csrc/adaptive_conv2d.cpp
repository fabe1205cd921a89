// The operators of the CPU backend for torch's stable ABI: which instruction set, which thread does what, and where the results go.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "division.h"
#include "problem.h"

namespace metricconv {

#ifdef METRICCONV_POISON
constexpr bool POISON = true;
#else
constexpr bool POISON = false;
#endif

// 64-byte aligned. Where METRICCONV_POISON is defined, as `make sanitize` does, it is full of NaN, so that what is read before it is written shows.
void* allocate(int64_t bytes) {
  void* memory = nullptr;
  const int failed = posix_memalign(&memory, 64, std::max<int64_t>(bytes, 1));
  STD_TORCH_CHECK(!failed, "metricconv_mm: no memory for ", bytes, " bytes of working space");
  if (POISON) std::memset(memory, 0xff, bytes);
  return memory;
}

void* zeroed(int64_t bytes) {
  void* memory = std::calloc(bytes, 1);
  STD_TORCH_CHECK(memory, "metricconv_mm: no memory for ", bytes, " bytes of working space");
  return memory;
}

void* scratch(int slot, int64_t bytes) {
  struct Block {
    void* memory = nullptr;
    int64_t size = 0;
    ~Block() { std::free(memory); }
  };
  thread_local Block blocks[12];
  Block& block = blocks[slot];
  // when poisoned, of the very size: a sanitizer sees what lies beyond
  if (block.size < bytes || POISON) {
    std::free(std::exchange(block.memory, nullptr));
    block.size = 0;  // should there be no memory
    block.memory = allocate(bytes);
    block.size = bytes;
  }
  return block.memory;
}

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Bytes of a vector: 64 with AVX-512, 32 with AVX2, 16 otherwise; METRICCONV_CPU_CAPABILITY asks for less than the processor has.
int64_t vector_bytes() {
  static const int64_t bytes = [] {
    int64_t most = 16;
#if defined(__x86_64__)
    // what distinguishes x86-64-v3 and v4, in names that every compiler knows
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    most = v3 && v4 ? 64 : v3 ? 32 : 16;
#endif
    const char* variable = std::getenv("METRICCONV_CPU_CAPABILITY");
    const std::string asked = variable ? variable : "";
    const int64_t wanted = asked == "generic" ? 16 : asked == "avx2" ? 32 : asked == "avx512" || asked.empty() ? 64 : 0;
    STD_TORCH_CHECK(wanted, "METRICCONV_CPU_CAPABILITY: expected generic, avx2 or avx512, got ", asked);
    STD_TORCH_CHECK(asked.empty() || wanted <= most, "METRICCONV_CPU_CAPABILITY=", asked, ": this processor does not have it");
    return std::min(most, wanted);
  }();
  return bytes;
}

template <typename T, typename S>
const Kernels<T, S>& kernels() {
  static const Kernels<T, S> table = [] {
#if defined(__x86_64__)
    if (vector_bytes() == 64) return avx512::kernels<T, S>();
    if (vector_bytes() == 32) return avx2::kernels<T, S>();
#endif
    return generic::kernels<T, S>();
  }();
  return table;
}

template <typename T>
const T* constant(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

// Calls run(T, S) with the type to compute with and the type of a tensor.
template <typename Run>
void with_types(const Tensor& tensor, const Run& run) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double: return run(double(), double());
    case ScalarType::Float: return run(float(), float());
    case ScalarType::BFloat16: return run(float(), BFloat16());
    default: STD_TORCH_CHECK(false, "metricconv_mm: expected float32, float64 or bfloat16");
  }
}

template <typename T, typename S>
Problem<T, S> problem_of(const Tensor& images, const Tensor& parameter, const Tensor& weight, const std::optional<Tensor>& mask, const Tensor& reference,
                         double eps, const std::vector<int64_t>& s, bool channels_last) {
  STD_TORCH_CHECK(s.size() == 13, "expected 13 sizes: output, kernel, stride, padding, dilation, parameter groups, kind, weight groups; got ", s.size());
  const Geometry g{images.size(0), images.size(3), images.size(1), images.size(2), s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10],
                   static_cast<Kind>(s[11]), weight.size(0), s[12]};
  STD_TORCH_CHECK(images.scalar_type() == parameter.scalar_type(), "metricconv_mm: expected images and parameter of the type that is computed with");
  STD_TORCH_CHECK((g.height + 2) * (g.width + 2) < (int64_t(1) << 31), "metricconv_mm: an image of ", g.height, " x ", g.width,
                  " pixels is too large: cut it into tiles of fewer than 2^31 pixels");
  Problem<T, S> problem{};
  problem.geometry = g, problem.images = constant<T>(images), problem.parameter = constant<T>(parameter), problem.mask = pointer<const T>(mask);
  problem.reference = constant<T>(reference), problem.eps = static_cast<T>(eps), problem.weight = constant<T>(weight);
  problem.channels_last = channels_last;
  return problem;
}

void forward(const Tensor& images, const Tensor& parameter, const Tensor& weight, const std::optional<Tensor>& bias, const std::optional<Tensor>& mask,
             const Tensor& reference, double eps, std::vector<int64_t> sizes, bool channels_last, Tensor out) {
  with_types(out, [&]<typename T, typename S>(T, S) {
    auto problem = problem_of<T, S>(images, parameter, weight, mask, reference, eps, sizes, channels_last);
    const auto& run = kernels<T, S>();
    const Geometry& g = problem.geometry;
    const auto packed = buffer<T>(run.packed_size(g));
    const int64_t parts = std::max<int64_t>(1, torch::stable::get_num_threads());
    parallel(parts, [&](int64_t part) { run.pack(problem, packed.get(), part, parts); });
    problem.bias = pointer<const T>(bias), problem.packed = packed.get(), problem.out = static_cast<S*>(out.mutable_data_ptr());
    torch::stable::parallel_for(0, g.pixels(), 16, [&](int64_t begin, int64_t end) { run.forward(problem, begin, end); });
  });
}

void backward(const Tensor& grad, const Tensor& images, const Tensor& parameter, const Tensor& weight, const std::optional<Tensor>& mask, const Tensor& reference,
              double eps, std::vector<int64_t> sizes, bool channels_last, std::optional<Tensor> grad_images, std::optional<Tensor> grad_parameter,
              std::optional<Tensor> grad_weight, std::optional<Tensor> grad_mask) {
  with_types(grad, [&]<typename T, typename S>(T, S) {
    auto problem = problem_of<T, S>(images, parameter, weight, mask, reference, eps, sizes, channels_last);
    problem.grad = constant<S>(grad);
    const auto& run = kernels<T, S>();
    const Geometry& g = problem.geometry;
    const Partition partition(g, !narrow<T>(g), run.lanes, run.tile);
    const int64_t blocks = partition.blocks(), ranges = partition.ranges();
    Summed<T> parameters(grad_parameter, blocks), masks(grad_mask, blocks);
    const int64_t weight_size = g.taps() * g.channels * g.outputs_each();
    const auto weights = grad_weight ? zeros<T>(ranges * weight_size) : nullptr;
    T* const image_sums = pointer<T>(grad_images);
    std::vector<std::unique_ptr<SharedImages<T>>> shared;
    for (int64_t i = 0; i < blocks * ranges; ++i)
      shared.push_back(std::make_unique<SharedImages<T>>(g, partition.pixels[i / blocks], partition.pixels[i / blocks + 1]));
    parallel(blocks * ranges, [&](int64_t i) {
      const int64_t b = i % blocks, r = i / blocks, first = partition.channels[b];
      T* const block_weights = weights ? weights.get() + r * weight_size + g.taps() * first * g.outputs_each() : nullptr;
      run.backward(problem, {partition.pixels[r], partition.pixels[r + 1], first, partition.channels[b + 1], image_sums, parameters.of(b), masks.of(b),
                             block_weights, {shared[i]->image(0), shared[i]->image(1)}});
    });
    if (image_sums)
      for (const auto& images : shared) images->add_to(g, image_sums);
    parameters.finish();
    masks.finish();
    if (weights) write_weight_gradient(g, partition, weights.get(), static_cast<T*>(grad_weight->mutable_data_ptr()));
  });
}

// Of what the Python side may ask for, see INTERFACE in ops/cpu.py.
int64_t interface() { return 2; }

// [N, rows, columns] to [N, columns, rows], in the type to compute with.
void transpose(const Tensor& src, Tensor dst) {
  with_types(src, [&]<typename T, typename S>(T, S) {
    const int64_t rows = src.size(1), columns = src.size(2), strip = 64, strips = (columns + strip - 1) / strip;
    const S* from = constant<S>(src);
    T* to = static_cast<T*>(dst.mutable_data_ptr());
    parallel(src.size(0) * strips, [&](int64_t i) {
      const int64_t n = i / strips, first = i % strips * strip, count = std::min(strip, columns - first);
      kernels<T, S>().transpose(from + n * rows * columns + first, rows, count, columns, to + n * rows * columns + first * rows, rows);
    });
  });
}

}  // namespace
}  // namespace metricconv

STABLE_TORCH_LIBRARY(metricconv_mm_cpu, m) {
  m.def("vector_bytes() -> int");
  m.def("interface() -> int");
  m.def("transpose(Tensor src, Tensor(a!) dst) -> ()");
  m.def(
      "forward(Tensor images, Tensor parameter, Tensor weight, Tensor? bias, Tensor? mask, Tensor reference, float eps, int[] sizes, bool channels_last, "
      "Tensor(a!) out) -> ()");
  m.def(
      "backward(Tensor grad, Tensor images, Tensor parameter, Tensor weight, Tensor? mask, Tensor reference, float eps, int[] sizes, bool channels_last, "
      "Tensor(a!)? grad_images, Tensor(b!)? grad_parameter, Tensor(c!)? grad_weight, Tensor(d!)? grad_mask) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(metricconv_mm_cpu, CompositeExplicitAutograd, m) {
  m.impl("vector_bytes", TORCH_BOX(&metricconv::vector_bytes));
  m.impl("interface", TORCH_BOX(&metricconv::interface));
}

STABLE_TORCH_LIBRARY_IMPL(metricconv_mm_cpu, CPU, m) {
  m.impl("transpose", TORCH_BOX(&metricconv::transpose));
  m.impl("forward", TORCH_BOX(&metricconv::forward));
  m.impl("backward", TORCH_BOX(&metricconv::backward));
}
