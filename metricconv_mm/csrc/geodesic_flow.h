// The second half of geodesic.h: the field of the heat, and the samples that follow it.
#pragma once

#include "geodesic.h"

namespace metricconv {

// What a thread works in.
template <typename T>
struct Working {
  std::vector<Window<T>> heat, grad;  // after every step, from the Dirac on
  Window<T, 4> field;                 // V and grad u, as (x, y), with a border of zeros
  Window<T, 2> grad_field;
  std::vector<T> path;                // (x, y) of a sample before every step, and after the last

  explicit Working(const Geodesic<T>& g) : heat(g.heat_steps + 1), grad(g.heat_steps + 1), path((g.flow_steps + 1) * 2 * cell_lanes<T>) {}
};

// V = -grad u / (|grad u| + flow_eps) by Sobel filters, 0 outside the image.
template <typename T>
METRICCONV_INLINE void flow_field(const Geodesic<T>& g, int64_t row, int64_t column, const Window<T>& heat, Window<T, 4>& field) {
  constexpr int n = cell_lanes<T>;
  const Box box = heat.box.grown(1);
  field.reset(heat.box.grown(2));
  // the sum towards larger minus that towards smaller x and y
  for (int64_t y = heat.box.top; y <= heat.box.bottom; ++y)
    for (int64_t x = heat.box.left; x <= heat.box.right; ++x) {
      const T* u = heat.at(y, x);
      for (int dy = -1; dy <= 1; ++dy)
        for (int dx = -1; dx <= 1; ++dx) {
          T* slope = field.at(y - dy, x - dx) + 2 * n;
          const T weight_x = T(dx * (2 - dy * dy)) / g.spacing_x, weight_y = T(dy * (2 - dx * dx)) / g.spacing_y;
          for (int i = 0; i < n; ++i) slope[i] += weight_x * u[i], slope[n + i] += weight_y * u[i];
        }
    }
  for (int64_t y = std::max(box.top, -row); y <= std::min(box.bottom, g.height - 1 - row); ++y)
    for (int64_t x = box.left; x <= box.right; ++x) {
      T *v = field.at(y, x), *slope = v + 2 * n;
      for (int i = 0; i < n; ++i) {
        const bool inside = column + x + i >= 0 && column + x + i < g.width;
        const T scale = inside ? -1 / (std::sqrt(slope[i] * slope[i] + slope[n + i] * slope[n + i]) + g.flow_eps) : T(0);
        v[i] = inside ? slope[i] * scale : T(0);
        v[n + i] = inside ? slope[n + i] * scale : T(0);
      }
    }
}

// The gradient of the heat from that of V.
template <typename T>
METRICCONV_INLINE void flow_field_backward(const Geodesic<T>& g, int64_t row, int64_t column, const Window<T, 4>& field, Window<T, 2>& grad_field, Window<T>& grad_heat) {
  constexpr int n = cell_lanes<T>;
  const Box box = field.box.grown(-1);
  grad_heat.reset(box.grown(-1));
  for (int64_t y = box.top; y <= box.bottom; ++y)
    for (int64_t x = box.left; x <= box.right; ++x) {
      const T* slope = field.at(y, x) + 2 * n;
      T* grad = grad_field.at(y, x);
      for (int i = 0; i < n; ++i) {
        const bool inside = y >= -row && y < g.height - row && column + x + i >= 0 && column + x + i < g.width;
        const T length = std::sqrt(slope[i] * slope[i] + slope[n + i] * slope[n + i]), speed = length + g.flow_eps;
        const T along = length == 0 ? T(0) : (slope[i] * grad[i] + slope[n + i] * grad[n + i]) / (length * speed * speed);
        const T by_x = slope[i] * along - grad[i] / speed, by_y = slope[n + i] * along - grad[n + i] / speed;
        grad[i] = inside ? by_x : T(0);
        grad[n + i] = inside ? by_y : T(0);
      }
    }
  const Box& heat = grad_heat.box;
  for (int64_t y = heat.top; y <= heat.bottom; ++y)
    for (int64_t x = heat.left; x <= heat.right; ++x) {
      T* grad = grad_heat.at(y, x);
      for (int dy = -1; dy <= 1; ++dy)
        for (int dx = -1; dx <= 1; ++dx) {
          const T* slope = grad_field.at(y - dy, x - dx);
          const T weight_x = T(dx * (2 - dy * dy)) / g.spacing_x, weight_y = T(dy * (2 - dx * dx)) / g.spacing_y;
          for (int i = 0; i < n; ++i) grad[i] += weight_x * slope[i] + weight_y * slope[n + i];
        }
    }
}

// Where in a window a coordinate is read: the cell before it, and how far it is from there. Beyond the window it is read at the border; NaN stays.
template <typename T>
struct Place {
  int64_t cell;
  T fraction;
  bool inside;

