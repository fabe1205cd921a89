// Kernels whose vectors run along the channels: columns of a tile are [pixels, channels].

// Adds up the four rows, times the kernel's tap if there is one (depthwise), which is added to what is there.
template <bool depthwise, int n, typename T>
METRICCONV_INLINE void blend(int64_t i, int64_t count, const T* const* rows, const T* factor, const T* kernel, T* out) {
  for (; i + n <= count; i += n) {
    Vector<T, n> value = factor[0] * load<T, n>(rows[0] + i) + factor[1] * load<T, n>(rows[1] + i) + factor[2] * load<T, n>(rows[2] + i) +
                         factor[3] * load<T, n>(rows[3] + i);
    if constexpr (depthwise) value = load<T, n>(out + i) + value * load<T, n>(kernel + i);
    store<T, n>(out + i, value);
  }
  if constexpr (n * sizeof(T) > 16) {
    if (i < count) blend<depthwise, n / 2>(i, count, rows, factor, kernel, out);
  } else {
    for (; i < count; ++i) {
      const T value = factor[0] * rows[0][i] + factor[1] * rows[1][i] + factor[2] * rows[2][i] + factor[3] * rows[3][i];
      out[i] = depthwise ? out[i] + value * kernel[i] : value;
    }
  }
}

// The same, with products of each row and grad added to dots, and grad added to the gradients of the rows.
template <bool spread, int n, typename T>
METRICCONV_INLINE void unblend(int64_t i, int64_t count, const T* const* rows, T* const* grads, const T* factor, const T* grad, T* out, T* dots) {
  Vector<T, n> sum[4] = {};
  for (; i + n <= count; i += n) {
    const Vector<T, n> g = load<T, n>(grad + i);
    Vector<T, n> value = {};
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const Vector<T, n> row = load<T, n>(rows[c] + i);
      value += factor[c] * row;
      sum[c] += row * g;
      if constexpr (spread) store<T, n>(grads[c] + i, load<T, n>(grads[c] + i) + factor[c] * g);
    }
    store<T, n>(out + i, value);
  }
  add_lanes<T>(sum[0], sum[1], sum[2], sum[3], dots, std::make_integer_sequence<int, n>());
  if (i == count) return;
  if constexpr (n * sizeof(T) > 16) {
    unblend<spread, n / 2>(i, count, rows, grads, factor, grad, out, dots);
  } else {
    for (; i < count; ++i) {
      out[i] = 0;
      for (int c = 0; c < 4; ++c) {
        out[i] += factor[c] * rows[c][i];
        dots[c] += rows[c][i] * grad[i];
        if (spread) grads[c][i] += factor[c] * grad[i];
      }
    }
  }
}

// Whether groups of the weight are too small to fill vectors: the product is then taken with pixels as lanes, whatever lanes sampling has.
template <typename T>
bool small_groups(const Geometry& g) {
  return g.weight_groups > 1 && !g.depthwise() && (g.inputs_each() < lanes<T> || g.outputs_each() < lanes<T>);
}

// sums[group, o, pixel] += sum over c of weight[group, o, c, tap] * columns[group, c, pixel], both of TILE pixels a row; or, backwards, the
// same with c and o exchanged.
template <bool backwards, typename T>
void multiply_small_groups(const Geometry& g, const T* weight, int64_t tap, int64_t groups, int64_t pixels, const T* columns, T* sums) {
  const int64_t taps = g.taps(), inputs = g.inputs_each(), outputs = g.outputs_each();
  for (int64_t group = 0; group < groups; ++group) {
    const T* kernel = weight + group * outputs * inputs * taps + tap;
    if constexpr (backwards)
      multiply<T>(inputs, pixels, outputs, kernel, taps, inputs * taps, row_major(columns + group * outputs * TILE, TILE), sums + group * inputs * TILE,
                  TILE, false);
    else
      multiply<T>(outputs, pixels, inputs, kernel, inputs * taps, taps, row_major(columns + group * inputs * TILE, TILE),
                  sums + group * outputs * TILE, TILE, true);
  }
}

// The weight for the forward pass: [taps, C] if depthwise, else panels [weight groups, panels, taps * C / weight groups, PANEL].
template <typename T>
int64_t packed_size_wide(const Geometry& g) {
  const int64_t panels = (g.outputs_each() + PANEL<T> - 1) / PANEL<T>;
  if (small_groups<T>(g)) return 0;
  return g.depthwise() ? g.taps() * g.channels : g.weight_groups * panels * PANEL<T> * g.taps() * g.inputs_each();
}

template <typename T>
void pack_wide(const Geometry& g, const T* weight, T* packed, int64_t part, int64_t parts) {
  const int64_t taps = g.taps(), inputs = g.inputs_each(), outputs = g.outputs_each();
  if (g.depthwise()) {
    if (part == 0)
      for (int64_t c = 0; c < g.channels; ++c)
        for (int64_t k = 0; k < taps; ++k) packed[k * g.channels + c] = weight[c * taps + k];
    return;
  }
  if (small_groups<T>(g)) return;
  const int64_t panels = (outputs + PANEL<T> - 1) / PANEL<T>;
  for (int64_t number = part; number < g.weight_groups * panels; number += parts) {
    const int64_t first = number % panels * PANEL<T>, count = outputs - first < PANEL<T> ? outputs - first : PANEL<T>;
    const T* from = weight + (number / panels * outputs + first) * inputs * taps;
    T* to = packed + number * PANEL<T> * taps * inputs;
    for (int64_t k = 0; k < taps; ++k)
      for (int64_t c = 0; c < inputs; ++c, to += PANEL<T>)
        for (int64_t j = 0; j < PANEL<T>; ++j) to[j] = j < count ? from[(j * inputs + c) * taps + k] : T(0);
  }
}

