// A tile of output pixels, and where the taps of its kernels lie.

constexpr int64_t TILE = 128;

// Calls visit(image, output, position in the tile, count) for every stretch of pixels [begin, end) that lies in one image.
template <typename Visit>
METRICCONV_INLINE void for_stretches(const Geometry& g, int64_t begin, int64_t end, const Visit& visit) {
  for (int64_t pixel = begin; pixel < end;) {
    const int64_t image = pixel / g.outputs(), output = pixel - image * g.outputs();
    const int64_t rest = g.outputs() - output, count = rest < end - pixel ? rest : end - pixel;
    visit(image, output, pixel - begin, count);
    pixel += count;
  }
}

template <typename T, typename S>
struct Tile {
  int64_t begin, count;
  T centre_x[TILE], centre_y[TILE];
  const T* image[TILE];
  // in the backward pass: the gradient of the image, and how it is shared with other threads, or null
  T* grad[TILE];
  const SharedImage<T>* shared[TILE];
  T* values;  // [groups, 5 or 2, TILE]: the parameters, but those of offsets

  // values_memory holds groups * 5 * TILE.
  void place(const Problem<T, S>& problem, int64_t first, int64_t end, T* values_memory) {
    const Geometry& g = problem.geometry;
    begin = first, count = end - first, values = values_memory;
    const T offset_x = static_cast<T>(g.dilation_x * (g.kernel_columns - 1)) / 2 - static_cast<T>(g.padding_x);
    const T offset_y = static_cast<T>(g.dilation_y * (g.kernel_rows - 1)) / 2 - static_cast<T>(g.padding_y);
    const int64_t channels = g.kind == Kind::offset ? 0 : g.parameter_channels();
    for_stretches(g, first, end, [&](int64_t n, int64_t output, int64_t at, int64_t length) {
      int64_t row = output / g.out_width, column = output % g.out_width;
      for (int64_t p = at; p < at + length; ++p) {
        centre_x[p] = static_cast<T>(column * g.stride_x) + offset_x;
        centre_y[p] = static_cast<T>(row * g.stride_y) + offset_y;
        image[p] = problem.images + n * g.height * g.width * g.channels;
        if (++column == g.out_width) column = 0, ++row;
      }
      for (int64_t c = 0; c < g.groups * channels; ++c)
        std::memcpy(values + c * TILE + at, problem.parameter + (n * g.groups * channels + c) * g.outputs() + output, length * sizeof(T));
    });
  }

  const T* value(const Geometry& g, int64_t group, int64_t channel) const { return values + (group * g.parameter_channels() + channel) * TILE; }

  void place_gradients(const Problem<T, S>& problem, const Share<T>& share) {
    if (!share.grad_images) return;
    const Geometry& g = problem.geometry;
    for_stretches(g, begin, begin + count, [&](int64_t n, int64_t, int64_t at, int64_t length) {
      const SharedImage<T>* found = nullptr;
      for (const auto* candidate : share.shared)
        if (candidate && candidate->number == n) found = candidate;
      for (int64_t p = at; p < at + length; ++p) grad[p] = share.grad_images + n * g.height * g.width * g.channels, shared[p] = found;
    });
  }

  // Where the gradient of a neighbour goes.
  METRICCONV_INLINE T* target(int64_t p, int64_t pixel, int64_t channels) const {
    const SharedImage<T>* image = shared[p];
    return !image || (pixel >= image->begin && pixel < image->end) ? grad[p] + pixel * channels : image->beyond(pixel);
  }

  // Copies a channel of a tensor [N, channels, outputs] for the pixels of the tile.
  void gather(const Geometry& g, const T* tensor, int64_t channels, int64_t channel, T* out) const {
    for_stretches(g, begin, begin + count, [&](int64_t n, int64_t output, int64_t at, int64_t length) {
      std::memcpy(out + at, tensor + (n * channels + channel) * g.outputs() + output, length * sizeof(T));
    });
  }
  void scatter(const Geometry& g, const T* values, int64_t channels, int64_t channel, T* tensor) const {
    for_stretches(g, begin, begin + count, [&](int64_t n, int64_t output, int64_t at, int64_t length) {
      std::memcpy(tensor + (n * channels + channel) * g.outputs() + output, values + at, length * sizeof(T));
    });
  }
};

// One tap of every pixel of a tile: its four neighbours, top left to bottom right, and what the gradients need.
template <typename T>
struct Tap {
  int32_t index[4][TILE];  // of the neighbour's pixel in its image, or -1 outside of it
  T weight[4][TILE];       // bilinear
  T masked[4][TILE];       // the same times the mask
  const T (*factor)[TILE];  // masked, or weight where there is no mask
  T fraction_x[TILE], fraction_y[TILE], mask[TILE];
  T x[TILE], y[TILE], alpha[TILE], norm[TILE];  // position; sqrt(u' M u) and F(u) + eps of a metric
};

