/* Four traversals of an image, channels last, for one instruction set (included by scan_isa.h).
 * Traversals: 0 row by row, 1 column by column, 2 and 3 their reverses. */

/* Parameters of VL channels of direction k, lanes filled from strided memory; missing lanes are 0. */
static void NAME(gather)(vf *out, const float *from, int count, int m, float factor) {
  for (int n = 0; n < count; n++) {
    vf v = set1(0.0f);
    for (int i = 0; i < m; i++) v[i] = from[(int64_t)i * count + n] * factor;
    out[n] = v;
  }
}

/* Copies dt, B and C of T positions next to each other; `pitch` floats lie between those of two pixels. */
static inline void NAME(pack)(const Ss2d *s, const float *x_dbl, int64_t pitch, int T, const int64_t *position, float *dt_low,
                              NAME(Chunk) *c) {
  int N = s->states, R = s->rank;
  for (int t = 0; t < T; t++) {
    const float *row = x_dbl + position[t] * pitch;
    for (int r = 0; r < R; r++) dt_low[t * R + r] = row[r];
    for (int n = 0; n < N; n++) c->B[t * N + n] = row[R + n];
    for (int n = 0; n < N; n++) c->C[t * N + n] = row[R + N + n];
  }
}

static inline void NAME(step)(const Ss2d *s, int64_t k, int64_t channel, int m, int T, const float *dt_low, const vf *weight,
                              NAME(Chunk) *c) {
  vf bias = NAME(load)(s->dt_b + k * s->channels + channel, m);
  for (int t = 0; t < T; t++) {
    vf raw = bias;
    for (int r = 0; r < s->rank; r++) raw += weight[r] * dt_low[t * s->rank + r];
    c->dt[t] = NAME(softplus)(raw, c->slope ? c->slope + t : 0);
  }
}

/* Channel blocks [first, last) of one traversal. Returns 0 when memory runs out. */
static int NAME(ss2d_traverse)(const Ss2d *s, const Traversal *v, int64_t first, int64_t last) {
  const int64_t length = v->height * v->width, E = s->channels, blocks = last - first;
  const int64_t chunks = (length + CHUNK - 1) / CHUNK;
  const int N = s->states, R = s->rank;
  vf *memory = scan_allocate(((3 * CHUNK + blocks * (2 * N + R)) * VL + CHUNK * (2 * N + R)) * sizeof(float));
  if (!memory) return 0;
  NAME(Chunk) c = {.dt = memory, .input = memory + CHUNK, .y = memory + 2 * CHUNK};
  vf *state = memory + 3 * CHUNK, *rate = state + blocks * N, *weight = rate + blocks * N;
  c.B = (float *)(weight + blocks * R), c.C = c.B + CHUNK * N;
  float *dt_low = c.C + CHUNK * N;
  int64_t here[CHUNK], next[CHUNK], row[CHUNK], next_row[CHUNK]; /* pixels of the image, rows of x_dbl */
  for (int64_t q = 0; q < blocks; q++) {
    int64_t channel = (first + q) * VL, at = v->parameters * E + channel;
    int m = E - channel < VL ? (int)(E - channel) : VL;
    NAME(gather)(rate + q * N, s->A + at * N, N, m, RATE);
    NAME(gather)(weight + q * R, s->dt_w + at * R, R, m, 1.0f);
    if (v->state) NAME(gather)(state + q * N, v->state + channel * N, N, m, 1.0f);
    else
      for (int n = 0; n < N; n++) state[q * N + n] = set1(0.0f);
  }
  int T = length < CHUNK ? (int)length : CHUNK;
  scan_positions(v->order, 0, T, v->height, v->width, s->width, here);
  scan_positions(v->order, 0, T, v->height, v->width, v->width, row);
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    int64_t begin = chunk * CHUNK, rest = length - begin - CHUNK;
    int T_next = rest <= 0 ? 0 : rest < CHUNK ? (int)rest : CHUNK;
    scan_positions(v->order, begin + CHUNK, T_next, v->height, v->width, s->width, next);
    scan_positions(v->order, begin + CHUNK, T_next, v->height, v->width, v->width, next_row);
    NAME(pack)(s, v->x_dbl, v->pitch, T, row, dt_low, &c);
    for (int64_t q = 0; q < blocks; q++) {
      int64_t channel = (first + q) * VL;
      int m = E - channel < VL ? (int)(E - channel) : VL;
      vf D = NAME(load)(s->D + v->parameters * E + channel, m);
      if (v->starts) memcpy(v->starts + ((first + q) * 4 * chunks + chunk) * N * VL, state + q * N, sizeof(vf) * N);
      NAME(step)(s, v->parameters, channel, m, T, dt_low, weight + q * R, &c);
      for (int t = 0; t < T; t++) {
        vf u = NAME(load)(v->x + here[t] * E + channel, m);
        c.input[t] = c.dt[t] * u;
        c.y[t] = D * u;
      }
      /* rows of a column are far apart in memory: ask for the next chunk while this one is computed */
      for (int64_t t = T_next * q / blocks; t < T_next * (q + 1) / blocks; t++) {
        scan_prefetch(v->x_dbl + next_row[t] * v->pitch, R + 2 * N);
        scan_prefetch(v->x + next[t] * E + first * VL, blocks * VL);
        if (v->adds) scan_prefetch(v->y + next[t] * E + first * VL, blocks * VL);
      }
      NAME(forward_chunk)(T, N, &c, rate + q * N, state + q * N);
      for (int t = 0; t < T; t++) {
        float *out = v->y + here[t] * E + channel;
        NAME(store)(out, v->adds ? NAME(load)(out, m) + c.y[t] : c.y[t], m);
      }
    }
    memcpy(here, next, sizeof(here));
    memcpy(row, next_row, sizeof(row));
    T = T_next;
  }
  for (int64_t q = 0; v->state && q < blocks; q++)
    for (int i = 0; i < VL && (first + q) * VL + i < E; i++)
      for (int n = 0; n < N; n++) v->state[((first + q) * VL + i) * N + n] = state[q * N + n][i];
  free(memory);
  return 1;
}

