/* GELU, x Phi(x) with the normal distribution's Phi, for one instruction set (included by scan_isa.h).
 *
 * For a >= 0 is Phi(-a) = exp(-a^2 / 2) t p(t) with t = 1 / (1 + 0.2775 a). The polynomial p is fitted so that x Phi(x) and
 * Phi(x) together are off by at most 9e-9 before rounding. */
static inline __attribute__((always_inline)) vf NAME(gelu_or_slope)(vf x, const int slope) {
  vf a = NAME(abs)(x), bell = NAME(exp2)(x * x * (-0.5f * LOG2E)), t = 1.0f / (a * 0.2775f + 1.0f);
  vf p = set1(-1.109696464e-1f);
  p = p * t + 4.229283155e-1f;
  p = p * t - 2.867324328e-1f;
  p = p * t + 3.034791278e-1f;
  p = p * t + 5.400206866e-2f;
  p = p * t + 1.172925621e-1f;
  vf tail = p * t * bell; /* Phi(-a) */
  if (slope) {
    vi negative = (vi)x >> 31;
    vf phi = (vf)(((vi)tail & negative) | ((vi)(1.0f - tail) & ~negative));
    return phi + x * bell * 0.39894228f;
  }
  /* -a Phi(-a), without infinity times zero; the second operand of `max` is kept where it is no number */
  return NAME(max)(set1(0.0f), x) + NAME(max)(set1(-16.0f), -a) * tail;
}

/* `out` of `count` floats: GELU, or the gradient dy times its derivative Phi(x) + x phi(x) where there is a dy. */
static void NAME(gelu)(const float *x, const float *dy, float *out, int64_t count) {
  int64_t i = 0;
  if (dy)
    for (; i + VL <= count; i += VL)
      *(vfu *)(out + i) = (vfu)((vf) * (const vfu *)(dy + i) * NAME(gelu_or_slope)((vf) * (const vfu *)(x + i), 1));
  else
    for (; i + VL <= count; i += VL) *(vfu *)(out + i) = (vfu)NAME(gelu_or_slope)((vf) * (const vfu *)(x + i), 0);
  int m = (int)(count - i);
  if (!m) return;
  vf last = NAME(load)(x + i, m);
  NAME(store)(out + i, dy ? NAME(load)(dy + i, m) * NAME(gelu_or_slope)(last, 1) : NAME(gelu_or_slope)(last, 0), m);
}
