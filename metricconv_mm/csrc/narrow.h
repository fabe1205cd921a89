// Kernels whose vectors run along the pixels, for groups of a few channels: columns of a tile are [taps, channels, TILE].

// The weight as [C_out, taps, C / weight groups].
template <typename T>
void pack_narrow(const Geometry& g, const T* weight, T* packed, int64_t part, int64_t parts) {
  const int64_t taps = g.taps(), inputs = g.inputs_each();
  for (int64_t o = part; o < g.out_channels; o += parts)
    for (int64_t c = 0; c < inputs; ++c)
      for (int64_t k = 0; k < taps; ++k) packed[(o * taps + k) * inputs + c] = weight[(o * inputs + c) * taps + k];
}

// Taps whose columns are there at once.
inline int64_t merged_taps(const Geometry& g) {
  if (g.weight_groups > 1) return 1;
  const int64_t most = 64 / g.channels < 1 ? 1 : 64 / g.channels;
  return most < g.taps() ? most : g.taps();
}

// Index is 32 bits wide where it can be: the processor gathers twice as many at a time.
template <typename Index, typename T>
METRICCONV_INLINE void gather_stretch(const T* image, const int32_t* index, Index channels, int64_t count, T* out) {
  for (int64_t p = 0; p < count; ++p) {
    const T value = image[(index[p] < 0 ? Index(0) : static_cast<Index>(index[p])) * channels];
    out[p] = index[p] < 0 ? T(0) : value;
  }
}

// Compilers build gathers of floats out of scalar loads, whatever the processor can do.
#if METRICCONV_VECTOR_BYTES == 64
template <>
METRICCONV_INLINE void gather_stretch<int32_t, float>(const float* image, const int32_t* index, int32_t channels, int64_t count, float* out) {
  for (int64_t p = 0; p < count; p += 16) {
    const auto there = static_cast<__mmask16>(count - p < 16 ? (1u << (count - p)) - 1 : 0xffffu);
    const __m512i pixel = _mm512_maskz_loadu_epi32(there, index + p);
    const __mmask16 inside = _mm512_mask_cmpge_epi32_mask(there, pixel, _mm512_setzero_si512());
    const __m512i at = _mm512_mullo_epi32(pixel, _mm512_set1_epi32(channels));
    _mm512_mask_storeu_ps(out + p, there, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), inside, at, image, 4));
  }
}
#endif

template <typename T, typename S>
METRICCONV_INLINE void gather(const Geometry& g, const Tile<T, S>& tile, const int32_t* index, int64_t channel, T* out) {
  const bool fits = g.height * g.width * g.channels < (int64_t(1) << 31);
  for_stretches(g, tile.begin, tile.begin + tile.count, [&](int64_t, int64_t, int64_t at, int64_t length) {
    if (fits)
      gather_stretch(tile.image[at] + channel, index + at, static_cast<int32_t>(g.channels), length, out + at);
    else
      gather_stretch(tile.image[at] + channel, index + at, g.channels, length, out + at);
  });
}

// Calls use(pixel, sum of its corners times their factors).
template <typename T, typename Use>
METRICCONV_INLINE void combine(const T (*factor)[TILE], const T (*corner)[TILE], int64_t count, const Use& use) {
  for (int64_t p = 0; p < count; ++p)
    use(p, factor[0][p] * corner[0][p] + factor[1][p] * corner[1][p] + factor[2][p] * corner[2][p] + factor[3][p] * corner[3][p]);
}