  METRICCONV_INLINE Place(T position, int64_t first, int64_t last) {
    const T low = static_cast<T>(first), high = static_cast<T>(last);
    const T clamped = position < low ? low : position > high ? high : position;
    inside = clamped == position;
    const T safe = clamped >= low ? clamped : low;
    cell = std::min(static_cast<int64_t>(safe - low), last - first - 1);
    fraction = clamped - low - static_cast<T>(cell);
  }
};

// V at a position of one lane, and its derivatives.
template <typename T>
struct Reading {
  Place<T> x, y;
  int64_t first, below;
  T corners[2][4];

  METRICCONV_INLINE Reading(const Geodesic<T>& g, const Window<T, 4>& field, T position_x, T position_y, int lane)
      : x(position_x / g.spacing_x, field.box.left, field.box.right), y(position_y / g.spacing_y, field.box.top, field.box.bottom) {
    first = y.cell * field.box.columns() + x.cell;
    below = field.box.columns();
    const int64_t cells[4] = {first, first + 1, first + below, first + below + 1};
    for (int c = 0; c < 4; ++c)
      for (int part = 0; part < 2; ++part) corners[part][c] = field.cells[(4 * cells[c] + part) * cell_lanes<T> + lane];
  }

  METRICCONV_INLINE T value(int part) const {
    const T* c = corners[part];
    const T above = c[0] + x.fraction * (c[1] - c[0]), under = c[2] + x.fraction * (c[3] - c[2]);
    return above + y.fraction * (under - above);
  }
  METRICCONV_INLINE T by_x(int part) const {
    const T* c = corners[part];
    return x.inside ? (c[1] - c[0]) * (1 - y.fraction) + (c[3] - c[2]) * y.fraction : T(0);
  }
  METRICCONV_INLINE T by_y(int part) const {
    const T* c = corners[part];
    return y.inside ? (c[2] - c[0]) * (1 - x.fraction) + (c[3] - c[1]) * x.fraction : T(0);
  }
};

// The lanes of a sample before and after every step, from the first of path on.
template <typename T>
METRICCONV_INLINE void advect(const Geodesic<T>& g, const Window<T, 4>& field, T* path) {
  constexpr int n = cell_lanes<T>;
  for (int64_t step = 0; step < g.flow_steps; ++step, path += 2 * n)
    for (int i = 0; i < n; ++i) {
      const Reading<T> v(g, field, path[i], path[n + i], i);
      path[2 * n + i] = path[i] + g.flow_step * v.value(0);
      path[3 * n + i] = path[n + i] + g.flow_step * v.value(1);
    }
}

// The gradient of the field, added, and in `grad` that of the sample before the steps from that after them.
template <typename T>
METRICCONV_INLINE void advect_backward(const Geodesic<T>& g, const Window<T, 4>& field, const T* path, T* grad, Window<T, 2>& grad_field) {
  constexpr int n = cell_lanes<T>;
  for (int64_t step = g.flow_steps - 1; step >= 0; --step)
    for (int i = 0; i < n; ++i) {
      const T *x = path + step * 2 * n + i, *y = x + n;
      const Reading<T> v(g, field, *x, *y, i);
      const T slope[2] = {g.flow_step * grad[i], g.flow_step * grad[n + i]};
      const int64_t cells[4] = {v.first, v.first + 1, v.first + v.below, v.first + v.below + 1};
      const T fx = v.x.fraction, fy = v.y.fraction, weights[4] = {(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy};
      for (int c = 0; c < 4; ++c)
        for (int part = 0; part < 2; ++part) grad_field.cells[(2 * cells[c] + part) * n + i] += weights[c] * slope[part];
      grad[i] += (slope[0] * v.by_x(0) + slope[1] * v.by_x(1)) / g.spacing_x;
      grad[n + i] += (slope[0] * v.by_y(0) + slope[1] * v.by_y(1)) / g.spacing_y;
    }
}

}  // namespace metricconv