/* Unit of work: image b, traversals `pair` and `pair + 2`. Pair 1 adds to what pair 0 of the same image and blocks has
 * written. */
static int NAME(ss2d_forward)(const Ss2d *s, int64_t b, int pair, int64_t first, int64_t last) {
  const int64_t length = s->height * s->width, pitch = 4 * (s->rank + 2 * s->states);
  const int64_t blocks = (s->channels + VL - 1) / VL, chunks = (length + CHUNK - 1) / CHUNK;
  for (int k = pair; k < 4; k += 2) {
    Traversal v = {.order = k, .parameters = k, .adds = k > 0, .height = s->height, .width = s->width, .pitch = pitch, .x = s->x + b * length * s->channels,
                   .x_dbl = s->x_dbl + b * length * pitch + k * pitch / 4, .y = s->y + b * length * s->channels};
    if (s->starts) v.starts = s->starts + (b * blocks * 4 + k) * chunks * s->states * VL;
    if (!NAME(ss2d_traverse)(s, &v, first, last)) return 0;
  }
  return 1;
}

/* Unit of work: of image b the `count` lines from `start` on (side 0), or as many from the other end on, backwards (1). */
static int NAME(ss2d_part)(const Ss2d *s, int64_t b, int side, int columns, int64_t start, int64_t count, int64_t first,
                           int64_t last) {
  const int64_t E = s->channels, pitch = s->rank + 2 * s->states, p = side * s->batch + b;
  const int64_t line = side ? (columns ? s->width : s->height) - start - count : start;
  const int64_t corner = (b * s->height * s->width + (columns ? line : line * s->width)) * E;
  Traversal v = {.order = columns + 2 * side, .parameters = side, .adds = 1, .height = columns ? s->height : count,
                 .width = columns ? count : s->width, .pitch = pitch, .x = s->x + corner, .y = s->y + corner,
                 .state = s->carried + p * E * s->states};
  v.x_dbl = s->x_dbl + p * v.height * v.width * pitch;
  return NAME(ss2d_traverse)(s, &v, first, last);
}

/* Unit of work: image b, traversals `part`, `part + parts`, ...; dx goes to the part's own buffer, gradients of the
 * parameters to the image's own rows. Returns 0 when memory runs out. */
