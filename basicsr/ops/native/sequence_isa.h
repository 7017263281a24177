/* The general scan over sequences (batch, channels, length), for one instruction set (included by scan_isa.h).
 * Channels of a group share B and C; a block of VL channels never crosses a group. */

/* T positions of m rows that are `stride` floats apart, turned so that each position becomes one vector. */
static void NAME(load_rows)(vf *out, const float *rows, int64_t stride, int m, int T) {
  for (int t = 0; t < T; t++) out[t] = set1(0.0f);
  for (int i = 0; i < m; i++) {
    const float *row = rows + i * stride;
    float *lane = (float *)out + i;
    for (int t = 0; t < T; t++) lane[t * VL] = row[t];
  }
}

static void NAME(store_rows)(float *rows, const vf *in, int64_t stride, int m, int T) {
  for (int i = 0; i < m; i++) {
    float *row = rows + i * stride;
    const float *lane = (const float *)in + i;
    for (int t = 0; t < T; t++) row[t] = lane[t * VL];
  }
}

/* (N, length) at position `begin` to (T, N). */
static void NAME(pack_states)(float *out, const float *from, int N, int64_t length, int T) {
  for (int n = 0; n < N; n++)
    for (int t = 0; t < T; t++) out[t * N + n] = from[n * length + t];
}

static inline void NAME(sequence_steps)(const Sequence *s, vf bias, int T, NAME(Chunk) *c) {
  for (int t = 0; t < T; t++) {
    vf raw = c->dt[t] + bias;
    if (s->softplus) c->dt[t] = NAME(softplus)(raw, c->slope ? c->slope + t : 0);
    else {
      c->dt[t] = raw;
      if (c->slope) c->slope[t] = set1(1.0f);
    }
  }
}

/* Unit of work: batch element b, group g. Returns 0 when memory runs out. */
static int NAME(sequence_forward)(const Sequence *s, int64_t b, int64_t g) {
  const int64_t length = s->length, E = s->channels / s->groups, blocks = (E + VL - 1) / VL;
  const int64_t chunks = (length + CHUNK - 1) / CHUNK, base = b * s->channels + g * E;
  const int N = s->states;
  vf *memory = scan_allocate(((4 * CHUNK + blocks * 2 * N) * VL + CHUNK * 2 * N) * sizeof(float));
  if (!memory) return 0;
  NAME(Chunk) c = {.dt = memory, .input = memory + CHUNK, .y = memory + 2 * CHUNK, .u = memory + 3 * CHUNK};
  vf *state = memory + 4 * CHUNK, *rate = state + blocks * N;
  c.B = (float *)(rate + blocks * N), c.C = c.B + CHUNK * N;
  for (int64_t q = 0; q < blocks; q++) {
    int m = E - q * VL < VL ? (int)(E - q * VL) : VL;
    NAME(gather)(rate + q * N, s->A + (g * E + q * VL) * N, N, m, RATE);
    for (int n = 0; n < N; n++) state[q * N + n] = set1(0.0f);
  }
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    int64_t begin = chunk * CHUNK;
    int T = length - begin < CHUNK ? (int)(length - begin) : CHUNK;
    NAME(pack_states)(c.B, s->B + (b * s->groups + g) * N * length + begin, N, length, T);
    NAME(pack_states)(c.C, s->C + (b * s->groups + g) * N * length + begin, N, length, T);
    for (int64_t q = 0; q < blocks; q++) {
      int m = E - q * VL < VL ? (int)(E - q * VL) : VL;
      int64_t row = (base + q * VL) * length + begin, channel = g * E + q * VL;
      vf D = NAME(load)(s->D + channel, m);
      if (s->starts)
        memcpy(s->starts + ((((b * s->groups + g) * blocks + q) * chunks + chunk) * N) * VL, state + q * N, sizeof(vf) * N);
      NAME(load_rows)(c.dt, s->delta + row, length, m, T);
      NAME(load_rows)(c.u, s->u + row, length, m, T);
      NAME(sequence_steps)(s, NAME(load)(s->bias + channel, m), T, &c);
      for (int t = 0; t < T; t++) c.input[t] = c.dt[t] * c.u[t], c.y[t] = D * c.u[t];
      NAME(forward_chunk)(T, N, &c, rate + q * N, state + q * N);
      NAME(store_rows)(s->y + row, c.y, length, m, T);
    }
  }
  for (int64_t q = 0; q < blocks; q++)
    for (int i = 0; i < VL && q * VL + i < E; i++)
      for (int n = 0; n < N; n++) s->last[(base + q * VL + i) * N + n] = state[q * N + n][i];
  free(memory);
  return 1;
}

