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
  typename Half<T>::type low, high;

  METRICCONV_INLINE static Cell at(const T* from) {
    typedef const typename Half<T>::type* Pointer;
    return {*reinterpret_cast<Pointer>(from), *reinterpret_cast<Pointer>(from + cell_lanes<T> / 2)};
  }
  METRICCONV_INLINE void to(T* target) const {
    typedef typename Half<T>::type* Pointer;
    *reinterpret_cast<Pointer>(target) = low, *reinterpret_cast<Pointer>(target + cell_lanes<T> / 2) = high;
  }
};

template <typename T>
METRICCONV_INLINE bool any(const T* cell) {
  bool found = false;
  for (int i = 0; i < cell_lanes<T>; ++i) found |= cell[i] != 0;
  return found;
}

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

// Calls visit(tap, y, x of the cell before the step) for the taps of cell (y, x) that reach into the window before the step.
template <typename T, typename Visit>
METRICCONV_INLINE void for_taps(const Geodesic<T>& g, const Box& before, int64_t y, int64_t x, const Visit& visit) {
  const int64_t left = std::max(-g.radius, before.left - x), right = std::min(g.radius, before.right - x);
  for (int64_t v = std::max(-g.radius, before.top - y); v <= std::min(g.radius, before.bottom - y); ++v)
    for (int64_t u = left; u <= right; ++u) visit((v + g.radius) * g.side() + u + g.radius, y + v, x + u);
}

// u(q) <- sum_v h_q(v) u(q + v), and nothing below the threshold; NaN stays.
template <typename T>
METRICCONV_INLINE void heat_step(const Geodesic<T>& g, const T* kernels, int64_t row, int64_t column, const Window<T>& before, Window<T>& after) {
  after.reset(before.box.grown(g.radius).within(image_box(g, row, column)));
  const Box& box = after.box;
  Box kept{box.bottom + 1, box.top - 1, box.right + 1, box.left - 1};
  for (int64_t y = box.top; y <= box.bottom; ++y)
    for (int64_t x = box.left; x <= box.right; ++x) {
      const T* kernel = kernels + g.kernel(row + y, column + x);
      Cell<T> sum{};
      for_taps(g, before.box, y, x, [&](int64_t tap, int64_t from_y, int64_t from_x) __attribute__((always_inline)) {
        const Cell<T> h = Cell<T>::at(kernel + tap * g.padded), u = Cell<T>::at(before.at(from_y, from_x));
        sum.low += h.low * u.low, sum.high += h.high * u.high;
      });
      T* cell = after.at(y, x);
      sum.to(cell);
      for (int i = 0; i < cell_lanes<T>; ++i) cell[i] = cell[i] < g.threshold ? T(0) : cell[i];
      if (any(cell)) kept = {std::min(kept.top, y), std::max(kept.bottom, y), std::min(kept.left, x), std::max(kept.right, x)};
    }
  if (kept.bottom < kept.top) return after.reset({0, -1, 0, -1});
  // cut where it lies: rows move to the front
  const int64_t columns = box.columns(), from = kept.left - box.left;
  for (int64_t y = kept.top; y <= kept.bottom; ++y)
    std::memmove(after.cells.data() + (y - kept.top) * kept.columns() * cell_lanes<T>, after.cells.data() + ((y - box.top) * columns + from) * cell_lanes<T>,
                 kept.columns() * cell_lanes<T> * sizeof(T));
  after.box = kept;
}

// The gradients of the kernels, added, and of the heat before the step, from that of the heat after it.
template <typename T>
METRICCONV_INLINE void heat_step_backward(const Geodesic<T>& g, const T* kernels, int64_t row, int64_t column, const Window<T>& before, const Window<T>& after,
                                          const Window<T>& grad, Window<T>& grad_before, T* grad_kernels) {
  grad_before.reset(before.box);
  for (int64_t y = after.box.top; y <= after.box.bottom; ++y)
    for (int64_t x = after.box.left; x <= after.box.right; ++x) {
      const T *above = grad.at(y, x), *heat = after.at(y, x);
      alignas(64) T masked[cell_lanes<T>];
      // what was below the threshold has no gradient
      for (int i = 0; i < cell_lanes<T>; ++i) masked[i] = g.threshold > 0 && heat[i] == 0 ? T(0) : above[i];
      if (!any(masked)) continue;
      const Cell<T> slope = Cell<T>::at(masked);
      const int64_t offset = g.kernel(row + y, column + x);
      for_taps(g, before.box, y, x, [&](int64_t tap, int64_t from_y, int64_t from_x) __attribute__((always_inline)) {
        const Cell<T> h = Cell<T>::at(kernels + offset + tap * g.padded), u = Cell<T>::at(before.at(from_y, from_x));
        T *to = grad_before.at(from_y, from_x), *to_kernel = grad_kernels + offset + tap * g.padded;
        Cell<T> sum = Cell<T>::at(to), kernel_sum = Cell<T>::at(to_kernel);
        sum.low += slope.low * h.low, sum.high += slope.high * h.high;
        kernel_sum.low += slope.low * u.low, kernel_sum.high += slope.high * u.high;
        sum.to(to), kernel_sum.to(to_kernel);
      });
    }
}

}  // namespace metricconv
