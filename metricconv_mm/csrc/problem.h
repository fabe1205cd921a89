// The problem that the kernels solve, in plain numbers and pointers; the same for every instruction set.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace metricconv {

enum class Kind : int64_t { randers = 0, shift = 1, offset = 2, matsumoto = 3 };

// bfloat16 as it is stored; computed with as float.
struct BFloat16 {
  uint16_t bits;
};

// Sizes are (rows, columns). A parameter is [images, groups * parameter_channels, outputs], contiguous.
struct Geometry {
  int64_t images, channels, height, width;
  int64_t out_height, out_width;
  int64_t kernel_rows, kernel_columns;
  int64_t stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
  int64_t groups;  // of the parameter
  Kind kind;
  int64_t out_channels, weight_groups;

  int64_t taps() const { return kernel_rows * kernel_columns; }
  int64_t outputs() const { return out_height * out_width; }
  int64_t pixels() const { return images * outputs(); }
  int64_t group_channels() const { return channels / groups; }
  bool on_ball() const { return kind != Kind::shift && kind != Kind::offset; }
  int64_t parameter_channels() const { return on_ball() ? 5 : kind == Kind::shift ? 2 : 2 * taps(); }
  // of one group of the weight
  int64_t inputs_each() const { return channels / weight_groups; }
  int64_t outputs_each() const { return out_channels / weight_groups; }
  bool depthwise() const { return inputs_each() == 1 && outputs_each() == 1; }
};

// T is computed with and sampled, S is how outputs and their gradients are stored.
template <typename T, typename S>
struct Problem {
  Geometry geometry;
  const T* images;     // [N, H, W, C]
  const T* parameter;
  const T* mask;       // [N, groups * taps, outputs], or null
  const T* reference;  // [taps, 3] of a metric's support, or [taps, 2] of the kernel's grid, as (x, y)
  T eps;
  const T* weight;  // [C_out, C / weight_groups, taps]
  bool channels_last;  // of out and grad
  // forward
  const T* bias;    // or null
  const T* packed;  // the weight as Kernels::pack arranges it
  S* out;
  // backward
  const S* grad;
};

// Memory for so many bytes, zeroed, to be given to std::free.
void* zeroed(int64_t bytes);

// An image whose gradient several threads add to. The pixels [begin, end), whole rows, are this thread's to write; of other rows, it makes copies
// of its own when it first needs them, to be added when all are done. Samples that stay near their pixels need few.
template <typename T>
struct SharedImage {
  int64_t number, begin, end, width, channels;
  T** rows;  // [height], null where there is no copy

  T* beyond(int64_t pixel) const {
    T*& row = rows[pixel / width];
    if (!row) row = static_cast<T*>(zeroed(width * channels * static_cast<int64_t>(sizeof(T))));
    return row + pixel % width * channels;
  }
};

// What one thread does of the backward pass, and where it may write: its pixels and channels are its own.
template <typename T>
struct Share {
  int64_t begin, end;  // pixels
  int64_t first, last;  // input channels, whole groups of the weight if there are several
  // where null, the gradient is not wanted
  T* grad_images;     // [N, H, W, C]
  T* grad_parameter;  // as the parameter
  T* grad_mask;       // as the mask
  T* grad_weight;     // [taps, last - first, C_out / weight_groups]
  // the images that the first and the last pixel lie in, if other threads write there too
  const SharedImage<T>* shared[2];
};

// Whether the lanes of vectors are pixels, because a group has too few channels to fill one.
template <typename T>
bool narrow(const Geometry& g) {
  return g.group_channels() * sizeof(T) < 32;
}

template <typename T, typename S>
struct Kernels {
  int64_t tile;   // output pixels that are worked on at a time
  int64_t lanes;  // of a vector
  int64_t (*packed_size)(const Geometry&);
  // a part of the weight, for the forward pass: part of parts
  void (*pack)(const Problem<T, S>&, T* packed, int64_t part, int64_t parts);
  void (*forward)(const Problem<T, S>&, int64_t begin, int64_t end);
  void (*backward)(const Problem<T, S>&, const Share<T>&);
  // dst[column, row] = src[row, column]
  void (*transpose)(const S* src, int64_t rows, int64_t columns, int64_t src_stride, T* dst, int64_t dst_stride);
};

// One table for every instruction set that is compiled.
namespace generic {
template <typename T, typename S>
Kernels<T, S> kernels();
}
#if defined(__x86_64__)
namespace avx2 {
template <typename T, typename S>
Kernels<T, S> kernels();
}
namespace avx512 {
template <typename T, typename S>
Kernels<T, S> kernels();
}
#endif

// Memory of the calling thread that lasts until the slot is asked for again; 64-byte aligned, uninitialised.
void* scratch(int slot, int64_t bytes);

template <typename T>
T* scratch_array(int slot, int64_t count) {
  return static_cast<T*>(scratch(slot, count * static_cast<int64_t>(sizeof(T))));
}
template <typename T>
T& scratch_object(int slot) {
  return *scratch_array<T>(slot, 1);
}

}  // namespace metricconv
