// Encodings and drifts of geometry/encodings.py, forward and backward, for a block of pixels: loops over plain arrays, which vectorise.
// NaN, overflow and the gradients at kinks are those of PyTorch: comparisons keep NaN, and products are taken in the order of its own backward pass.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "clones.h"

namespace metricconv {

enum class Encoding : int64_t { cholesky = 0, ldl = 1, spectral = 2, spectral_scaled = 3, isotropic = 4 };
enum class Drift : int64_t { sigmoid = 0, sigmoid_detached = 1, clip_detached = 2, none = 3 };

constexpr int lanes = 64;

// One value a pixel of the block.
template <typename T>
using Lane = T[lanes];

template <typename T>
struct Limits {
  T bound;  // of ||w||: 1 - eps_w, where 0 is no drift at all
  T low, spread;
  T eps_L, eps;
  T ceiling;  // of the clipped ||w||, where 0 clips nothing
};

METRICCONV_INLINE double exponential(double x) { return std::exp(x); }

// exp(x) to a unit in the last place (Cephes' polynomial) without a call or a branch; overflows to infinity, and underflows, where exp does.
METRICCONV_INLINE float exponential(float x) {
  x = x > 100.f ? 100.f : x;
  x = x < -110.f ? -110.f : x;
  constexpr float shift = 0x1.8p23f;  // adding it rounds to an integer, found in the lowest bits
  const float shifted = x * 1.44269504f + shift, n = shifted - shift;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1;
  // 2^n in two factors: either end of the range is beyond one of them
  const uint32_t power = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(shift);
  const uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(power) >> 1);
  return p * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((power - half + 127) << 23);
}

template <typename T>
METRICCONV_INLINE T sigmoid(T x) {
  return 1 / (1 + exponential(-x));
}

template <typename T>
METRICCONV_INLINE T sign(T x) {
  return T(x > 0) - T(x < 0);
}

// Neither overflows nor underflows before its result does.
METRICCONV_INLINE float hypotenuse(float x, float y) {
  return static_cast<float>(std::sqrt(static_cast<double>(x) * x + static_cast<double>(y) * y));
}
METRICCONV_INLINE double hypotenuse(double x, double y) { return std::hypot(x, y); }

// (x, y) / length, and the axis where (x, y) is short.
template <typename T>
struct Direction {
  bool is_short;
  T length, x, y;

  METRICCONV_INLINE Direction(T raw_x, T raw_y, T eps) {
    const T raw_length = hypotenuse(raw_x, raw_y);
    is_short = raw_length < eps;
    length = is_short ? T(1) : raw_length;
    x = (is_short ? T(1) : raw_x) / length;
    y = (is_short ? T(0) : raw_y) / length;
  }
};

// The eigenvalues along and across the direction, raw[0] to raw[2] being their channels, and the gradient of those channels.
template <Encoding encoding, typename T>
struct Eigenvalues {
  T raw_along, raw_across;
  T along_sigmoid = 0, across_sigmoid = 0, scale_sigmoid = 0, scale = 0;
  T along, across;

  METRICCONV_INLINE Eigenvalues(const Limits<T>& k, const Lane<T>* raw, int i) : raw_along(raw[0][i]), raw_across(raw[1][i]) {
    if constexpr (encoding == Encoding::spectral) {
      along = std::abs(raw_along) + k.eps_L;
      across = std::abs(raw_across) + k.eps_L;
    } else {
      along_sigmoid = sigmoid(raw_along);
      across_sigmoid = sigmoid(raw_across);
      scale_sigmoid = sigmoid(raw[2][i]);
      scale = k.low + k.spread * scale_sigmoid;
      along = 2 * along_sigmoid * scale;
      across = 2 * across_sigmoid * scale;
    }
  }

  METRICCONV_INLINE void backward(const Limits<T>& k, T grad_along, T grad_across, Lane<T>* grad_raw, int i) const {
    if constexpr (encoding == Encoding::spectral) {
      grad_raw[0][i] = grad_along * sign(raw_along);
      grad_raw[1][i] = grad_across * sign(raw_across);
    } else {
      grad_raw[0][i] = grad_along * scale * 2 * along_sigmoid * (1 - along_sigmoid);
      grad_raw[1][i] = grad_across * scale * 2 * across_sigmoid * (1 - across_sigmoid);
      grad_raw[2][i] = 2 * (grad_along * along_sigmoid + grad_across * across_sigmoid) * k.spread * scale_sigmoid * (1 - scale_sigmoid);
    }
  }
};

