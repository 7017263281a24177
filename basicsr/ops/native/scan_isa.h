/* The scan kernels for one instruction set. scan.c includes this file once per set, with
 *   VL        floats per vector (4, 8 or 16)
 *   NAME(x)   x with the set's suffix
 *
 * A vector holds the same state of VL neighbouring channels. Time runs in chunks of CHUNK positions: step sizes and
 * inputs of a chunk are prepared once, then every state walks through the chunk. The forward can save the states at
 * the start of each chunk; the backward recomputes the rest from them.
 *
 *   h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t        y_t = sum_n C_t h_t + D u_t
 *   g_t = C_t dy_t + exp(dt_{t+1} A) g_{t+1}        (adjoint of h_t)
 */
typedef float NAME(vf) __attribute__((vector_size(VL * 4)));
typedef float NAME(vfu) __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef int32_t NAME(vi) __attribute__((vector_size(VL * 4)));
#define vf NAME(vf)
#define vfu NAME(vfu)
#define vi NAME(vi)

static inline vf NAME(set)(float x) { return (vf){0} + x; }
#define set1 NAME(set)

static inline vf NAME(max)(vf a, vf b) {
#if defined(HAVE_X86) && VL == 16
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(HAVE_X86) && VL == 8
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(HAVE_X86)
  return (vf)_mm_max_ps((__m128)a, (__m128)b);
#else
  vi greater = a > b;
  return (vf)(((vi)a & greater) | ((vi)b & ~greater));
#endif
}

static inline vf NAME(abs)(vf x) { return (vf)((vi)x & 0x7fffffff); }

/* 2^x for x <= 0, clamped at 2^-126. A degree-6 polynomial on [-1/2, 1/2] with p(0) = 1 exactly; relative error 2e-9 before
 * rounding. AVX-512 has instructions for the fraction and the scaling (and does not clamp); elsewhere adding 1.5 * 2^23
 * rounds to the nearest integer, whose low bits then go into the exponent. */
static inline vf NAME(exp2)(vf x) {
#if defined(HAVE_X86) && VL == 16
  vf f = (vf)_mm512_reduce_ps((__m512)x, 8); /* x minus the nearest integer, 0 for -inf */
#else
  x = NAME(max)(x, set1(-126.0f));
  vf shifted = x + 12582912.0f, f = x - (shifted - 12582912.0f);
#endif
  vf p = set1(1.5353359147e-4f);
  p = p * f + 1.3398875441e-3f;
  p = p * f + 9.6184373770e-3f;
  p = p * f + 5.5503324679e-2f;
  p = p * f + 2.4022647913e-1f;
  p = p * f + 6.9314720286e-1f;
  p = p * f + 1.0f;
#if defined(HAVE_X86) && VL == 16
  return (vf)_mm512_scalef_ps((__m512)p, _mm512_roundscale_ps((__m512)x, 8));
#else
  return (vf)((vi)p + ((vi)shifted << 23));
#endif
}

/* A state decays by 2^(k / STEPS) at each position, k = dt rate; `large` says that this is at least 2^-125. Then, where a
 * register holds a table of the STEPS powers of 2^(1/STEPS), a polynomial of degree 3 on half a step is enough: relative error
 * 3e-8 before rounding. Near 1 there is none, p(0) = 1 exactly, so that a state does not drift over a long sequence.
 * The table has the bits of 2^(i/STEPS) less i << SHIFT: with k << SHIFT they make 2^(k/STEPS), also what is above i in k. */
#if defined(HAVE_X86) && VL == 16
#define STEPS 16
#define SHIFT 19
#define POWERS {0x3f800000, 0x3f7daac3, 0x3f7b95c2, 0x3f79c3d3, 0x3f7837f0, 0x3f76f532, 0x3f75fed7, 0x3f75583f, \
  0x3f7504f3, 0x3f7508a4, 0x3f75672a, 0x3f76248c, 0x3f7744fd, 0x3f78ccdf, 0x3f7ac0c7, 0x3f7d257d}