// sqrt of the least quadratic form: rounding can make that of a nearly singular matrix slightly negative
template <typename T>
constexpr T LEAST_FORM = std::numeric_limits<T>::min();

template <typename Norm, typename T, typename S>
METRICCONV_INLINE void position_on_ball(const Problem<T, S>& problem, const Tile<T, S>& tile, int64_t group, int64_t number, Tap<T>& tap) {
  const Geometry& g = problem.geometry;
  const T u = problem.reference[3 * number], v = problem.reference[3 * number + 1], radius = problem.reference[3 * number + 2], eps = problem.eps;
  const T *m_xx = tile.value(g, group, 0), *m_xy = tile.value(g, group, 1), *m_yy = tile.value(g, group, 2), *w_x = tile.value(g, group, 3),
          *w_y = tile.value(g, group, 4);
  T *x = tap.x, *y = tap.y;
  for (int64_t p = 0; p < tile.count; ++p) {
    const T form = m_xx[p] * (u * u) + m_xy[p] * (2 * u * v) + m_yy[p] * (v * v);
    const T alpha = std::sqrt(form < LEAST_FORM<T> ? LEAST_FORM<T> : form);  // NaN stays NaN
    const T norm = Norm::value(alpha, w_x[p] * u + w_y[p] * v) + eps;
    const T length = radius / norm;
    tap.alpha[p] = alpha, tap.norm[p] = norm;
    x[p] = tile.centre_x[p] + length * u, y[p] = tile.centre_y[p] + length * v;
  }
}

template <typename T, typename S>
void position(const Problem<T, S>& problem, const Tile<T, S>& tile, int64_t group, int64_t number, Tap<T>& tap) {
  const Geometry& g = problem.geometry;
  T *x = tap.x, *y = tap.y;
  if (g.on_ball())
    return with_norm(g.kind, [&]<typename Norm>() __attribute__((always_inline)) { position_on_ball<Norm>(problem, tile, group, number, tap); });
  const T grid_x = problem.reference[2 * number], grid_y = problem.reference[2 * number + 1];
  const T *dy = tap.alpha, *dx = tap.norm;
  if (g.kind == Kind::shift) {
    dy = tile.value(g, group, 0), dx = tile.value(g, group, 1);
  } else {
    const int64_t channels = g.groups * g.parameter_channels(), channel = group * g.parameter_channels() + 2 * number;
    tile.gather(g, problem.parameter, channels, channel, tap.alpha);
    tile.gather(g, problem.parameter, channels, channel + 1, tap.norm);
  }
  for (int64_t p = 0; p < tile.count; ++p) x[p] = tile.centre_x[p] + (grid_x + dx[p]), y[p] = tile.centre_y[p] + (grid_y + dy[p]);
}

// Fills in where the tap lies and what its neighbours weigh.
template <typename T, typename S>
void locate(const Problem<T, S>& problem, const Tile<T, S>& tile, int64_t group, int64_t number, Tap<T>& tap) {
  const Geometry& g = problem.geometry;
  position(problem, tile, group, number, tap);
  const auto height = static_cast<int32_t>(g.height), width = static_cast<int32_t>(g.width);
  // clamped to where every neighbour is outside, so that no index overflows
  const T right = static_cast<T>(width + 1), bottom = static_cast<T>(height + 1);
  for (int64_t p = 0; p < tile.count; ++p) {
    T x = tap.x[p], y = tap.y[p];
    x = x < -2 ? T(-2) : x, y = y < -2 ? T(-2) : y;
    x = x > right ? right : x, y = y > bottom ? bottom : y;
    // the position NaN makes its sample NaN: pixel 0 with a weight of NaN
    const int lost = (x != x) | (y != y);
    const T known_x = x != x ? T(0) : x, known_y = y != y ? T(0) : y;
    int32_t left = static_cast<int32_t>(known_x), top = static_cast<int32_t>(known_y);
    left -= known_x < static_cast<T>(left), top -= known_y < static_cast<T>(top);
    const T fx = x - static_cast<T>(left), fy = y - static_cast<T>(top);
    tap.fraction_x[p] = fx, tap.fraction_y[p] = fy;
    const int in_left = (left >= 0) & (left < width), in_right = (left >= -1) & (left < width - 1);
    const int in_top = (top >= 0) & (top < height), in_bottom = (top >= -1) & (top < height - 1);
    const int32_t first = top * width + left, none = lost ? 0 : -1;
    const int inside[4] = {in_top & in_left, in_top & in_right, in_bottom & in_left, in_bottom & in_right};
    const T weights[4] = {(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx};
    const int32_t steps[4] = {0, 1, width, width + 1};
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      tap.index[c][p] = (inside[c] & ~lost) ? first + steps[c] : none;
      tap.weight[c][p] = (inside[c] | lost) ? weights[c] : T(0);
    }
  }
  tap.factor = problem.mask ? tap.masked : tap.weight;
  if (!problem.mask) return;
  tile.gather(g, problem.mask, g.groups * g.taps(), group * g.taps() + number, tap.mask);
  for (int c = 0; c < 4; ++c)
    for (int64_t p = 0; p < tile.count; ++p) tap.masked[c][p] = tap.weight[c][p] * tap.mask[p];
}

