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

#include "problem.h"

namespace metricconv {

namespace {

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

}  // namespace

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

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
template <typename T>
using Buffer = std::unique_ptr<T[], Free>;

template <typename T>
Buffer<T> buffer(int64_t count) {
  return Buffer<T>(static_cast<T*>(allocate(count * static_cast<int64_t>(sizeof(T)))));
}

template <typename T>
Buffer<T> zeros(int64_t count) {
  auto result = buffer<T>(count);
  std::memset(result.get(), 0, count * sizeof(T));
  return result;
}

template <typename T>
T* pointer(const std::optional<Tensor>& tensor) {
  return tensor ? static_cast<T*>(tensor->mutable_data_ptr()) : nullptr;
}
template <typename T>
const T* constant(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename Visit>
void parallel(int64_t count, const Visit& visit) {
  torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) visit(i);
  });
}

// Calls run(T, S) with the type to compute with and the type that images are stored in.
template <typename Run>
void with_types(const Tensor& images, const Run& run) {
  switch (images.scalar_type()) {
    case ScalarType::Double: return run(double(), double());
    case ScalarType::Float: return run(float(), float());
    case ScalarType::BFloat16: return run(float(), BFloat16());
    default: STD_TORCH_CHECK(false, "metricconv_mm: expected images of float32, float64 or bfloat16");
  }
}

template <typename T, typename S>
Problem<T, S> problem_of(const Tensor& images, const Tensor& parameter, const Tensor& weight, const std::optional<Tensor>& mask, const Tensor& reference,
                         double eps, const std::vector<int64_t>& s, bool channels_last) {
  STD_TORCH_CHECK(s.size() == 13, "expected 13 sizes: output, kernel, stride, padding, dilation, parameter groups, kind, weight groups; got ", s.size());
  const Geometry g{images.size(0), images.size(3), images.size(1), images.size(2), s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10],
                   static_cast<Kind>(s[11]), weight.size(0), s[12]};
  STD_TORCH_CHECK((g.height + 2) * (g.width + 2) < (int64_t(1) << 31), "metricconv_mm: an image of ", g.height, " x ", g.width,
                  " pixels is too large: cut it into tiles of fewer than 2^31 pixels");
  Problem<T, S> problem{};
  problem.geometry = g, problem.images = constant<S>(images), problem.parameter = constant<T>(parameter), problem.mask = pointer<const T>(mask);
  problem.reference = constant<T>(reference), problem.eps = static_cast<T>(eps), problem.weight = constant<T>(weight);
  problem.channels_last = channels_last;
  return problem;
}

