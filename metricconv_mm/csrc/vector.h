// Vectors of the instruction set in whose namespace this file is included.

template <typename T>
constexpr int lanes = METRICCONV_VECTOR_BYTES / sizeof(T);

template <typename T, int n>
struct VectorOf {
  typedef T type __attribute__((vector_size(n * sizeof(T))));
  typedef T unaligned __attribute__((vector_size(n * sizeof(T)), aligned(alignof(T)), may_alias));
};
template <typename T, int n = lanes<T>>
using Vector = typename VectorOf<T, n>::type;

template <typename T, int n = lanes<T>>
METRICCONV_INLINE Vector<T, n> load(const T* from) {
  return *reinterpret_cast<const typename VectorOf<T, n>::unaligned*>(from);
}

template <typename T, int n = lanes<T>>
METRICCONV_INLINE Vector<float, n> load(const BFloat16* from) {
  const Vector<uint16_t, n> halves = *reinterpret_cast<const typename VectorOf<uint16_t, n>::unaligned*>(from);
  return reinterpret_cast<Vector<float, n>>(__builtin_convertvector(halves, Vector<uint32_t, n>) << 16);
}

template <typename T, int n = lanes<T>>
METRICCONV_INLINE void store(T* to, Vector<T, n> value) {
  *reinterpret_cast<typename VectorOf<T, n>::unaligned*>(to) = value;
}

// Rounded to nearest, ties to even; NaN stays NaN.
template <typename T, int n = lanes<T>>
METRICCONV_INLINE void store(BFloat16* to, Vector<float, n> value) {
  typedef Vector<uint32_t, n> Words;
  const Words bits = reinterpret_cast<Words>(value), kept = reinterpret_cast<Words>(value == value);
  const Words rounded = (bits + (0x7fffu + ((bits >> 16) & 1u))) >> 16;
  *reinterpret_cast<typename VectorOf<uint16_t, n>::unaligned*>(to) = __builtin_convertvector((rounded & kept) | (~kept & 0x7fc0u), Vector<uint16_t, n>);
}

METRICCONV_INLINE float widen(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}
METRICCONV_INLINE float widen(float value) { return value; }
METRICCONV_INLINE double widen(double value) { return value; }

METRICCONV_INLINE void narrow_to(BFloat16& to, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  to.bits = static_cast<uint16_t>(value == value ? (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16 : 0x7fc0u);
}
METRICCONV_INLINE void narrow_to(float& to, float value) { to = value; }
METRICCONV_INLINE void narrow_to(double& to, double value) { to = value; }

// Exchanges the off-diagonal blocks of `step` lanes between two vectors that are `step` rows apart.
template <int step, typename V, int... I>
METRICCONV_INLINE void exchange(V& a, V& b, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  const V low = __builtin_shufflevector(a, b, ((I & step) ? I - step + n : I)...);
  const V high = __builtin_shufflevector(a, b, ((I & step) ? I + n : I + step)...);
  a = low, b = high;
}

template <int step, typename T>
METRICCONV_INLINE void exchange_all(Vector<T>* rows) {
#pragma GCC unroll 16
  for (int i = 0; i < lanes<T>; ++i)
    if (!(i & step)) exchange<step>(rows[i], rows[i | step], std::make_integer_sequence<int, lanes<T>>());
  if constexpr (step > 1) exchange_all<step / 2, T>(rows);
}

// dst[column, row] = src[row, column]
template <typename T, typename From, typename To>
void transpose(const From* src, int64_t rows, int64_t columns, int64_t src_stride, To* dst, int64_t dst_stride) {
  constexpr int n = lanes<T>;
  int64_t r = 0;
  for (; r + n <= rows; r += n) {
    int64_t c = 0;
    for (; c + n <= columns; c += n) {
      Vector<T> block[n];
#pragma GCC unroll 16
      for (int i = 0; i < n; ++i) block[i] = load<T>(src + (r + i) * src_stride + c);
      exchange_all<n / 2, T>(block);
#pragma GCC unroll 16
      for (int i = 0; i < n; ++i) store<T>(dst + (c + i) * dst_stride + r, block[i]);
    }
    for (; c < columns; ++c)
      for (int i = 0; i < n; ++i) narrow_to(dst[c * dst_stride + r + i], widen(src[(r + i) * src_stride + c]));
  }
  for (; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) narrow_to(dst[c * dst_stride + r], widen(src[r * src_stride + c]));
}

// Adds the sums over the lanes of four vectors to four neighbouring elements.
template <typename T, int... I>
METRICCONV_INLINE void add_lanes(Vector<T, sizeof...(I)> a, Vector<T, sizeof...(I)> b, Vector<T, sizeof...(I)> c, Vector<T, sizeof...(I)> d, T* out,
                                 std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  typedef Vector<T, n> V;
  if constexpr (n < 4) {
    for (int i = 0; i < n; ++i) out[0] += a[i], out[1] += b[i], out[2] += c[i], out[3] += d[i];
  } else {
    // a and b alternate, then pairs of them with pairs of c and d
    const V ab = __builtin_shufflevector(a, b, ((I & 1) ? I - 1 + n : I)...) + __builtin_shufflevector(a, b, ((I & 1) ? I + n : I + 1)...);
    const V cd = __builtin_shufflevector(c, d, ((I & 1) ? I - 1 + n : I)...) + __builtin_shufflevector(c, d, ((I & 1) ? I + n : I + 1)...);
    V all = __builtin_shufflevector(ab, cd, ((I & 2) ? I - 2 + n : I)...) + __builtin_shufflevector(ab, cd, ((I & 2) ? I + n : I + 2)...);
    if constexpr (n >= 16) all += __builtin_shufflevector(all, all, ((I + 8) % n)...);
    if constexpr (n >= 8) all += __builtin_shufflevector(all, all, ((I + 4) % n)...);
    for (int i = 0; i < 4; ++i) out[i] += all[i];
  }
}
