// The backward pass with vectors along the channels, for the channels [first, last) of a share.

// The weight by tap for gradients of columns: [taps, last - first] if depthwise, else [taps, weight groups, panels, C_out / weight groups, PANEL].
template <typename T>
int64_t packed_backward_size(const Geometry& g, int64_t channels) {
  const int64_t groups = g.weight_groups > 1 ? channels / g.inputs_each() : 1, inputs = channels / groups;
  if (small_groups<T>(g)) return 0;
  return g.depthwise() ? g.taps() * channels : g.taps() * groups * ((inputs + PANEL<T> - 1) / PANEL<T>) * PANEL<T> * g.outputs_each();
}

template <typename T>
void pack_backward(const Geometry& g, const T* weight, int64_t first, int64_t channels, T* packed) {
  const int64_t taps = g.taps(), each = g.inputs_each(), outputs = g.outputs_each();
  if (small_groups<T>(g)) return;
  if (g.depthwise()) {
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t k = 0; k < taps; ++k) packed[k * channels + c] = weight[(first + c) * taps + k];
    return;
  }
  const int64_t groups = g.weight_groups > 1 ? channels / each : 1, inputs = channels / groups, panels = (inputs + PANEL<T> - 1) / PANEL<T>;
  for (int64_t k = 0; k < taps; ++k)
    for (int64_t group = 0; group < groups; ++group)
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t channel = first + group * inputs + panel * PANEL<T>, rest = inputs - panel * PANEL<T>, count = rest < PANEL<T> ? rest : PANEL<T>;
        const T* from = weight + ((channel / each) * outputs * each + channel % each) * taps + k;
        for (int64_t o = 0; o < outputs; ++o, packed += PANEL<T>, from += each * taps)
          for (int64_t j = 0; j < PANEL<T>; ++j) packed[j] = j < count ? from[j * taps] : T(0);
      }
}

template <typename T, typename S>
struct WideBackward {
  const Problem<T, S>& problem;
  const Share<T>& share;
  const Geometry& g = problem.geometry;
  int64_t width = share.last - share.first, each = g.group_channels(), outputs = g.outputs_each();
  int64_t weight_groups = g.weight_groups > 1 ? width / g.inputs_each() : 1, inputs = width / weight_groups;
  int64_t panels = (inputs + PANEL<T> - 1) / PANEL<T>;
  Tile<T, S>& tile = scratch_object<Tile<T, S>>(0);
  Tap<T>& tap = scratch_object<Tap<T>>(1);
  T* values = scratch_array<T>(2, g.groups * 5 * TILE);
  T* columns = scratch_array<T>(3, TILE * width + lanes<T>);
  T* grad = scratch_array<T>(4, TILE * g.out_channels + lanes<T>);
  T* grad_columns = scratch_array<T>(5, TILE * width + lanes<T>);
  T* packed = scratch_array<T>(6, packed_backward_size<T>(g, width));
  T* outside = scratch_array<T>(7, each);
  T* discarded = scratch_array<T>(8, each);  // gradients of neighbours outside
  T* sums = scratch_array<T>(9, g.groups * 5 * TILE);
  const bool small = small_groups<T>(g);
  T* turned = scratch_array<T>(10, small ? TILE * width : 1);
  T* turned_grad = scratch_array<T>(11, small ? TILE * weight_groups * outputs : 1);
  // output channels that the share's channels reach
  int64_t first_output = g.weight_groups > 1 ? share.first / g.inputs_each() * outputs : 0;

  void run() {
    pack_backward(g, problem.weight, share.first, width, packed);
    std::memset(outside, 0, each * sizeof(T));
    std::memset(discarded, 0, each * sizeof(T));
    for (int64_t first = share.begin; first < share.end; first += TILE) {
      tile.place(problem, first, share.end - first < TILE ? share.end : first + TILE, values);
      tile.place_gradients(problem, share);
      read_tile(problem, tile, grad);
      if (small) transpose<T>(grad + first_output, tile.count, weight_groups * outputs, g.out_channels, turned_grad, TILE);
      std::memset(sums, 0, g.groups * 5 * TILE * sizeof(T));
      for (int64_t k = 0; k < g.taps(); ++k) {
        multiply_by_weight(k);
        for (int64_t group = share.first / each; group * each < share.last; ++group) sample(k, group);
        if (share.grad_weight) add_to_weight(k);
      }
      write_sums(problem, share, tile, sums, share.first / each, (share.last + each - 1) / each);
    }
  }