/* Unit of work: batch element b, group g; gradients of A, D and the bias go to the element's own rows. */
static int NAME(sequence_backward)(const Sequence *s, int64_t b, int64_t g) {
  const int64_t length = s->length, E = s->channels / s->groups, blocks = (E + VL - 1) / VL;
  const int64_t chunks = (length + CHUNK - 1) / CHUNK, base = b * s->channels + g * E;
  const int N = s->states;
  vf *memory = scan_allocate((((7 + 2 * N) * LINE + blocks * (3 * N + 2)) * VL + CHUNK * 4 * N) * sizeof(float));
  if (!memory) return 0;
  NAME(Chunk) c = {.dt = memory, .input = memory + LINE, .u = memory + 2 * LINE, .dy = memory + 3 * LINE,
                   .grad_input = memory + 4 * LINE, .grad_dt = memory + 5 * LINE, .slope = memory + 6 * LINE};
  vf *rate = memory + 7 * LINE, *carry = rate + blocks * N, *grad_rate = carry + blocks * N;
  vf *grad_bias = grad_rate + blocks * N, *grad_D = grad_bias + blocks;
  c.dB = grad_D + blocks, c.dC = c.dB + N * LINE;
  c.B = (float *)(c.dC + N * LINE), c.C = c.B + CHUNK * N;
  float *sums = c.C + CHUNK * N;
  memset(c.dB, 0, sizeof(vf) * 2 * N * LINE);
  for (int64_t q = 0; q < blocks; q++) {
    int m = E - q * VL < VL ? (int)(E - q * VL) : VL;
    NAME(gather)(rate + q * N, s->A + (g * E + q * VL) * N, N, m, RATE);
    for (int n = 0; n < N; n++) carry[q * N + n] = grad_rate[q * N + n] = set1(0.0f);
    grad_bias[q] = grad_D[q] = set1(0.0f);
  }
  for (int64_t chunk = chunks - 1; chunk >= 0; chunk--) {
    int64_t begin = chunk * CHUNK, shared = (b * s->groups + g) * N * length + begin;
    int T = length - begin < CHUNK ? (int)(length - begin) : CHUNK;
    NAME(pack_states)(c.B, s->B + shared, N, length, T);
    NAME(pack_states)(c.C, s->C + shared, N, length, T);
    for (int64_t q = 0; q < blocks; q++) {
      int m = E - q * VL < VL ? (int)(E - q * VL) : VL;
      int64_t row = (base + q * VL) * length + begin, channel = g * E + q * VL;
      vf D = NAME(load)(s->D + channel, m);
      NAME(load_rows)(c.dt, s->delta + row, length, m, T);
      NAME(load_rows)(c.u, s->u + row, length, m, T);
      NAME(load_rows)(c.dy, s->dy + row, length, m, T);
      NAME(sequence_steps)(s, NAME(load)(s->bias + channel, m), T, &c);
      for (int t = 0; t < T; t++) c.input[t] = c.dt[t] * c.u[t], c.grad_input[t] = c.grad_dt[t] = set1(0.0f);
      const vfu *start = (const vfu *)(s->starts + ((((b * s->groups + g) * blocks + q) * chunks + chunk) * N) * VL);
      NAME(backward_chunk)(T, N, &c, rate + q * N, start, carry + q * N, grad_rate + q * N);
      for (int t = 0; t < T; t++) {
        grad_D[q] += c.dy[t] * c.u[t];
        vf raw = (c.grad_dt[t] + c.u[t] * c.grad_input[t]) * c.slope[t];
        grad_bias[q] += raw;
        c.grad_dt[t] = raw;
        c.grad_input[t] = c.dt[t] * c.grad_input[t] + D * c.dy[t];
      }
      NAME(store_rows)(s->d_delta + row, c.grad_dt, length, m, T);
      NAME(store_rows)(s->du + row, c.grad_input, length, m, T);
    }
    NAME(sum_of_lanes)(T, 2 * N, c.dB, sums);
    for (int n = 0; n < N; n++) {
      memcpy(s->dB + shared + n * length, sums + n * CHUNK, T * sizeof(float));
      memcpy(s->dC + shared + n * length, sums + (N + n) * CHUNK, T * sizeof(float));
    }
  }
  for (int64_t q = 0; q < blocks; q++)
    for (int i = 0; i < VL && q * VL + i < E; i++) {
      int64_t at = base + q * VL + i;
      for (int n = 0; n < N; n++) s->dA[at * N + n] = grad_rate[q * N + n][i];
      s->d_bias[at] = grad_bias[q][i];
      s->dD[at] = grad_D[q][i];
    }
  free(memory);
  return 1;
}