template <typename Norm, typename T, typename S>
METRICCONV_INLINE void chain_on_ball(const Problem<T, S>& problem, const Tile<T, S>& tile, int64_t group, int64_t number, const Tap<T>& tap,
                                     const T* grad_x, const T* grad_y, T* sums) {
  const T *w_x = tile.value(problem.geometry, group, 3), *w_y = tile.value(problem.geometry, group, 4);
  const T u = problem.reference[3 * number], v = problem.reference[3 * number + 1], radius = problem.reference[3 * number + 2];
  const T least = std::sqrt(LEAST_FORM<T>);
  for (int64_t p = 0; p < tile.count; ++p) {
    const T by_norm = -radius * (grad_x[p] * u + grad_y[p] * v) / (tap.norm[p] * tap.norm[p]);
    const Slopes<T> slopes = Norm::slopes(tap.alpha[p], w_x[p] * u + w_y[p] * v);
    const T by_form = by_norm * slopes.by_alpha / (2 * tap.alpha[p]), by_drift = by_norm * slopes.by_beta;
    const T taken = tap.alpha[p] <= least ? 0 * by_norm : by_form;
    sums[p] += taken * (u * u), sums[TILE + p] += taken * (2 * u * v), sums[2 * TILE + p] += taken * (v * v);
    sums[3 * TILE + p] += by_drift * u, sums[4 * TILE + p] += by_drift * v;
  }
}

// Adds the gradient by a tap's positions to that by the metrics or shifts of its group, [5 or 2, TILE].
template <typename T, typename S>
void chain(const Problem<T, S>& problem, const Tile<T, S>& tile, int64_t group, int64_t number, const Tap<T>& tap, const T* grad_x, const T* grad_y,
           T* sums) {
  const Geometry& g = problem.geometry;
  if (g.on_ball())
    return with_norm(g.kind, [&]<typename Norm>() __attribute__((always_inline)) {
      chain_on_ball<Norm>(problem, tile, group, number, tap, grad_x, grad_y, sums);
    });
  for (int64_t p = 0; p < tile.count; ++p) sums[p] += grad_y[p], sums[TILE + p] += grad_x[p];
}

// Writes or adds up the gradients of parameter and mask by one tap of one group.
template <typename T, typename S>
void finish_tap(const Problem<T, S>& problem, const Share<T>& share, const Tile<T, S>& tile, const Tap<T>& tap, int64_t number, int64_t group,
                const T* by_x, const T* by_y, const T* by_mask, T* sums) {
  const Geometry& g = problem.geometry;
  if (share.grad_mask) tile.scatter(g, by_mask, g.groups * g.taps(), group * g.taps() + number, share.grad_mask);
  if (!share.grad_parameter) return;
  if (g.kind != Kind::offset) return chain(problem, tile, group, number, tap, by_x, by_y, sums);
  const int64_t channels = g.groups * g.parameter_channels(), channel = group * g.parameter_channels() + 2 * number;
  tile.scatter(g, by_y, channels, channel, share.grad_parameter);
  tile.scatter(g, by_x, channels, channel + 1, share.grad_parameter);
}

// Writes what chain added up for the groups [first, last): sums are [groups, 5, TILE].
template <typename T, typename S>
void write_sums(const Problem<T, S>& problem, const Share<T>& share, const Tile<T, S>& tile, const T* sums, int64_t first, int64_t last) {
  const Geometry& g = problem.geometry;
  if (!share.grad_parameter || g.kind == Kind::offset) return;
  const int64_t channels = g.parameter_channels();
  for (int64_t group = first; group < last; ++group)
    for (int64_t c = 0; c < channels; ++c)
      tile.scatter(g, sums + (group * 5 + c) * TILE, g.groups * channels, group * channels + c, share.grad_parameter);
}