  void multiply_by_weight(int64_t k) {
    if (g.depthwise()) {
      const T* kernel = packed + k * width;
      for (int64_t p = 0; p < tile.count; ++p)
        for (int64_t c = 0; c < width; ++c) grad_columns[p * width + c] = grad[p * g.out_channels + share.first + c] * kernel[c];
      return;
    }
    if (small) {
      multiply_small_groups<true>(g, problem.weight + first_output * g.inputs_each() * g.taps(), k, weight_groups, tile.count, turned_grad, turned);
      transpose<T>(turned, width, tile.count, TILE, grad_columns, width);
      return;
    }
    for (int64_t group = 0; group < weight_groups; ++group) {
      const T* b = packed + (k * weight_groups + group) * panels * PANEL<T> * outputs;
      multiply<T>(tile.count, inputs, outputs, grad + first_output + group * outputs, g.out_channels, 1, {b, PANEL<T>, outputs * PANEL<T>},
                  grad_columns + group * inputs, width, false);
    }
  }

  void add_to_weight(int64_t k) {
    T* to = share.grad_weight + k * width * outputs;
    if (g.depthwise()) {
      for (int64_t p = 0; p < tile.count; ++p)
        for (int64_t c = 0; c < width; ++c) to[c] += grad[p * g.out_channels + share.first + c] * columns[p * width + c];
      return;
    }
    for (int64_t group = 0; group < weight_groups; ++group)
      multiply<T>(inputs, outputs, tile.count, columns + group * inputs, 1, width, row_major(grad + first_output + group * outputs, g.out_channels),
                  to + group * inputs * outputs, outputs, true);
  }

  // One tap of one parameter group: its columns, and the gradients of images, parameter and mask.
  void sample(int64_t k, int64_t group) {
    const int64_t from = group * each < share.first ? share.first : group * each, to = (group + 1) * each < share.last ? (group + 1) * each : share.last;
    locate(problem, tile, group, k, tap);
    T dots[TILE][4], by_x[TILE], by_y[TILE], by_mask[TILE];
    for (int64_t p = 0; p < tile.count; ++p) {
      const T factor[4] = {tap.factor[0][p], tap.factor[1][p], tap.factor[2][p], tap.factor[3][p]};
      const T* rows[4];
      T* grads[4] = {};
      neighbours(g, tap, p, tile.image[p] + from, outside, rows);
      for (int c = 0; c < 4; ++c) dots[p][c] = 0;
      const T* g_row = grad_columns + p * width + from - share.first;
      T* column = columns + p * width + from - share.first;
      if (share.grad_images) {
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) grads[c] = tap.index[c][p] < 0 ? discarded : tile.target(p, tap.index[c][p], g.channels) + from;
        unblend<true, lanes<T>>(0, to - from, rows, grads, factor, g_row, column, dots[p]);
      } else {
        unblend<false, lanes<T>>(0, to - from, rows, grads, factor, g_row, column, dots[p]);
      }
    }
    for (int64_t p = 0; p < tile.count; ++p) {
      const T x = tap.fraction_x[p], y = tap.fraction_y[p], *d = dots[p];
      const T scale = problem.mask ? tap.mask[p] : T(1);
      by_x[p] = scale * ((1 - y) * (d[1] - d[0]) + y * (d[3] - d[2]));
      by_y[p] = scale * ((1 - x) * (d[2] - d[0]) + x * (d[3] - d[1]));
      by_mask[p] = tap.weight[0][p] * d[0] + tap.weight[1][p] * d[1] + tap.weight[2][p] * d[2] + tap.weight[3][p] * d[3];
    }
    finish_tap(problem, share, tile, tap, k, group, by_x, by_y, by_mask, sums + group * 5 * TILE);
  }
};
