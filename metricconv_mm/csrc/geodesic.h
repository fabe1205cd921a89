// Unit geodesic balls (geometry/heat.py) of neighbouring pixels of a row, one to a lane: heat from each of them, its field, samples that follow it, and
// the way back. Everything lies in windows around the pixels, grown with the heat and cut to where there is some.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "clones.h"

namespace metricconv {

// Two vectors of 32 bytes a cell: one alone would wait for its own sum.
template <typename T>
constexpr int cell_lanes = 64 / sizeof(T);
template <typename T>
struct Half {
  typedef T type __attribute__((vector_size(32), aligned(alignof(T)), may_alias));
};
template <typename T>
struct Cell {
  typedef typename Half<T>::type Vector;
  typedef int64_t Bits __attribute__((vector_size(32)));
  Vector low, high;

  METRICCONV_INLINE static Cell at(const T* from) {
    return {*reinterpret_cast<const Vector*>(from), *reinterpret_cast<const Vector*>(from + cell_lanes<T> / 2)};
  }
  METRICCONV_INLINE void to(T* target) const { *reinterpret_cast<Vector*>(target) = low, *reinterpret_cast<Vector*>(target + cell_lanes<T> / 2) = high; }
  METRICCONV_INLINE void add(const Cell& a, const Cell& b) { low += a.low * b.low, high += a.high * b.high; }
  METRICCONV_INLINE Cell plus(const Cell& other) const { return {low + other.low, high + other.high}; }
  // NaN is neither below a bound nor zero
  METRICCONV_INLINE Cell without_below(T bound) const {
    const Vector zero{};
    return {low < bound ? zero : low, high < bound ? zero : high};
  }
  METRICCONV_INLINE Cell where_not_zero(const Cell& other) const {
    const Vector zero{};
    return {other.low == zero ? zero : low, other.high == zero ? zero : high};
  }
  METRICCONV_INLINE bool any() const {
    const Vector zero{};
    const Bits found = reinterpret_cast<Bits>(low != zero) | reinterpret_cast<Bits>(high != zero);
    return (found[0] | found[1] | found[2] | found[3]) != 0;
  }
};

// Cells from (top, left) to (bottom, right), as displacements from the pixel: inclusive, and none if bottom < top.
struct Box {
  int64_t top, bottom, left, right;

  int64_t rows() const { return bottom - top + 1; }
  int64_t columns() const { return right - left + 1; }
  Box grown(int64_t by) const { return {top - by, bottom + by, left - by, right + by}; }
  Box within(const Box& other) const {
    return {std::max(top, other.top), std::min(bottom, other.bottom), std::max(left, other.left), std::min(right, other.right)};
  }
  int64_t reach() const { return rows() <= 0 ? 0 : std::max(std::max(-top, bottom), std::max(-left, right)); }
};

// A window of cells, each of `parts` numbers a lane.
template <typename T, int parts = 1>
struct Window {
  Box box{0, -1, 0, -1};
  std::vector<T> cells;

  void reset(const Box& to) {
    box = to;
    cells.assign(std::max<int64_t>(0, box.rows()) * std::max<int64_t>(0, box.columns()) * parts * cell_lanes<T>, T(0));
  }
  METRICCONV_INLINE T* at(int64_t y, int64_t x) { return cells.data() + ((y - box.top) * box.columns() + x - box.left) * parts * cell_lanes<T>; }
  METRICCONV_INLINE const T* at(int64_t y, int64_t x) const { return const_cast<Window*>(this)->at(y, x); }
};

// What is the same for all pixels of a call.
template <typename T>
struct Geodesic {
  int64_t height, width, radius, padded;  // kernels: [N, height, taps, padded], with a cell of zeros on either side of the image
  int64_t heat_steps, flow_steps, samples;
  T flow_step, flow_eps, threshold, spacing_y, spacing_x;

