/* The selective scan and GELU on CPUs: plain C, called through ctypes, no Python and no PyTorch headers.
 *
 * The kernels (scan_isa.h) are compiled for several instruction sets into one library; the caller names the set.
 * Work runs on the threads of PyTorch's own OpenMP runtime where the caller has found it: these keep spinning for some
 * milliseconds after each operator, and further threads would share the cores with them. Elsewhere threads are created
 * per call and joined before it returns. The library itself is not linked to any OpenMP runtime, so two cannot clash.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef _WIN32
#include <pthread.h>
#include <sched.h>
#define EXPORT __attribute__((visibility("default")))
#else
#define EXPORT __declspec(dllexport)
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_X86
#endif

#define CHUNK 64
#define LINE (CHUNK + 5) /* of arrays side by side: with 4 KB between them, equal positions would share cache sets */
#define LOG2E 1.44269504088896340736f
#define LN2 0.69314718055994530942f

/* Ss2d and Sequence are mirrored field by field in ss2d.py and sequence.py. All arrays are float32 and contiguous. */
typedef struct {
  int64_t batch, height, width, channels;
  int32_t states, rank;
  const float *x;      /* (batch, height, width, channels) */
  const float *x_dbl;  /* (batch, height, width, 4, rank + 2 states): low-rank step, B, C */
  const float *dt_w;   /* (4, channels, rank) */
  const float *dt_b;   /* (4, channels) */
  const float *A;      /* (4 channels, states) */
  const float *D;      /* (4 channels) */
  float *y;            /* like x */
  float *starts;       /* states at the start of chunks, or null */
  const float *dy;     /* like x */
  float *dx;           /* (parts, ...) like x */
  float *dx_dbl;       /* like x_dbl */
  float *d_dt_w, *d_dt_b, *dA, *dD; /* (batch, ...) like the parameters */
  float *carried;      /* of parts: (2, batch, channels, states), the states before and then after them */
} Ss2d;

/* One traversal of an image, or of a part of one of `height` x `width` pixels, with row `parameters` of the parameters. */
typedef struct {
  int order, adds;      /* adds: to what is in y */
  int64_t parameters, height, width;
  const float *x, *x_dbl;
  int64_t pitch;        /* floats of x_dbl from pixel to pixel, whose rows have no gaps; those of x and y are the image's */
  float *y, *starts;
  float *state;         /* (channels, states) before and then after, or null: from zero */
} Traversal;

/* Element-wise work. Mirrored in gelu.py. */
typedef struct {
  int64_t count;
  const float *x, *dy; /* dy: or null */
  float *out;
} Elements;

typedef struct {
  int64_t batch, channels, groups, length;
  int32_t states, softplus;
  const float *u, *delta; /* (batch, channels, length) */
  const float *A;         /* (channels, states) */
  const float *B, *C;     /* (batch, groups, states, length) */
  const float *D, *bias;  /* (channels) */
  float *y, *last;        /* like u; (batch, channels, states) */
  float *starts;          /* states at the start of chunks, or null */
  const float *dy;
  float *du, *d_delta, *dB, *dC;
  float *dA, *dD, *d_bias; /* (batch, ...) like the parameters */
} Sequence;

static void *scan_allocate(size_t size) {
#ifdef _WIN32
  return NULL;
#else
  void *memory;
  return posix_memalign(&memory, 64, size) ? NULL : memory;
#endif
}

/* Where in memory `count` pixels of traversal k lie, from position `begin` on; `pitch`: pixels from row to row. */
static void scan_positions(int k, int64_t begin, int count, int64_t height, int64_t width, int64_t pitch, int64_t *out) {
  const int64_t step = k >= 2 ? -1 : 1, at = k >= 2 ? height * width - 1 - begin : begin, columns = k % 2;
  const int64_t length = columns ? height : width, along = columns ? pitch : 1, across = columns ? 1 : pitch;
  int64_t line = at / length, place = at % length;
  for (int t = 0; t < count; t++) {
    out[t] = line * across + place * along;
    place += step;
    if (place == length) place = 0, line++;
    else if (place < 0) place = length - 1, line--;
  }
}

static inline void scan_prefetch(const float *p, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(p + i, 0, 2);
}

/* loops over the few states that live in registers; unrolled before anything else, or they go through memory */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif

/* x86-64 guarantees SSE2, aarch64 NEON: four floats. */
#define VL 4
#define NAME(x) x##_baseline
#include "scan_isa.h"
#undef VL
#undef NAME

