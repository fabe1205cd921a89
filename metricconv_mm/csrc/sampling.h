// Where the taps of an output pixel lie, and the four neighbours that a bilinear sample blends.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace metricconv {

enum class Kind : int64_t { metric = 0, shift = 1, offset = 2 };

// Sizes are (rows, columns). A parameter is [images, groups * parameter_channels, outputs], contiguous.
struct Geometry {
  int64_t images, channels, height, width;
  int64_t out_height, out_width;
  int64_t kernel_rows, kernel_columns;
  int64_t stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
  int64_t groups;  // of the parameter
  Kind kind;

  int64_t taps() const { return kernel_rows * kernel_columns; }
  int64_t outputs() const { return out_height * out_width; }
  int64_t group_channels() const { return channels / groups; }
  int64_t parameter_channels() const { return kind == Kind::metric ? 5 : kind == Kind::shift ? 2 : 2 * taps(); }
};

// std::floor is a function call where the processor is not known to round by itself.
template <typename T>
inline int64_t floor_of(T value) {
  const int64_t truncated = static_cast<int64_t>(value);
  return truncated - (value < static_cast<T>(truncated));
}

// One tap of one output pixel: absolute position, and what its derivative by the parameters needs.
template <typename T>
struct Position {
  T x, y;
  T alpha;  // sqrt(u' M u)
  T norm;   // F(u) + eps
};

// The parameters of one group at one output pixel, and the taps that they move.
template <typename T>
class Taps {
 public:
  // The reference holds [taps, 3] of a metric's support, or [taps, 2] of the kernel's grid, as (x, y).
  Taps(const Geometry& geometry, const T* parameter, const T* reference, T eps, int64_t image, int64_t output, int64_t group)
      : geometry_(geometry), reference_(reference), eps_(eps), step_(geometry.outputs()) {
    first_ = parameter + (image * geometry.groups + group) * geometry.parameter_channels() * step_ + output;
    centre_x_ = (output % geometry.out_width) * geometry.stride_x - geometry.padding_x + geometry.dilation_x * (geometry.kernel_columns - 1) / T(2);
    centre_y_ = (output / geometry.out_width) * geometry.stride_y - geometry.padding_y + geometry.dilation_y * (geometry.kernel_rows - 1) / T(2);
    for (int64_t channel = 0; channel < (geometry.kind == Kind::metric ? 5 : geometry.kind == Kind::shift ? 2 : 0); ++channel) values_[channel] = raw(channel);
  }

  Position<T> at(int64_t tap) const {
    if (geometry_.kind == Kind::metric) {
      const T u = reference_[3 * tap], v = reference_[3 * tap + 1], radius = reference_[3 * tap + 2];
      const T form = values_[0] * u * u + 2 * values_[1] * u * v + values_[2] * v * v;
      // rounding can make the form of a nearly singular matrix slightly negative; NaN stays NaN
      const T alpha = std::sqrt(form < std::numeric_limits<T>::min() ? std::numeric_limits<T>::min() : form);
      const T norm = alpha + values_[3] * u + values_[4] * v + eps_;
      return {centre_x_ + radius * u / norm, centre_y_ + radius * v / norm, alpha, norm};
    }
    const T grid_x = reference_[2 * tap], grid_y = reference_[2 * tap + 1];
    const bool shared = geometry_.kind == Kind::shift;
    const T dy = shared ? values_[0] : raw(2 * tap), dx = shared ? values_[1] : raw(2 * tap + 1);
    return {centre_x_ + (grid_x + dx), centre_y_ + (grid_y + dy), 0, 0};
  }

  // Adds the gradient by a tap's position to that by the parameters, which lie as the parameters do.
  void accumulate(int64_t tap, const Position<T>& position, T grad_x, T grad_y, T* sums) const {
    if (geometry_.kind == Kind::metric) {
      const T u = reference_[3 * tap], v = reference_[3 * tap + 1], radius = reference_[3 * tap + 2];
      const T by_norm = -radius * (grad_x * u + grad_y * v) / (position.norm * position.norm);
      const bool clamped = position.alpha <= std::sqrt(std::numeric_limits<T>::min());
      const T by_form = clamped ? 0 * by_norm : by_norm / (2 * position.alpha);
      sums[0] += by_form * u * u;
      sums[1] += by_form * 2 * u * v;
      sums[2] += by_form * v * v;
      sums[3] += by_norm * u;
      sums[4] += by_norm * v;
    } else if (geometry_.kind == Kind::shift) {
      sums[0] += grad_y;
      sums[1] += grad_x;
    } else {
      sums[2 * tap] = grad_y;
      sums[2 * tap + 1] = grad_x;
    }
  }

 private:
  T raw(int64_t channel) const { return first_[channel * step_]; }

  const Geometry& geometry_;
  const T* reference_;
  T eps_;
  int64_t step_;
  const T* first_;
  T centre_x_, centre_y_;
  T values_[5] = {};
};

// The neighbours of a position, top left to bottom right: pixel, or -1 outside the image, and weight.
template <typename T>
struct Corners {
  int64_t pixel[4];
  T weight[4];
  T fraction_x, fraction_y;

  Corners(const Position<T>& position, int64_t height, int64_t width) {
    // clamped to where every neighbour is outside, so that no index overflows
    T x = position.x < -2 ? T(-2) : position.x > width + 1 ? T(width + 1) : position.x;
    T y = position.y < -2 ? T(-2) : position.y > height + 1 ? T(height + 1) : position.y;
    const bool lost = x != x || y != y;
    const int64_t left = x != x ? 0 : floor_of(x), top = y != y ? 0 : floor_of(y);
    fraction_x = x - left;
    fraction_y = y - top;
    const T weights[4] = {(1 - fraction_y) * (1 - fraction_x), (1 - fraction_y) * fraction_x, fraction_y * (1 - fraction_x), fraction_y * fraction_x};
    for (int corner = 0; corner < 4; ++corner) {
      const int64_t row = top + corner / 2, column = left + corner % 2;
      const bool inside = row >= 0 && row < height && column >= 0 && column < width;
      // a position that is NaN makes its sample NaN
      pixel[corner] = inside ? row * width + column : lost ? 0 : -1;
      weight[corner] = inside || lost ? weights[corner] : T(0);
    }
  }
};

}  // namespace metricconv