template <typename T, typename S>
void forward_narrow(const Problem<T, S>& problem, int64_t begin, int64_t end) {
  const Geometry& g = problem.geometry;
  const int64_t taps = g.taps(), each = g.group_channels(), inputs = g.inputs_each(), outputs = g.outputs_each(), merged = merged_taps(g);
  auto& tile = scratch_object<Tile<T, S>>(0);
  auto& tap = scratch_object<Tap<T>>(1);
  T* values = scratch_array<T>(2, g.groups * 5 * TILE);
  T* columns = scratch_array<T>(3, merged * g.channels * TILE);
  T* sums = scratch_array<T>(4, g.out_channels * TILE);
  T corner[4][TILE];
  std::memset(columns, 0, merged * g.channels * TILE * sizeof(T));
  for (int64_t first = begin; first < end; first += TILE) {
    tile.place(problem, first, end - first < TILE ? end : first + TILE, values);
    for (int64_t o = 0; o < g.out_channels; ++o)
      for (int64_t p = 0; p < TILE; ++p) sums[o * TILE + p] = problem.bias ? problem.bias[o] : T(0);
    for (int64_t k = 0; k < taps; k += merged) {
      const int64_t count = taps - k < merged ? taps - k : merged;
      for (int64_t t = 0; t < count; ++t)
        for (int64_t group = 0; group < g.groups; ++group) {
          locate(problem, tile, group, k + t, tap);
          for (int64_t channel = group * each; channel < (group + 1) * each; ++channel) {
            for (int c = 0; c < 4; ++c) gather(g, tile, tap.index[c], channel, corner[c]);
            T* column = columns + (t * g.channels + channel) * TILE;
            combine(tap.factor, corner, tile.count, [&](int64_t p, T sample) { column[p] = sample; });
          }
        }
      for (int64_t group = 0; group < g.weight_groups; ++group)
        multiply<T>(outputs, tile.count, count * inputs, problem.packed + (group * outputs * taps + k) * inputs, taps * inputs, 1,
                    row_major(columns + group * inputs * TILE, TILE), sums + group * outputs * TILE, TILE, true);
    }
    for_stretches(g, tile.begin, tile.begin + tile.count, [&](int64_t n, int64_t output, int64_t at, int64_t length) {
      if (problem.channels_last) {
        transpose<T>(sums + at, g.out_channels, length, TILE, problem.out + (n * g.outputs() + output) * g.out_channels, g.out_channels);
        return;
      }
      for (int64_t o = 0; o < g.out_channels; ++o)
        for (int64_t p = 0; p < length; ++p) narrow_to(problem.out[(n * g.out_channels + o) * g.outputs() + output + p], sums[o * TILE + at + p]);
    });
  }
}