// M, as its channels xx, xy, yy, from the channels before the drift's.
template <Encoding encoding, typename T>
METRICCONV_INLINE void encode_matrix(const Limits<T>& k, const Lane<T>* __restrict raw, Lane<T>* __restrict matrix) {
  for (int i = 0; i < lanes; ++i) {
    if constexpr (encoding == Encoding::cholesky) {
      const T l11 = std::abs(raw[0][i]) + k.eps_L, l21 = raw[1][i], l22 = std::abs(raw[2][i]) + k.eps_L;
      matrix[0][i] = l11 * l11;
      matrix[1][i] = l11 * l21;
      matrix[2][i] = l21 * l21 + l22 * l22;
    } else if constexpr (encoding == Encoding::ldl) {
      const T l21 = raw[0][i], d1 = std::abs(raw[1][i]) + k.eps_L, d2 = std::abs(raw[2][i]) + k.eps_L;
      matrix[0][i] = d1;
      matrix[1][i] = d1 * l21;
      matrix[2][i] = d1 * l21 * l21 + d2;
    } else if constexpr (encoding == Encoding::isotropic) {
      const T value = k.low + k.spread * sigmoid(raw[0][i]);
      matrix[0][i] = value;
      matrix[1][i] = 0;
      matrix[2][i] = value;
    } else {
      const Direction<T> e(raw[0][i], raw[1][i], k.eps);
      const Eigenvalues<encoding, T> l(k, raw + 2, i);
      matrix[0][i] = l.along * e.x * e.x + l.across * e.y * e.y;
      matrix[1][i] = (l.along - l.across) * e.x * e.y;
      matrix[2][i] = l.along * e.y * e.y + l.across * e.x * e.x;
    }
  }
}

template <Encoding encoding, typename T>
METRICCONV_INLINE void encode_matrix_backward(const Limits<T>& k, const Lane<T>* __restrict raw, const Lane<T>* __restrict grad, Lane<T>* __restrict grad_raw) {
  for (int i = 0; i < lanes; ++i) {
    const T xx = grad[0][i], xy = grad[1][i], yy = grad[2][i];
    if constexpr (encoding == Encoding::cholesky) {
      const T l11 = std::abs(raw[0][i]) + k.eps_L, l21 = raw[1][i], l22 = std::abs(raw[2][i]) + k.eps_L;
      grad_raw[0][i] = (xy * l21 + xx * l11 + xx * l11) * sign(raw[0][i]);
      grad_raw[1][i] = xy * l11 + (yy * l21 + yy * l21);
      grad_raw[2][i] = (yy * l22 + yy * l22) * sign(raw[2][i]);
    } else if constexpr (encoding == Encoding::ldl) {
      const T l21 = raw[0][i], d1 = std::abs(raw[1][i]) + k.eps_L;
      grad_raw[0][i] = xy * d1 + (yy * (d1 * l21) + yy * l21 * d1);
      grad_raw[1][i] = (xx + xy * l21 + yy * l21 * l21) * sign(raw[1][i]);
      grad_raw[2][i] = yy * sign(raw[2][i]);
    } else if constexpr (encoding == Encoding::isotropic) {
      const T s = sigmoid(raw[0][i]);
      grad_raw[0][i] = (xx + yy) * k.spread * s * (1 - s);
    } else {
      const Direction<T> e(raw[0][i], raw[1][i], k.eps);
      const Eigenvalues<encoding, T> l(k, raw + 2, i);
      l.backward(k, xx * e.x * e.x + xy * e.y * e.x + yy * e.y * e.y, xx * e.y * e.y - xy * e.y * e.x + yy * e.x * e.x, grad_raw + 2, i);
      // by the angle, over the length: exactly 0 where M is isotropic
      const T turn = (l.along - l.across) / e.length * (2 * (yy - xx) * e.x * e.y + xy * (e.x * e.x - e.y * e.y));
      grad_raw[0][i] = e.is_short ? T(0) : -turn * e.y;
      grad_raw[1][i] = e.is_short ? T(0) : turn * e.x;
    }
  }
}

// What scales the raw drift (x, y): the bounded norm over the norm.
template <Drift drift, typename T>
struct Factor {
  T xx, xy, yy, x, y;
  T determinant, quotient, norm, norm_sigmoid = 0;
  T value;