#define PERMUTED(table, at) (vi)_mm512_permutexvar_epi32((__m512i)(at), (__m512i)(table))
#define P1 4.3321698917e-2f
#define P2 9.3841518771e-4f
#define P3 1.3550326292e-5f
#elif defined(HAVE_X86) && VL == 8
#define STEPS 8
#define SHIFT 20
#define POWERS {0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7, 0x3f7504f3, 0x3f75672a, 0x3f7744fd, 0x3f7ac0c7}
#define PERMUTED(table, at) (vi)_mm256_permutevar8x32_epi32((__m256i)(table), (__m256i)(at))
#define P1 8.6643401783e-2f
#define P2 3.7540254678e-3f
#define P3 1.0839105819e-4f
#else
#define STEPS 1
#endif
#define RATE (STEPS * LOG2E) /* times A: what `rate` is below */

static inline __attribute__((always_inline)) vf NAME(decay)(vf dt, vf rate, const int large) {
#ifdef POWERS
  if (large) {
    const vi table = POWERS;
    vf x = dt * rate, shifted = x + 12582912.0f, f = x - (shifted - 12582912.0f); /* its low bits: the nearest k */
    vf p = set1(P3);
    p = p * f + P2;
    p = p * f + P1;
    p = p * f + 1.0f;
    return p * (vf)(PERMUTED(table, shifted) + ((vi)shifted << SHIFT));
  }
#endif
  (void)large;
  return NAME(exp2)(dt * rate * (1.0f / STEPS));
}

/* Whether that holds for `count` states, given the largest step of each channel. */
static inline int NAME(large)(vf step, const vf *rate, const int count) {
  vf most = set1(0.0f);
  for (int j = 0; j < count; j++) most = NAME(max)(most, NAME(abs)(rate[j]) * step);
  int all = 1;
  for (int i = 0; i < VL; i++) all &= most[i] < 125.0f * STEPS;
  return all;
}

/* softplus(x) = max(x, 0) + log1p(exp(-|x|)) and, from the same exponential, its derivative sigmoid(x). */
static inline vf NAME(softplus)(vf x, vf *derivative) {
  vf y = NAME(exp2)(NAME(abs)(x) * -LOG2E);
  vf p = set1(-3.2439263088e-3f);
  p = p * y + 1.9851016721e-2f;
  p = p * y - 5.6958697123e-2f;
  p = p * y + 1.0603570060e-1f;
  p = p * y - 1.5305542463e-1f;
  p = p * y + 1.9675921863e-1f;
  p = p * y - 2.4954130262e-1f;
  p = p * y + 3.3329962085e-1f;
  p = p * y - 4.9999902410e-1f;
  p = p * y + 1.0f;
  if (derivative) {
    vi negative = (vi)x >> 31;
    *derivative = (vf)(((vi)y & negative) | ((vi)set1(1.0f) & ~negative)) / (1.0f + y);
  }
  return NAME(max)(x, set1(0.0f)) + y * p;
}

/* m <= VL floats from or to memory; missing lanes are 0. */
static inline vf NAME(load)(const float *p, int m) {
  if (m == VL) return (vf) * (const vfu *)p;
  vf out = set1(0.0f);
  for (int i = 0; i < m; i++) out[i] = p[i];
  return out;
}

static inline void NAME(store)(float *p, vf v, int m) {
  if (m == VL) *(vfu *)p = (vfu)v;
  else
    for (int i = 0; i < m; i++) p[i] = v[i];
}

