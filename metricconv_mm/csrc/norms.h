// The (alpha, beta) norms of geometry/norms.py: F, and its slopes by alpha = sqrt(u' M u) and beta = w' u.

template <typename T>
struct Slopes {
  T by_alpha, by_beta;
};

struct Randers {
  template <typename T>
  METRICCONV_INLINE static T value(T alpha, T beta) {
    return alpha + beta;
  }
  template <typename T>
  METRICCONV_INLINE static Slopes<T> slopes(T, T) {
    return {1, 1};
  }
};

struct Matsumoto {
  template <typename T>
  METRICCONV_INLINE static T value(T alpha, T beta) {
    return alpha * (alpha / (alpha - beta));
  }
  template <typename T>
  METRICCONV_INLINE static Slopes<T> slopes(T alpha, T beta) {
    const T ratio = alpha / (alpha - beta);
    return {ratio * (2 - ratio), ratio * ratio};
  }
};

// run with the norm of a kind as a template argument
template <typename Run>
METRICCONV_INLINE void with_norm(Kind kind, const Run& run) {
  kind == Kind::matsumoto ? run.template operator()<Matsumoto>() : run.template operator()<Randers>();
}