void forward(const Tensor& images, const Tensor& parameter, const Tensor& weight, const std::optional<Tensor>& bias, const std::optional<Tensor>& mask,
             const Tensor& reference, double eps, std::vector<int64_t> sizes, bool channels_last, Tensor out) {
  with_types(images, [&]<typename T, typename S>(T, S) {
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

// How the threads share the backward pass: by blocks of input channels, which need no sums across threads but those of small tensors, as far as
// the blocks stay wide; beyond that by ranges of pixels.
struct Partition {
  std::vector<int64_t> channels, pixels;  // limits of blocks and ranges

  int64_t blocks() const { return static_cast<int64_t>(channels.size()) - 1; }
  int64_t ranges() const { return static_cast<int64_t>(pixels.size()) - 1; }

  Partition(const Geometry& g, bool by_channels, int64_t lanes, int64_t tile) {
    const int64_t threads = std::max<int64_t>(1, torch::stable::get_num_threads());
    // a block holds whole groups of the weight, and as many channels as fill vectors
    const int64_t unit = g.weight_groups == 1 ? lanes : g.inputs_each() * ((lanes + g.inputs_each() - 1) / g.inputs_each());
    const int64_t units = (g.channels + unit - 1) / unit;
    // with fewer images than threads, ranges of pixels cost another image each
    const int64_t least = g.images < threads ? unit : std::max<int64_t>(unit, 64);
    const int64_t blocks = by_channels ? std::clamp<int64_t>(g.channels / least, 1, std::min(threads, units)) : 1;
    const int64_t ranges = std::clamp<int64_t>(g.pixels() / tile, 1, threads / blocks);
    for (int64_t b = 0; b <= blocks; ++b) channels.push_back(std::min(g.channels, units * b / blocks * unit));
    for (int64_t r = 0; r <= ranges; ++r) pixels.push_back(g.pixels() * r / ranges);
  }
};

template <typename T>
void add(T* sum, const T* more, int64_t count) {
  torch::stable::parallel_for(0, count, 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sum[i] += more[i];
  });
}

// A result of which every block of channels has one to write to, and that is their sum.
template <typename T>
struct Summed {
  T* result;
  int64_t count;
  std::vector<Buffer<T>> others;

  Summed(const std::optional<Tensor>& tensor, int64_t blocks) : result(pointer<T>(tensor)), count(tensor ? tensor->numel() : 0) {
    if (!result || blocks == 1) return;
    std::memset(result, 0, count * sizeof(T));
    for (int64_t b = 1; b < blocks; ++b) others.push_back(zeros<T>(count));
  }
  T* of(int64_t block) { return block && result ? others[block - 1].get() : result; }
  void finish() {
    for (const auto& other : others) add(result, other.get(), count);
  }
};

// From [taps, channels of the block, C_out / groups] of every range and block to [C_out, C / groups, taps].
template <typename T>
void write_weight_gradient(const Geometry& g, const Partition& partition, const T* sums, T* grad_weight) {
  const int64_t taps = g.taps(), inputs = g.inputs_each(), outputs = g.outputs_each(), size = taps * g.channels * outputs;
  for (int64_t b = 0; b < partition.blocks(); ++b) {
    const int64_t first = partition.channels[b], width = partition.channels[b + 1] - first;
    parallel(width, [&](int64_t c) {
      const int64_t channel = first + c;
      for (int64_t o = 0; o < outputs; ++o) {
        T* to = grad_weight + ((channel / inputs * outputs + o) * inputs + channel % inputs) * taps;
        const T* from = sums + taps * first * outputs + c * outputs + o;
        for (int64_t k = 0; k < taps; ++k) to[k] = from[k * width * outputs];
        for (int64_t r = 1; r < partition.ranges(); ++r)
          for (int64_t k = 0; k < taps; ++k) to[k] += from[r * size + k * width * outputs];
      }
    });
  }
}

void backward(const Tensor& grad, const Tensor& images, const Tensor& parameter, const Tensor& weight, const std::optional<Tensor>& mask, const Tensor& reference,
              double eps, std::vector<int64_t> sizes, bool channels_last, std::optional<Tensor> grad_images, std::optional<Tensor> grad_parameter,
              std::optional<Tensor> grad_weight, std::optional<Tensor> grad_mask) {
  with_types(images, [&]<typename T, typename S>(T, S) {
    auto problem = problem_of<T, S>(images, parameter, weight, mask, reference, eps, sizes, channels_last);
    problem.grad = constant<S>(grad);
    const auto& run = kernels<T, S>();
    const Geometry& g = problem.geometry;
    const Partition partition(g, !narrow<T>(g), run.lanes, run.tile);
    const int64_t blocks = partition.blocks(), ranges = partition.ranges(), image_size = g.height * g.width * g.channels;
    Summed<T> parameters(grad_parameter, blocks), masks(grad_mask, blocks);
    const int64_t weight_size = g.taps() * g.channels * g.outputs_each();
    const auto weights = grad_weight ? zeros<T>(ranges * weight_size) : nullptr;
    T* const image_sums = pointer<T>(grad_images);
    std::vector<Buffer<T>> first_images(ranges);
    for (int64_t r = 1; r < ranges && image_sums; ++r)
      if (partition.pixels[r] % g.outputs()) first_images[r] = zeros<T>(image_size);
    parallel(blocks * ranges, [&](int64_t i) {
      const int64_t b = i % blocks, r = i / blocks, first = partition.channels[b];
      T* const block_weights = weights ? weights.get() + r * weight_size + g.taps() * first * g.outputs_each() : nullptr;
      run.backward(problem, {partition.pixels[r], partition.pixels[r + 1], first, partition.channels[b + 1], image_sums, first_images[r].get(),
                             parameters.of(b), masks.of(b), block_weights});
    });
    for (int64_t r = 1; r < ranges; ++r)
      if (first_images[r]) add(image_sums + partition.pixels[r] / g.outputs() * image_size, first_images[r].get(), image_size);
    parameters.finish();
    masks.finish();
    if (weights) write_weight_gradient(g, partition, weights.get(), static_cast<T*>(grad_weight->mutable_data_ptr()));
  });
}

// [N, rows, columns] to [N, columns, rows].
void transpose(const Tensor& src, Tensor dst) {
  with_types(src, [&]<typename T, typename S>(T, S) {
    const int64_t rows = src.size(1), columns = src.size(2), strip = 64, strips = (columns + strip - 1) / strip;
    const S* from = constant<S>(src);
    S* to = static_cast<S*>(dst.mutable_data_ptr());
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
  m.def("transpose(Tensor src, Tensor(a!) dst) -> ()");
  m.def(
      "forward(Tensor images, Tensor parameter, Tensor weight, Tensor? bias, Tensor? mask, Tensor reference, float eps, int[] sizes, bool channels_last, "
      "Tensor(a!) out) -> ()");
  m.def(
      "backward(Tensor grad, Tensor images, Tensor parameter, Tensor weight, Tensor? mask, Tensor reference, float eps, int[] sizes, bool channels_last, "
      "Tensor(a!)? grad_images, Tensor(b!)? grad_parameter, Tensor(c!)? grad_weight, Tensor(d!)? grad_mask) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(metricconv_mm_cpu, CompositeExplicitAutograd, m) { m.impl("vector_bytes", TORCH_BOX(&metricconv::vector_bytes)); }

STABLE_TORCH_LIBRARY_IMPL(metricconv_mm_cpu, CPU, m) {
  m.impl("transpose", TORCH_BOX(&metricconv::transpose));
  m.impl("forward", TORCH_BOX(&metricconv::forward));
  m.impl("backward", TORCH_BOX(&metricconv::backward));
}