/* Lane i of the result is the sum of all lanes of v[i]: log2(VL) rounds, each folds vectors in pairs. */
static inline vf NAME(sum_lanes)(const vf *v) {
#if VL == 16
  vf a[8], b[4], c[2];
  for (int i = 0; i < 8; i++)
    a[i] = SHUFFLE(v[i], v[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31) +
           SHUFFLE(v[i], v[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23);
  for (int i = 0; i < 4; i++)
    b[i] = SHUFFLE(a[i], a[i + 4], 0, 1, 2, 3, 20, 21, 22, 23, 8, 9, 10, 11, 28, 29, 30, 31) +
           SHUFFLE(a[i], a[i + 4], 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
  for (int i = 0; i < 2; i++)
    c[i] = SHUFFLE(b[i], b[i + 2], 0, 1, 18, 19, 4, 5, 22, 23, 8, 9, 26, 27, 12, 13, 30, 31) +
           SHUFFLE(b[i], b[i + 2], 2, 3, 16, 17, 6, 7, 20, 21, 10, 11, 24, 25, 14, 15, 28, 29);
  return SHUFFLE(c[0], c[1], 0, 17, 2, 19, 4, 21, 6, 23, 8, 25, 10, 27, 12, 29, 14, 31) +
         SHUFFLE(c[0], c[1], 1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30);
#elif VL == 8
  vf a[4], b[2];
  for (int i = 0; i < 4; i++)
    a[i] = SHUFFLE(v[i], v[i + 4], 0, 1, 2, 3, 12, 13, 14, 15) + SHUFFLE(v[i], v[i + 4], 4, 5, 6, 7, 8, 9, 10, 11);
  for (int i = 0; i < 2; i++)
    b[i] = SHUFFLE(a[i], a[i + 2], 0, 1, 10, 11, 4, 5, 14, 15) + SHUFFLE(a[i], a[i + 2], 2, 3, 8, 9, 6, 7, 12, 13);
  return SHUFFLE(b[0], b[1], 0, 9, 2, 11, 4, 13, 6, 15) + SHUFFLE(b[0], b[1], 1, 8, 3, 10, 5, 12, 7, 14);
#else
  vf a[2];
  for (int i = 0; i < 2; i++)
    a[i] = SHUFFLE(v[i], v[i + 2], 0, 1, 6, 7) + SHUFFLE(v[i], v[i + 2], 2, 3, 4, 5);
  return SHUFFLE(a[0], a[1], 0, 5, 2, 7) + SHUFFLE(a[0], a[1], 1, 4, 3, 6);
#endif
}

/* What one chunk of one block of VL channels works on; arrays of CHUNK vectors unless noted. */
typedef struct {
  vf *dt, *input, *slope;  /* step, step * u, derivative of the step by its raw value */
  vf *u, *y, *dy;          /* input sequence; output; gradient of the output */
  vf *grad_input, *grad_dt; /* gradients of `input`, and of dt through the decay */
  float *B, *C;            /* (CHUNK, N), shared by all channels of the group */
  vf *dB, *dC;             /* (N, LINE): the lanes' shares, of all blocks so far */
} NAME(Chunk);

static inline __attribute__((always_inline)) void NAME(walk)(int T, int N, int first, const int count, const int large,
                                                              const NAME(Chunk) *c, const vf *rate, vf *state) {
  vf h[4], a[4];
  UNROLL for (int j = 0; j < count; j++) h[j] = state[first + j], a[j] = rate[first + j];
  for (int t = 0; t < T; t++) {
    vf dt = c->dt[t], input = c->input[t], y = c->y[t];
    const float *B = c->B + (int64_t)t * N + first, *C = c->C + (int64_t)t * N + first;
    UNROLL for (int j = 0; j < count; j++) {
      h[j] = NAME(decay)(dt, a[j], large) * h[j] + input * B[j];
      y += h[j] * C[j];
    }
    c->y[t] = y;
  }
  UNROLL for (int j = 0; j < count; j++) state[first + j] = h[j];
}

static inline vf NAME(largest_step)(int T, const NAME(Chunk) *c) {
  vf step = set1(0.0f);
  for (int t = 0; t < T; t++) step = NAME(max)(step, NAME(abs)(c->dt[t]));
  return step;
}

/* y += sum_n C h over T positions; `rate` is A in units of 1 / RATE, `state` the N states before and after. */
static void NAME(forward_chunk)(int T, int N, const NAME(Chunk) *c, const vf *rate, vf *state) {
  vf step = NAME(largest_step)(T, c);
  int n = 0;
  for (; n + 4 <= N; n += 4) { /* four states fill the registers */
    if (NAME(large)(step, rate + n, 4)) NAME(walk)(T, N, n, 4, 1, c, rate, state);
    else NAME(walk)(T, N, n, 4, 0, c, rate, state);
  }
  for (; n < N; n++) NAME(walk)(T, N, n, 1, 0, c, rate, state);
}

#define TOGETHER (VL == 16 ? 4 : 2) /* AVX-512 has 32 registers */

/* Gradients of one chunk for `count` states from `first` on. `start`: states before the chunk. `carry`: exp(dt A) g of
 * the position after it, replaced by that of its own first position. Adds to grad_input, grad_dt, grad_rate, dB, dC.
 * TOGETHER states go at a time, which reads and writes once what all states share. */
static inline __attribute__((always_inline)) void NAME(walk_back)(int T, int N, int first, const int count, const int large,
                                                                   const NAME(Chunk) *c, const vf *rate, const vfu *start, vf *carry, vf *grad_rate) {
  vf decay[TOGETHER][LINE], h[TOGETHER][LINE], a[TOGETHER], g[TOGETHER], sum[TOGETHER];
  UNROLL for (int j = 0; j < count; j++) {
    a[j] = rate[first + j], g[j] = carry[first + j], sum[j] = set1(0.0f);
    h[j][0] = (vf)start[first + j];
  }
  for (int t = 0; t < T; t++) {
    vf dt = c->dt[t], input = c->input[t];
    const float *B = c->B + (int64_t)t * N + first;
    UNROLL for (int j = 0; j < count; j++) {
      decay[j][t] = NAME(decay)(dt, a[j], large);
      h[j][t + 1] = decay[j][t] * h[j][t] + input * B[j];
    }
  }
  UNROLL for (int j = 0; j < count; j++) a[j] *= 1.0f / RATE;
  vf *dB = c->dB + (int64_t)first * LINE, *dC = c->dC + (int64_t)first * LINE;
  for (int t = T - 1; t >= 0; t--) {
    vf dt = c->dt[t], dy = c->dy[t], input = c->input[t], grad_input = c->grad_input[t], grad_dt = c->grad_dt[t];
    const float *B = c->B + (int64_t)t * N + first, *C = c->C + (int64_t)t * N + first;
    UNROLL for (int j = 0; j < count; j++) {
      g[j] += dy * C[j];
      dC[j * LINE + t] += dy * h[j][t + 1];
      dB[j * LINE + t] += g[j] * input;
      grad_input += g[j] * B[j];
      g[j] *= decay[j][t];
      vf through = g[j] * h[j][t];
      grad_dt += through * a[j];
      sum[j] += through * dt;
    }
    c->grad_input[t] = grad_input;
    c->grad_dt[t] = grad_dt;
  }
  UNROLL for (int j = 0; j < count; j++) {
    carry[first + j] = g[j];
    grad_rate[first + j] += sum[j];
  }
}

static void NAME(backward_chunk)(int T, int N, const NAME(Chunk) *c, const vf *rate, const vfu *start, vf *carry,
                                 vf *grad_rate) {
  vf step = NAME(largest_step)(T, c);
  int n = 0;
  for (; n + TOGETHER <= N; n += TOGETHER) {
    if (NAME(large)(step, rate + n, TOGETHER)) NAME(walk_back)(T, N, n, TOGETHER, 1, c, rate, start, carry, grad_rate);
    else NAME(walk_back)(T, N, n, TOGETHER, 0, c, rate, start, carry, grad_rate);
  }
  for (; n < N; n++) NAME(walk_back)(T, N, n, 1, 0, c, rate, start, carry, grad_rate);
}

/* Sums of the lanes of `count` arrays of T vectors, which are zero afterwards, to (count, CHUNK). */
static void NAME(sum_of_lanes)(int T, int count, vf *shares, float *out) {
  for (int n = 0; n < count; n++)
    for (int t = 0; t < T; t += VL) {
      vf *group = shares + n * LINE + t; /* what is behind T is zero */
      *(vfu *)(out + n * CHUNK + t) = (vfu)NAME(sum_lanes)(group);
      for (int i = 0; i < VL; i++) group[i] = set1(0.0f);
    }
}

#include "ss2d_isa.h"
#include "sequence_isa.h"
#include "gelu_isa.h"

#undef vf
#undef vfu
#undef vi
#undef set1
#undef STEPS
#undef TOGETHER
#undef RATE
#ifdef POWERS
#undef POWERS
#undef SHIFT
#undef PERMUTED
#undef P1
#undef P2
#undef P3
#endif
