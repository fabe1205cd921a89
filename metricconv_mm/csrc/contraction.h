// Matrix multiplication for tiles that are in cache.

#if METRICCONV_VECTOR_BYTES == 64
constexpr int PANEL_VECTORS = 4;  // with six rows, 24 of 32 registers hold sums
#else
constexpr int PANEL_VECTORS = 2;  // with six rows, 12 of 16
#endif
constexpr int BLOCK_ROWS = 6;

// columns of a panel
template <typename T>
constexpr int PANEL = PANEL_VECTORS * lanes<T>;

// B, of which element (k, j) of panel p is first[p * panel_stride + k * row_stride + j], and readable to the end of a vector.
template <typename T>
struct Panels {
  const T* first;
  int64_t row_stride, panel_stride;
};

template <typename T>
METRICCONV_INLINE Panels<T> row_major(const T* matrix, int64_t row_stride) {
  return {matrix, row_stride, PANEL<T>};
}

template <typename T, int rows, int vectors>
METRICCONV_INLINE void multiply_block(int64_t depth, const T* a, int64_t a_row, int64_t a_column, const T* b, int64_t b_row, T* c, int64_t c_row, bool accumulate) {
  Vector<T> sum[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sum[i][v] = accumulate ? load(c + i * c_row + v * lanes<T>) : Vector<T>{};
  for (int64_t k = 0; k < depth; ++k) {
    Vector<T> right[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) right[v] = load(b + k * b_row + v * lanes<T>);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const T left = a[i * a_row + k * a_column];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[i][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) store(c + i * c_row + v * lanes<T>, sum[i][v]);
}

template <typename T, int vectors>
void multiply_panel(int64_t rows, int64_t depth, const T* a, int64_t a_row, int64_t a_column, const T* b, int64_t b_row, T* c, int64_t c_row, bool accumulate) {
  int64_t i = 0;
  for (; i + BLOCK_ROWS <= rows; i += BLOCK_ROWS)
    multiply_block<T, BLOCK_ROWS, vectors>(depth, a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, accumulate);
  for (; i + 2 <= rows; i += 2) multiply_block<T, 2, vectors>(depth, a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, accumulate);
  for (; i < rows; ++i) multiply_block<T, 1, vectors>(depth, a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, accumulate);
}

// c[i, j] (+)= sum over k of a[i * a_row + k * a_column] * b(k, j), for i < rows, j < columns, k < depth.
template <typename T>
void multiply(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t a_row, int64_t a_column, Panels<T> b, T* c, int64_t c_row, bool accumulate) {
  for (int64_t j = 0; j < columns; j += PANEL<T>, b.first += b.panel_stride) {
    const int64_t left = columns - j, vectors = left >= PANEL<T> ? PANEL_VECTORS : left / lanes<T>;
    if constexpr (PANEL_VECTORS > 2) {
      if (vectors == 4) multiply_panel<T, 4>(rows, depth, a, a_row, a_column, b.first, b.row_stride, c + j, c_row, accumulate);
      if (vectors == 3) multiply_panel<T, 3>(rows, depth, a, a_row, a_column, b.first, b.row_stride, c + j, c_row, accumulate);
    }
    if (vectors == 2) multiply_panel<T, 2>(rows, depth, a, a_row, a_column, b.first, b.row_stride, c + j, c_row, accumulate);
    if (vectors == 1) multiply_panel<T, 1>(rows, depth, a, a_row, a_column, b.first, b.row_stride, c + j, c_row, accumulate);
    const int64_t done = vectors * lanes<T>, rest = left < PANEL<T> ? left - done : 0;
    if (rest == 0) continue;
    // what is left of a row is less than a vector: c ends there, so the sums go by way of a block of their own
    T block[BLOCK_ROWS * lanes<T>] = {};
    for (int64_t i = 0; i < rows; i += BLOCK_ROWS) {
      const int64_t count = rows - i < BLOCK_ROWS ? rows - i : BLOCK_ROWS;
      for (int64_t r = 0; accumulate && r < count; ++r)
        for (int64_t l = 0; l < rest; ++l) block[r * lanes<T> + l] = c[(i + r) * c_row + j + done + l];
      multiply_panel<T, 1>(count, depth, a + i * a_row, a_row, a_column, b.first + done, b.row_stride, block, lanes<T>, accumulate);
      for (int64_t r = 0; r < count; ++r)
        for (int64_t l = 0; l < rest; ++l) c[(i + r) * c_row + j + done + l] = block[r * lanes<T> + l];
    }
  }
}