  METRICCONV_INLINE Factor(const Limits<T>& k, T m_xx, T m_xy, T m_yy, T raw_x, T raw_y) : xx(m_xx + k.eps), xy(m_xy), yy(m_yy + k.eps), x(raw_x), y(raw_y) {
    determinant = xx * yy - xy * xy + k.eps;
    quotient = (yy * x * x - 2 * xy * x * y + xx * y * y) / determinant;
    norm = std::sqrt((quotient < 0 ? T(0) : quotient) + k.eps);
    T bounded = norm > k.bound ? k.bound : norm;
    if constexpr (drift != Drift::clip_detached) {
      norm_sigmoid = sigmoid(norm);
      bounded = k.bound * (2 * norm_sigmoid - 1);
    }
    value = bounded / (norm + k.eps);
  }

  // Adds the gradient by the factor to those of the drift and of M.
  METRICCONV_INLINE void backward(const Limits<T>& k, T grad, T& grad_xx, T& grad_xy, T& grad_yy, T& grad_x, T& grad_y) const {
    const T by_norm = grad / (norm + k.eps) * k.bound * 2 * (1 - norm_sigmoid) * norm_sigmoid - grad * (value / (norm + k.eps));
    const T by_quotient = quotient >= 0 ? by_norm / (2 * norm) : T(0);
    const T by_adjugate = by_quotient / determinant, by_determinant = -by_quotient * (quotient / determinant);
    grad_xx += by_adjugate * y * y + by_determinant * yy;
    grad_yy += by_adjugate * x * x + by_determinant * xx;
    grad_xy -= by_adjugate * y * x * 2 + (by_determinant * xy + by_determinant * xy);
    grad_x += by_adjugate * (yy * x) + by_adjugate * x * yy - by_adjugate * y * (2 * xy);
    grad_y += by_adjugate * (xx * y) + by_adjugate * y * xx - by_adjugate * (2 * xy * x);
  }
};

// The scale that brings the drift (x, y) below the ceiling, against the smallest matrix that rounding can make of M.
template <typename T>
METRICCONV_INLINE T clip_scale(const Limits<T>& k, T m_xx, T xy, T m_yy, T x, T y) {
  constexpr T rounding = 8 * std::numeric_limits<T>::epsilon(), tiny = std::numeric_limits<T>::min();
  const T slack = rounding * (m_xx + m_yy), xx = m_xx - slack, yy = m_yy - slack;
  const T determinant = (1 - rounding) * xx * yy - xy * xy;
  const T adjugate = (1 + rounding) * (yy * x * x + xx * y * y) - 2 * xy * x * y;
  const T squared = adjugate / determinant;
  const T scale = k.ceiling / std::sqrt(squared < tiny ? tiny : squared);
  return !((determinant > 0) & (xx > 0)) ? T(0) : scale > 1 ? T(1) : scale;
}

// metric: M on entry, and the drift after it on return.
template <Drift drift, bool clipped, typename T>
METRICCONV_INLINE void encode_drift(const Limits<T>& k, const Lane<T>* __restrict raw, Lane<T>* __restrict metric) {
  for (int i = 0; i < lanes; ++i) {
    const T xx = metric[0][i], xy = metric[1][i], yy = metric[2][i];
    const Factor<drift, T> factor(k, xx, xy, yy, raw[0][i], raw[1][i]);
    const T x = raw[0][i] * factor.value, y = raw[1][i] * factor.value, scale = clipped ? clip_scale(k, xx, xy, yy, x, y) : T(1);
    metric[3][i] = x * scale;
    metric[4][i] = y * scale;
  }
}

// Adds to the gradient of M, the first three of grad, what reaches it by the drift.
template <Drift drift, bool clipped, typename T>
METRICCONV_INLINE void encode_drift_backward(const Limits<T>& k, const Lane<T>* __restrict raw, const Lane<T>* __restrict matrix, Lane<T>* __restrict grad,
                                             Lane<T>* __restrict grad_raw) {
  for (int i = 0; i < lanes; ++i) {
    const T xx = matrix[0][i], xy = matrix[1][i], yy = matrix[2][i], x = raw[0][i], y = raw[1][i];
    const Factor<drift, T> factor(k, xx, xy, yy, x, y);
    const T scale = clipped ? clip_scale(k, xx, xy, yy, x * factor.value, y * factor.value) : T(1);
    const T by_x = grad[3][i] * scale, by_y = grad[4][i] * scale;
    T grad_x = by_x * factor.value, grad_y = by_y * factor.value;
    if constexpr (drift == Drift::sigmoid) factor.backward(k, by_x * x + by_y * y, grad[0][i], grad[1][i], grad[2][i], grad_x, grad_y);
    grad_raw[0][i] = grad_x;
    grad_raw[1][i] = grad_y;
  }
}

}  // namespace metricconv