template <typename T, typename S>
void backward_narrow(const Problem<T, S>& problem, const Share<T>& share) {
  const Geometry& g = problem.geometry;
  const int64_t taps = g.taps(), each = g.group_channels(), inputs = g.inputs_each(), outputs = g.outputs_each(), merged = merged_taps(g);
  auto& tile = scratch_object<Tile<T, S>>(0);
  auto& tap = scratch_object<Tap<T>>(1);
  T* values = scratch_array<T>(2, g.groups * 5 * TILE);
  T* columns = scratch_array<T>(3, merged * g.channels * TILE);
  T* grad = scratch_array<T>(4, g.out_channels * TILE);
  T* grad_columns = scratch_array<T>(5, merged * g.channels * TILE);
  T* packed = scratch_array<T>(6, g.out_channels * taps * inputs);
  T* transposed = scratch_array<T>(7, TILE * merged * g.channels + lanes<T>);
  T* grad_weight = scratch_array<T>(8, g.out_channels * taps * inputs);
  T* sums = scratch_array<T>(9, g.groups * 5 * TILE);
  T corner[4][TILE], by_x[TILE], by_y[TILE], by_mask[TILE];
  pack_narrow(g, problem.weight, packed, 0, 1);
  std::memset(grad_weight, 0, g.out_channels * taps * inputs * sizeof(T));
  for (int64_t first = share.begin; first < share.end; first += TILE) {
    tile.place(problem, first, share.end - first < TILE ? share.end : first + TILE, values);
    tile.place_gradients(problem, share);
    std::memset(grad, 0, g.out_channels * TILE * sizeof(T));
    std::memset(sums, 0, g.groups * 5 * TILE * sizeof(T));
    for_stretches(g, tile.begin, tile.begin + tile.count, [&](int64_t n, int64_t output, int64_t at, int64_t length) {
      if (problem.channels_last) {
        transpose<T>(problem.grad + (n * g.outputs() + output) * g.out_channels, length, g.out_channels, g.out_channels, grad + at, TILE);
        return;
      }
      for (int64_t o = 0; o < g.out_channels; ++o)
        for (int64_t p = 0; p < length; ++p) grad[o * TILE + at + p] = widen(problem.grad[(n * g.out_channels + o) * g.outputs() + output + p]);
    });
    for (int64_t k = 0; k < taps; k += merged) {
      const int64_t count = taps - k < merged ? taps - k : merged;
      for (int64_t group = 0; group < g.weight_groups; ++group)
        multiply<T>(count * inputs, tile.count, outputs, packed + (group * outputs * taps + k) * inputs, 1, taps * inputs,
                    row_major(grad + group * outputs * TILE, TILE), grad_columns + group * inputs * TILE, TILE, false);
      for (int64_t t = 0; t < count; ++t)
        for (int64_t group = 0; group < g.groups; ++group) {
          locate(problem, tile, group, k + t, tap);
          for (int64_t p = 0; p < tile.count; ++p) by_x[p] = by_y[p] = by_mask[p] = 0;
          for (int64_t channel = group * each; channel < (group + 1) * each; ++channel) {
            for (int c = 0; c < 4; ++c) gather(g, tile, tap.index[c], channel, corner[c]);
            T* column = columns + (t * g.channels + channel) * TILE;
            const T* g_column = grad_columns + (t * g.channels + channel) * TILE;
            if (share.grad_parameter)
              for (int64_t p = 0; p < tile.count; ++p) {
                const T a = corner[0][p], b = corner[1][p], c = corner[2][p], d = corner[3][p], x = tap.fraction_x[p], y = tap.fraction_y[p];
                by_x[p] += g_column[p] * ((1 - y) * (b - a) + y * (d - c));
                by_y[p] += g_column[p] * ((1 - x) * (c - a) + x * (d - b));
              }
            if (share.grad_weight) combine(tap.factor, corner, tile.count, [&](int64_t p, T sample) { column[p] = sample; });
            if (share.grad_mask) combine(tap.weight, corner, tile.count, [&](int64_t p, T sample) { by_mask[p] += g_column[p] * sample; });
            if (!share.grad_images) continue;
            for (int64_t p = 0; p < tile.count; ++p)
              for (int c = 0; c < 4; ++c)
                if (tap.index[c][p] >= 0) tile.target(p, tap.index[c][p], g.channels)[channel] += tap.factor[c][p] * g_column[p];
          }
          if (problem.mask)
            for (int64_t p = 0; p < tile.count; ++p) by_x[p] *= tap.mask[p], by_y[p] *= tap.mask[p];
          finish_tap(problem, share, tile, tap, k + t, group, by_x, by_y, by_mask, sums + group * 5 * TILE);
        }
      if (!share.grad_weight) continue;
      transpose<T>(columns, count * g.channels, tile.count, TILE, transposed, count * g.channels);
      for (int64_t group = 0; group < g.weight_groups; ++group)
        multiply<T>(outputs, count * inputs, tile.count, grad + group * outputs * TILE, TILE, 1,
                    row_major(transposed + group * inputs, count * g.channels), grad_weight + (group * outputs * taps + k) * inputs, taps * inputs, true);
    }
    write_sums(problem, share, tile, sums, 0, g.groups);
  }
  if (!share.grad_weight) return;
  // [C_out, taps, inputs] -> [taps, C, outputs]
  for (int64_t o = 0; o < g.out_channels; ++o)
    for (int64_t k = 0; k < taps; ++k)
      for (int64_t c = 0; c < inputs; ++c)
        share.grad_weight[(k * g.channels + o / outputs * inputs + c) * outputs + o % outputs] += grad_weight[(o * taps + k) * inputs + c];
}
