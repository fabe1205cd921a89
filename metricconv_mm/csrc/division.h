// How the threads share the backward pass, and the memory in which they do.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "problem.h"

namespace metricconv {

// 64-byte aligned memory, uninitialised, to be given to std::free.
void* allocate(int64_t bytes);

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
  return Buffer<T>(static_cast<T*>(zeroed(std::max<int64_t>(count, 1) * static_cast<int64_t>(sizeof(T)))));
}

template <typename T>
T* pointer(const std::optional<torch::stable::Tensor>& tensor) {
  return tensor ? static_cast<T*>(tensor->mutable_data_ptr()) : nullptr;
}
template <typename Visit>
void parallel(int64_t count, const Visit& visit) {
  torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) visit(i);
  });
}

// How the threads share the backward pass: by blocks of input channels as far as they stay wide, for then each thread has less of the weight to
// add up, and by ranges of pixels.
struct Partition {
  std::vector<int64_t> channels, pixels;  // limits of blocks and ranges

  int64_t blocks() const { return static_cast<int64_t>(channels.size()) - 1; }
  int64_t ranges() const { return static_cast<int64_t>(pixels.size()) - 1; }

  Partition(const Geometry& g, bool by_channels, int64_t lanes, int64_t tile) {
    const int64_t threads = std::max<int64_t>(1, torch::stable::get_num_threads());
    // a block holds whole groups of the weight, and as many channels as fill vectors
    const int64_t unit = g.weight_groups == 1 ? lanes : g.inputs_each() * ((lanes + g.inputs_each() - 1) / g.inputs_each());
    const int64_t units = (g.channels + unit - 1) / unit, least = std::max<int64_t>(unit, 128);
    const int64_t blocks = by_channels ? std::clamp<int64_t>(g.channels / least, 1, std::min(threads, units)) : 1;
    const int64_t ranges = std::clamp<int64_t>(g.pixels() / tile, 1, threads / blocks);
    for (int64_t b = 0; b <= blocks; ++b) channels.push_back(std::min(g.channels, units * b / blocks * unit));
    for (int64_t r = 0; r <= ranges; ++r) pixels.push_back(g.pixels() * r / ranges);
  }
};

// The images that the first and the last pixel of a range lie in, as far as they are not the range's alone.
template <typename T>
struct SharedImages {
  std::vector<T*> rows[2];
  SharedImage<T> images[2];
  int64_t count = 0;

  SharedImages(const Geometry& g, int64_t begin, int64_t end) {
    if (begin == end) return;
    const int64_t outputs = g.outputs(), first = begin / outputs, last = (end - 1) / outputs;
    for (int64_t n = first; n <= last; n += std::max<int64_t>(1, last - first)) {
      const int64_t from = std::max(begin - n * outputs, int64_t(0)), to = std::min(end - n * outputs, outputs);
      if (from == 0 && to == outputs) continue;
      rows[count].assign(g.height, nullptr);
      // of the rows, the part that the range has of the output
      images[count] = {n, g.height * from / outputs * g.width, g.height * to / outputs * g.width, g.width, g.channels, rows[count].data()};
      ++count;
    }
  }
  SharedImages(const SharedImages&) = delete;
  ~SharedImages() {
    for (auto& copies : rows)
      for (T* copy : copies) std::free(copy);
  }
  const SharedImage<T>* image(int64_t i) const { return i < count ? &images[i] : nullptr; }

  void add_to(const Geometry& g, T* sums) const {
    const int64_t size = g.width * g.channels;
    for (int64_t i = 0; i < count; ++i)
      torch::stable::parallel_for(0, g.height, 16, [&](int64_t begin, int64_t end) {
        for (int64_t y = begin; y < end; ++y)
          for (int64_t x = 0; rows[i][y] && x < size; ++x) sums[(images[i].number * g.height + y) * size + x] += rows[i][y][x];
      });
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

  Summed(const std::optional<torch::stable::Tensor>& tensor, int64_t blocks) : result(pointer<T>(tensor)), count(tensor ? tensor->numel() : 0) {
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

}  // namespace metricconv