#ifdef HAVE_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define VL 8
#define NAME(x) x##_avx2
#include "scan_isa.h"
#undef VL
#undef NAME
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,fma,prefer-vector-width=512")
#endif
#define VL 16
#define NAME(x) x##_avx512
#include "scan_isa.h"
#undef VL
#undef NAME
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

enum { BASELINE, AVX2, AVX512 };

/* Floats per vector of an instruction set, 0 when this CPU or build lacks it. */
EXPORT int scan_width(int isa) {
  if (isa == BASELINE) return 4;
#ifdef HAVE_X86
  if (isa == AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 8;
  if (isa == AVX512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    return 16;
#endif
  return 0;
}

EXPORT int scan_chunk(void) { return CHUNK; }

#ifdef HAVE_X86
#define CALL(function, ...) \
  (isa == AVX512 ? function##_avx512(__VA_ARGS__) : isa == AVX2 ? function##_avx2(__VA_ARGS__) : function##_baseline(__VA_ARGS__))
#else
#define CALL(function, ...) ((void)isa, function##_baseline(__VA_ARGS__))
#endif

/* --- units of work on threads --- */

typedef struct Work Work;
struct Work {
  int (*unit)(Work *, int64_t);
  const void *job;
  int isa;
  int64_t units, parts, groups;
  atomic_llong taken;
  atomic_int failed;
  atomic_char *done; /* per unit, for units that wait for others; may be null */
};

static void work_on(void *argument) {
  Work *w = argument;
  for (int64_t i; (i = atomic_fetch_add(&w->taken, 1)) < w->units;) {
    if (!w->unit(w, i)) atomic_store(&w->failed, 1);
    if (w->done) atomic_store(&w->done[i], 1);
  }
}

/* GOMP_parallel(function, argument, threads, flags) of the runtime that PyTorch uses, or null. */
static void (*openmp)(void (*)(void *), void *, unsigned, unsigned);
EXPORT void scan_use_openmp(void *gomp_parallel) { openmp = (void (*)(void (*)(void *), void *, unsigned, unsigned))gomp_parallel; }

#ifndef _WIN32
static void *thread_main(void *argument) {
  work_on(argument);
  return NULL;
}

static void work_on_new_threads(Work *w, int threads) {
  enum { MOST = 256 };
  pthread_t started[MOST];
  int count = 0;
  while (count + 1 < threads && count < MOST && !pthread_create(&started[count], NULL, thread_main, w)) count++;
  work_on(w);
  for (int i = 0; i < count; i++) pthread_join(started[i], NULL);
}
#endif

/* Returns 0, or 1 when memory ran out. */
static int run(Work *w, int threads) {
  if (threads > w->units) threads = (int)w->units;
  if (threads <= 1) work_on(w);
  else if (openmp) openmp(work_on, w, (unsigned)threads, 0);
#ifndef _WIN32
  else work_on_new_threads(w, threads);
#endif
  return w->failed;
}

/* Groups of channel blocks of an image that is scanned by two units at a time. One group shares the packing of B and C;
 * several keep more threads busy than there are images, and some more of them even out what threads take. */
static int64_t groups_of(int64_t blocks, int64_t batch, int threads) {
  int64_t most = (blocks + 1) / 2, enough = (threads + batch - 1) / batch;
  return threads <= batch ? 1 : enough < most ? enough : most;
}

/* Units in order (pair, image, group of blocks): a pair-1 unit waits for its pair-0 unit, which began long before. */
static int ss2d_forward_unit(Work *w, int64_t i) {
  const Ss2d *s = w->job;
  int isa = w->isa;
  int64_t group = i % w->groups, b = i / w->groups % s->batch, pair = i / (w->groups * s->batch);
  int64_t lanes = scan_width(isa), blocks = (s->channels + lanes - 1) / lanes;
  int64_t first = blocks * group / w->groups, last = blocks * (group + 1) / w->groups;
#ifndef _WIN32
  if (pair)
    while (!atomic_load(&w->done[i - w->groups * s->batch])) sched_yield();
#endif
  return CALL(ss2d_forward, s, b, (int)pair, first, last);
}

EXPORT int ss2d_forward(const Ss2d *s, int isa, int threads) {
  int64_t lanes = scan_width(isa), blocks = (s->channels + lanes - 1) / lanes;
  int64_t groups = groups_of(blocks, s->batch, threads);
  Work w = {.unit = ss2d_forward_unit, .job = s, .isa = isa, .units = s->batch * 2 * groups, .groups = groups};
  w.done = calloc(w.units, 1);
  if (!w.done) return 1;
  int failed = run(&w, threads);
  free((void *)w.done);
  return failed;
}

/* Lines of images: rows, or columns. */
typedef struct {
  const Ss2d *scan;
  int columns;
  int64_t start, count;
} Lines;

/* Units in order (side, image, group of blocks). Where both sides add to the same pixels the second one waits. */
static int ss2d_part_unit(Work *w, int64_t i) {
  const Lines *part = w->job;
  const Ss2d *s = part->scan;
  int isa = w->isa;
  int64_t group = i % w->groups, b = i / w->groups % s->batch, side = i / (w->groups * s->batch);
  int64_t lanes = scan_width(isa), blocks = (s->channels + lanes - 1) / lanes;
#ifndef _WIN32
  if (side && w->done)
    while (!atomic_load(&w->done[i - w->groups * s->batch])) sched_yield();
#endif
  return CALL(ss2d_part, s, b, (int)side, part->columns, part->start, part->count, blocks * group / w->groups,
              blocks * (group + 1) / w->groups);
}

/* A traversal and its reverse, with parameters (2, ...), of the `count` lines from `start` on from either end of the
 * images. x and y are whole images, x_dbl (2, batch, ...) is of the lines, and the states go on from call to call. */
EXPORT int ss2d_part(const Ss2d *s, int isa, int threads, int columns, int64_t start, int64_t count) {
  Lines part = {s, columns, start, count};
  int64_t lanes = scan_width(isa), blocks = (s->channels + lanes - 1) / lanes;
  int64_t groups = groups_of(blocks, s->batch, threads), between = (columns ? s->width : s->height) - 2 * start;
  Work w = {.unit = ss2d_part_unit, .job = &part, .isa = isa, .units = 2 * s->batch * groups, .groups = groups};
  if (between > 0 && between < 2 * count) {
    w.done = calloc(w.units, 1);
    if (!w.done) return 1;
  }
  int failed = run(&w, threads);
  free((void *)w.done);
  return failed;
}

static int ss2d_backward_unit(Work *w, int64_t i) {
  int isa = w->isa;
  return CALL(ss2d_backward, (const Ss2d *)w->job, i / w->parts, (int)(i % w->parts), (int)w->parts);
}

/* `parts`: 1, 2 or 4 buffers of dx, which the caller adds up. */
EXPORT int ss2d_backward(const Ss2d *s, int isa, int threads, int parts) {
  Work w = {.unit = ss2d_backward_unit, .job = s, .isa = isa, .units = s->batch * parts, .parts = parts};
  return run(&w, threads);
}

static int sequence_forward_unit(Work *w, int64_t i) {
  const Sequence *s = w->job;
  int isa = w->isa;
  return CALL(sequence_forward, s, i / s->groups, i % s->groups);
}

EXPORT int sequence_forward(const Sequence *s, int isa, int threads) {
  Work w = {.unit = sequence_forward_unit, .job = s, .isa = isa, .units = s->batch * s->groups};
  return run(&w, threads);
}

static int sequence_backward_unit(Work *w, int64_t i) {
  const Sequence *s = w->job;
  int isa = w->isa;
  return CALL(sequence_backward, s, i / s->groups, i % s->groups);
}

EXPORT int sequence_backward(const Sequence *s, int isa, int threads) {
  Work w = {.unit = sequence_backward_unit, .job = s, .isa = isa, .units = s->batch * s->groups};
  return run(&w, threads);
}

enum { SPAN = 1 << 14 }; /* elements of a unit: x, dy and out of it stay in the second-level cache */

static int gelu_unit(Work *w, int64_t i) {
  const Elements *s = w->job;
  int isa = w->isa;
  int64_t at = i * SPAN, count = s->count - at < SPAN ? s->count - at : SPAN;
  CALL(gelu, s->x + at, s->dy ? s->dy + at : NULL, s->out + at, count);
  return 1;
}

EXPORT int gelu(const Elements *s, int isa, int threads) {
  Work w = {.unit = gelu_unit, .job = s, .isa = isa, .units = (s->count + SPAN - 1) / SPAN};
  return run(&w, threads);
}