template <typename T>
METRICCONV_INLINE void neighbours(const Geometry& g, const Tap<T>& tap, int64_t p, const T* image, const T* outside, const T** rows) {
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) rows[c] = tap.index[c][p] < 0 ? outside : image + tap.index[c][p] * g.channels;
}

// Adds bias and writes the sums of a tile, [pixels, C_out], where they belong.
template <typename T, typename S>
void write_tile(const Problem<T, S>& problem, const Tile<T, S>& tile, const T* sums) {
  const Geometry& g = problem.geometry;
  for_stretches(g, tile.begin, tile.begin + tile.count, [&](int64_t n, int64_t output, int64_t at, int64_t length) {
    const T* from = sums + at * g.out_channels;
    if (!problem.channels_last) {
      transpose<T>(from, length, g.out_channels, g.out_channels, problem.out + n * g.out_channels * g.outputs() + output, g.outputs());
      return;
    }
    S* to = problem.out + (n * g.outputs() + output) * g.out_channels;
    if constexpr (std::is_same_v<T, S>) {
      std::memcpy(to, from, length * g.out_channels * sizeof(T));
    } else {
      for (int64_t i = 0; i < length * g.out_channels; ++i) narrow_to(to[i], from[i]);
    }
  });
}

// Reads the gradient of a tile as [pixels, C_out].
template <typename T, typename S>
void read_tile(const Problem<T, S>& problem, const Tile<T, S>& tile, T* grad) {
  const Geometry& g = problem.geometry;
  for_stretches(g, tile.begin, tile.begin + tile.count, [&](int64_t n, int64_t output, int64_t at, int64_t length) {
    T* to = grad + at * g.out_channels;
    if (!problem.channels_last) {
      transpose<T>(problem.grad + n * g.out_channels * g.outputs() + output, g.out_channels, length, g.outputs(), to, g.out_channels);
      return;
    }
    const S* from = problem.grad + (n * g.outputs() + output) * g.out_channels;
    for (int64_t i = 0; i < length * g.out_channels; ++i) to[i] = widen(from[i]);
  });
}

template <typename T, typename S>
void forward_wide(const Problem<T, S>& problem, int64_t begin, int64_t end) {
  const Geometry& g = problem.geometry;
  const int64_t taps = g.taps(), channels = g.channels, each = g.group_channels(), inputs = g.inputs_each(), outputs = g.outputs_each();
  const bool depthwise = g.depthwise(), small = small_groups<T>(g);
  // taps whose columns are multiplied at once: sums are read and written once for many channels
  const int64_t merged = g.weight_groups > 1 ? 1 : 256 / channels < 1 ? 1 : 256 / channels < taps ? 256 / channels : taps;
  auto& tile = scratch_object<Tile<T, S>>(0);
  auto& tap = scratch_object<Tap<T>>(1);
  T* values = scratch_array<T>(2, g.groups * 5 * TILE);
  T* columns = scratch_array<T>(3, TILE * merged * channels);
  T* sums = scratch_array<T>(4, TILE * g.out_channels);
  T* outside = scratch_array<T>(5, each);
  T* turned = scratch_array<T>(6, small ? TILE * channels : 1);
  T* turned_sums = scratch_array<T>(7, small ? TILE * g.out_channels : 1);
  std::memset(outside, 0, each * sizeof(T));
  for (int64_t first = begin; first < end; first += TILE) {
    tile.place(problem, first, end - first < TILE ? end : first + TILE, values);
    for (int64_t p = 0; p < tile.count; ++p)
      for (int64_t o = 0; o < g.out_channels; ++o) (small ? turned_sums[o * TILE + p] : sums[p * g.out_channels + o]) = problem.bias ? problem.bias[o] : T(0);
    for (int64_t k = 0; k < taps; k += merged) {
      const int64_t count = taps - k < merged ? taps - k : merged, width = count * channels;
      for (int64_t t = 0; t < count; ++t)
        for (int64_t group = 0; group < g.groups; ++group) {
          const int64_t channel = group * each;
          locate(problem, tile, group, k + t, tap);
          for (int64_t p = 0; p < tile.count; ++p) {
            const T factor[4] = {tap.factor[0][p], tap.factor[1][p], tap.factor[2][p], tap.factor[3][p]};
            const T* rows[4];
            neighbours(g, tap, p, tile.image[p] + channel, outside, rows);
            if (depthwise)
              blend<true, lanes<T>>(0, each, rows, factor, problem.packed + k * channels + channel, sums + p * channels + channel);
            else
              blend<false, lanes<T>>(0, each, rows, factor, problem.packed, columns + p * width + t * channels + channel);
          }
        }
      if (depthwise) continue;
      if (small) {
        transpose<T>(columns, tile.count, channels, channels, turned, TILE);
        multiply_small_groups<false>(g, problem.weight, k, g.weight_groups, tile.count, turned, turned_sums);
        continue;
      }
      const int64_t depth = taps * inputs, panels = (outputs + PANEL<T> - 1) / PANEL<T>;
      for (int64_t group = 0; group < g.weight_groups; ++group) {
        const T* packed = problem.packed + group * panels * PANEL<T> * depth + k * inputs * PANEL<T>;
        multiply<T>(tile.count, outputs, count * inputs, columns + group * inputs, width, 1, {packed, PANEL<T>, depth * PANEL<T>},
                    sums + group * outputs, g.out_channels, true);
      }
    }
    if (small) transpose<T>(turned_sums, g.out_channels, tile.count, TILE, sums, g.out_channels);
    write_tile(problem, tile, sums);
  }
}