  int64_t side() const { return 2 * radius + 1; }
  int64_t taps() const { return side() * side(); }
  int64_t kernel(int64_t y, int64_t x) const { return y * taps() * padded + cell_lanes<T> + x; }
};

template <typename T>
METRICCONV_INLINE Box image_box(const Geodesic<T>& g, int64_t row, int64_t column) {
  return {-row, g.height - 1 - row, -column - cell_lanes<T> + 1, g.width - 1 - column};
}

// Calls visit(offset of a tap's kernel, cell before the step, number of taps) for every row of the taps of cell (y, x) that reach into the window before the
// step; the next tap is `padded` elements on, the next cell one.
template <typename T, typename Cells, typename Visit>
METRICCONV_INLINE void for_taps(const Geodesic<T>& g, Cells& before, int64_t y, int64_t x, const Visit& visit) {
  const Box box = before.box;
  const int64_t left = std::max(-g.radius, box.left - x), count = std::min(g.radius, box.right - x) - left + 1;
  for (int64_t v = std::max(-g.radius, box.top - y); v <= std::min(g.radius, box.bottom - y); ++v)
    visit(((v + g.radius) * g.side() + left + g.radius) * g.padded, before.at(y + v, x + left), count);
}

// u(q) <- sum_v h_q(v) u(q + v), and nothing below the threshold.
template <typename T>
METRICCONV_INLINE void heat_step(const Geodesic<T>& g, const T* kernels, int64_t row, int64_t column, const Window<T>& before, Window<T>& after) {
  constexpr int n = cell_lanes<T>;
  const Box box = before.box.grown(g.radius).within(image_box(g, row, column));
  const int64_t padded = g.padded;
  after.reset(box);
  Box kept{box.bottom + 1, box.top - 1, box.right + 1, box.left - 1};
  for (int64_t y = box.top; y <= box.bottom; ++y)
    for (int64_t x = box.left; x <= box.right; ++x) {
      const T* kernel = kernels + g.kernel(row + y, column + x);
      // two sums, or each product would wait for the one before
      Cell<T> sum{}, other{};
      for_taps(g, before, y, x, [&](int64_t tap, const T* heat, int64_t count) __attribute__((always_inline)) {
        const T* h = kernel + tap;
        int64_t j = 0;
        for (; j + 1 < count; j += 2, h += 2 * padded, heat += 2 * n) {
          sum.add(Cell<T>::at(h), Cell<T>::at(heat));
          other.add(Cell<T>::at(h + padded), Cell<T>::at(heat + n));
        }
        if (j < count) sum.add(Cell<T>::at(h), Cell<T>::at(heat));
      });
      sum = sum.plus(other).without_below(g.threshold);
      sum.to(after.at(y, x));
      if (sum.any()) kept = {std::min(kept.top, y), std::max(kept.bottom, y), std::min(kept.left, x), std::max(kept.right, x)};
    }
  if (kept.bottom < kept.top) return after.reset({0, -1, 0, -1});
  // cut where it lies: rows move to the front
  for (int64_t y = kept.top; y <= kept.bottom; ++y)
    std::memmove(after.cells.data() + (y - kept.top) * kept.columns() * n, after.at(y, kept.left), kept.columns() * n * sizeof(T));
  after.box = kept;
}

// The gradients of the kernels, added, and of the heat before the step, from that of the heat after it.
template <typename T>
METRICCONV_INLINE void heat_step_backward(const Geodesic<T>& g, const T* kernels, int64_t row, int64_t column, const Window<T>& before, const Window<T>& after,
                                          const Window<T>& grad, Window<T>& grad_before, T* grad_kernels) {
  constexpr int n = cell_lanes<T>;
  const int64_t padded = g.padded;
  grad_before.reset(before.box);
  for (int64_t y = after.box.top; y <= after.box.bottom; ++y)
    for (int64_t x = after.box.left; x <= after.box.right; ++x) {
      Cell<T> slope = Cell<T>::at(grad.at(y, x));
      // what was below the threshold has no gradient
      if (g.threshold > 0) slope = slope.where_not_zero(Cell<T>::at(after.at(y, x)));
      if (!slope.any()) continue;
      const int64_t offset = g.kernel(row + y, column + x);
      for_taps(g, before, y, x, [&](int64_t tap, const T* heat, int64_t count) __attribute__((always_inline)) {
        const T* h = kernels + offset + tap;
        T *to_kernel = grad_kernels + offset + tap, *to_heat = grad_before.cells.data() + (heat - before.cells.data());
        for (int64_t j = 0; j < count; ++j, h += padded, to_kernel += padded, heat += n, to_heat += n) {
          Cell<T> kernel_sum = Cell<T>::at(to_kernel), heat_sum = Cell<T>::at(to_heat);
          kernel_sum.add(slope, Cell<T>::at(heat));
          heat_sum.add(slope, Cell<T>::at(h));
          kernel_sum.to(to_kernel), heat_sum.to(to_heat);
        }
      });
    }
}

}  // namespace metricconv