static int NAME(ss2d_backward)(const Ss2d *s, int64_t b, int part, int parts) {
  const int64_t length = s->height * s->width, E = s->channels;
  const int64_t blocks = (E + VL - 1) / VL, chunks = (length + CHUNK - 1) / CHUNK;
  const int N = s->states, R = s->rank, width = R + 2 * N;
  int64_t vectors = (7 + width) * LINE + blocks * (3 * N + 2 * R + 2), floats = CHUNK * 2 * width;
  vf *memory = scan_allocate((vectors * VL + floats) * sizeof(float));
  if (!memory) return 0;
  NAME(Chunk) c = {.dt = memory, .input = memory + LINE, .u = memory + 2 * LINE, .dy = memory + 3 * LINE,
                   .grad_input = memory + 4 * LINE, .grad_dt = memory + 5 * LINE, .slope = memory + 6 * LINE};
  vf *rate = memory + 7 * LINE, *carry = rate + blocks * N, *grad_rate = carry + blocks * N;
  vf *weight = grad_rate + blocks * N, *grad_weight = weight + blocks * R, *grad_bias = grad_weight + blocks * R, *grad_D = grad_bias + blocks;
  vf *grad_low = grad_D + blocks; /* (R + 2 N, LINE): the lanes' shares of dx_dbl */
  c.dB = grad_low + R * LINE, c.dC = c.dB + N * LINE;
  float *grad_row = (float *)(c.dC + N * LINE), *dt_low = grad_row + CHUNK * width;
  c.B = dt_low + CHUNK * R, c.C = c.B + CHUNK * N;
  memset(grad_low, 0, sizeof(vf) * width * LINE);
  const float *x = s->x + b * length * E, *dy = s->dy + b * length * E;
  float *dx = s->dx + (part * s->batch + b) * length * E;
  int64_t here[CHUNK], next[CHUNK];
  for (int k = part; k < 4; k += parts) {
    for (int64_t q = 0; q < blocks; q++) {
      int64_t channel = q * VL, at = k * E + channel;
      int m = E - channel < VL ? (int)(E - channel) : VL;
      NAME(gather)(rate + q * N, s->A + at * N, N, m, RATE);
      NAME(gather)(weight + q * R, s->dt_w + at * R, R, m, 1.0f);
      for (int n = 0; n < N; n++) carry[q * N + n] = grad_rate[q * N + n] = set1(0.0f);
      for (int r = 0; r < R; r++) grad_weight[q * R + r] = set1(0.0f);
      grad_bias[q] = grad_D[q] = set1(0.0f);
    }
    int64_t last = (chunks - 1) * CHUNK;
    scan_positions(k, last, (int)(length - last), s->height, s->width, s->width, here);
    for (int64_t chunk = chunks - 1; chunk >= 0; chunk--) {
      int64_t begin = chunk * CHUNK;
      int T = length - begin < CHUNK ? (int)(length - begin) : CHUNK, T_next = chunk ? CHUNK : 0;
      if (chunk) scan_positions(k, begin - CHUNK, CHUNK, s->height, s->width, s->width, next);
      NAME(pack)(s, s->x_dbl + (b * length * 4 + k) * width, 4 * width, T, here, dt_low, &c);
      for (int64_t q = 0; q < blocks; q++) {
        int64_t channel = q * VL;
        int m = E - channel < VL ? (int)(E - channel) : VL;
        vf D = NAME(load)(s->D + k * E + channel, m);
        NAME(step)(s, k, channel, m, T, dt_low, weight + q * R, &c);
        for (int t = 0; t < T; t++) {
          c.u[t] = NAME(load)(x + here[t] * E + channel, m);
          c.input[t] = c.dt[t] * c.u[t];
          c.dy[t] = NAME(load)(dy + here[t] * E + channel, m);
          c.grad_input[t] = c.grad_dt[t] = set1(0.0f);
        }
        for (int64_t t = T_next * q / blocks; t < T_next * (q + 1) / blocks; t++) {
          scan_prefetch(s->x_dbl + ((b * length + next[t]) * 4 + k) * width, width);
          scan_prefetch(x + next[t] * E, E);
          scan_prefetch(dy + next[t] * E, E);
          scan_prefetch(dx + next[t] * E, E);
        }
        const vfu *start = (const vfu *)(s->starts + ((((b * blocks + q) * 4 + k) * chunks + chunk) * N) * VL);
        NAME(backward_chunk)(T, N, &c, rate + q * N, start, carry + q * N, grad_rate + q * N);
        for (int t = 0; t < T; t++) {
          vf du = c.dt[t] * c.grad_input[t] + D * c.dy[t];
          float *out = dx + here[t] * E + channel;
          NAME(store)(out, k == part ? du : NAME(load)(out, m) + du, m);
          grad_D[q] += c.dy[t] * c.u[t];
          vf raw = (c.grad_dt[t] + c.u[t] * c.grad_input[t]) * c.slope[t];
          grad_bias[q] += raw;
          c.grad_dt[t] = raw; /* now the gradient of the raw step */
        }
        for (int r = 0; r < R; r++) {
          vf sum = set1(0.0f), w = weight[q * R + r], *low = grad_low + r * LINE;
          for (int t = 0; t < T; t++) {
            sum += c.grad_dt[t] * dt_low[t * R + r];
            low[t] += c.grad_dt[t] * w;
          }
          grad_weight[q * R + r] += sum;
        }
      }
      NAME(sum_of_lanes)(T, width, grad_low, grad_row);
      for (int t = 0; t < T; t++) {
        float *row = s->dx_dbl + ((b * length + here[t]) * 4 + k) * width;
        for (int i = 0; i < width; i++) row[i] = grad_row[i * CHUNK + t];
      }
      memcpy(here, next, sizeof(here));
    }
    for (int64_t q = 0; q < blocks; q++)
      for (int i = 0; i < VL && q * VL + i < E; i++) {
        int64_t at = (b * 4 + k) * E + q * VL + i;
        for (int n = 0; n < N; n++) s->dA[at * N + n] = grad_rate[q * N + n][i];
        for (int r = 0; r < R; r++) s->d_dt_w[at * R + r] = grad_weight[q * R + r][i];
        s->d_dt_b[at] = grad_bias[q][i];
        s->dD[at] = grad_D[q][i];
      }
  }
  free(memory);
  return 1;
}
