// The gradients; see scan.cuh.

// What the backward reads at one position.
struct Here { float dt[2], dx[2], dy[2], b[4], s[4]; };

__device__ __forceinline__ Here here_at(const float4 *made, const float *grad, const float *rows, const Place &at, int t) {
    float4 m = made[t * PAIRS + at.pair];
    float2 g = *(const float2 *)(grad + t * GRAD_ROW + 2 * at.pair);
    Here found = {{m.x, m.y}, {m.z, m.w}, {g.x, g.y}};
    unpack(*(const float4 *)(rows + t * 32 + at.share * 4), found.b);
    unpack(*(const float4 *)(rows + t * 32 + 16 + at.share * 4), found.s);
    return found;
}

// Where the gradients of step, B and C go: into the result, or with several blocks of channels to what is summed afterwards.
struct RowGradients {
    TYPE *whole;
    float *part;

    __device__ __forceinline__ RowGradients(const Problem &p, const Place &at) : whole(0), part(0) {
        if (p.blocks == 1) whole = p.d_rows + ((long long)at.batch * at.length * 4 + at.direction) * ROW;
        else part = p.of_block + ((at.first / BLOCK * (long long)p.batch + at.batch) * at.length * 4 + at.direction) * ROW;
    }

    __device__ __forceinline__ void write_at(unsigned pixel, int column, float x) const {
        unsigned offset = pixel * (4u * ROW) + column;
        if (whole) write(whole + offset, x);
        else part[offset] = x;
    }
};

// The gradients of the parameters from this chunk.
__device__ __forceinline__ float *parameters_of(const Problem &p, const Place &at) {
    return p.of_chunk + ((long long)at.batch * p.chunks + at.chunk) * p.parameters;
}

// Room in shared memory, of four floats, for what is used twice: in the end by the gradients of the parameters and by the weights.
#define SAVED LARGER(WARPS * TILES * 64, AT_ONCE * (RANK + 2) * BLOCK / 4)
#define SPREADS LARGER(WARPS * HALF * 2 * SPREAD / 4, RANK * BLOCK / 4)

extern "C" __global__ void __launch_bounds__(THREADS, GRADIENT_BLOCKS) gradients(const Problem p) {
    float4 *made = memory;                                    // [CHUNK][PAIRS]
    float4 *saved = made + CHUNK * PAIRS;                     // [WARPS][TILES][2][32]: states before each tile, two channels
    float4 *spread = saved + SAVED;                           // [WARPS][HALF][2][SPREAD / 4]: terms of the sums over channels
    float4 *sums = spread + SPREADS;                          // [CHUNK][PAIRS]: sums over states; one group: in place of made
    float *rows = (float *)(GROUPS > 1 ? sums + CHUNK * PAIRS : sums);  // [CHUNK][32]: B, C
    float *grad = rows + CHUNK * 32;                          // [CHUNK][GRAD_ROW]: dy, then the gradient of the raw step
    float *low = grad + CHUNK * GRAD_ROW;                     // [CHUNK][RANK_4]
    unsigned *pixels = (unsigned *)(low + CHUNK * RANK_4);              // [CHUNK]
    if (GROUPS == 1) sums = made;
    const Place at = place(p, 1);
    const int first = threadIdx.x / PAIRS;
    float rate[2][4], start[2][4], adjoint[2][4];
    Rows<32, CHUNK> group_rows;
    find_pixels(p, at, pixels);
    __syncthreads();
    {
        Values<CHUNK> values, dy;
        values.ask(p, at, pixels, 0, p.value);
        dy.ask(p, at, pixels, 0, p.dy);
        const Steps steps(p, at);
        stage_low(p, at, pixels, low);
        group_rows.ask(p, at, pixels, 0, 0, false);
        __syncthreads();
        make_steps(at, steps, low, values, 0, true, made);
#pragma unroll
        for (int i = 0; i < CHUNK / AT_ONCE; i++)
            *(float2 *)(grad + (first + i * AT_ONCE) * GRAD_ROW + 2 * at.dealt_pair()) = make_float2(dy.x[i].of[0], dy.x[i].of[1]);
    }
    load_rate(p, at, 0, rate);
    load_states(p, at, p.starts, 0, start);
    load_states(p, at, p.arriving, 0, adjoint);
    group_rows.store(rows);
    __syncthreads();
    float4 *slots = saved + at.warp * TILES * 64, *mine = spread + at.warp * HALF * 2 * SPREAD / 4;
    const long long image = (long long)at.batch * at.length;
#pragma unroll 1
    for (int group = 0; group < GROUPS; group++) {
        // forward over the chunk, for the states before each tile
#pragma unroll 1
        for (int tile = 0; tile < TILES; tile++) {
            float4 m[TILE], b[TILE];  // read before the states are stored, see below
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                m[j] = made[(tile * TILE + j) * PAIRS + at.pair];
                b[j] = *(const float4 *)(rows + (tile * TILE + j) * 32 + at.share * 4);
            }
            slots[tile * 64 + at.lane] = make_float4(start[0][0], start[0][1], start[0][2], start[0][3]);
            slots[tile * 64 + 32 + at.lane] = make_float4(start[1][0], start[1][1], start[1][2], start[1][3]);
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                float of_state[4], dt[2] = {m[j].x, m[j].y}, dx[2] = {m[j].z, m[j].w};
                unpack(b[j], of_state);
#pragma unroll
                for (int c = 0; c < 2; c++)
#pragma unroll
                    for (int n = 0; n < 4; n++)
                        start[c][n] = exp2_(rate[c][n] * dt[c]) * start[c][n] + dx[c] * of_state[n];
            }
        }
        float d_rate[2][4] = {};
#pragma unroll 1
        for (int tile = TILES - 1; tile >= 0; tile--) {
            float decay[TILE][2][4], h[TILE][2][4];
            unpack(slots[tile * 64 + at.lane], start[0]);
            unpack(slots[tile * 64 + 32 + at.lane], start[1]);
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                float4 m = made[(tile * TILE + j) * PAIRS + at.pair];
                float b[4], dt[2] = {m.x, m.y}, dx[2] = {m.z, m.w};
                unpack(*(const float4 *)(rows + (tile * TILE + j) * 32 + at.share * 4), b);
#pragma unroll
                for (int c = 0; c < 2; c++)
#pragma unroll
                    for (int n = 0; n < 4; n++) {
                        decay[j][c][n] = exp2_(rate[c][n] * dt[c]);
                        h[j][c][n] = decay[j][c][n] * (j ? h[j - 1][c][n] : start[c][n]) + dx[c] * b[n];
                    }
            }
            float found[HALF][4];
            Here next = here_at(made, grad, rows, at, tile * TILE + TILE - 1);
#pragma unroll
            for (int j = TILE - 1; j >= 0; j--) {
                const Here now = next;
                // before anything is stored, because the compiler cannot know that it lies elsewhere
                if (j) next = here_at(made, grad, rows, at, tile * TILE + j - 1);
                float d_b[4] = {}, d_s[4] = {}, *sum = found[j % HALF];
#pragma unroll
                for (int i = 0; i < 4; i++) sum[i] = 0.0f;
#pragma unroll
                for (int c = 0; c < 2; c++)
#pragma unroll
                    for (int n = 0; n < 4; n++) {
                        float g = now.dy[c] * now.s[n] + adjoint[c][n];
                        d_s[n] += now.dy[c] * h[j][c][n];
                        d_b[n] += g * now.dx[c];
                        sum[2 + c] += g * now.b[n];
                        adjoint[c][n] = g * decay[j][c][n];
                        float along = adjoint[c][n] * (j ? h[j - 1][c][n] : start[c][n]);
                        sum[c] += along * rate[c][n];
                        d_rate[c][n] += along * now.dt[c];
                    }
                mine[(j % HALF * 2) * SPREAD / 4 + at.lane] = make_float4(d_b[0], d_b[1], d_b[2], d_b[3]);
                mine[(j % HALF * 2 + 1) * SPREAD / 4 + at.lane] = make_float4(d_s[0], d_s[1], d_s[2], d_s[3]);
                if (j % HALF == 0) {
                    float of_share[HALF];  // {d step by the decay, the same, by the input, the same}
#pragma unroll
                    for (int i = 0; i < HALF; i++) of_share[i] = sum_shares(found[i], at.share);
#pragma unroll
                    for (int i = 0; i < HALF; i++) {
                        float *into = (float *)(sums + (tile * TILE + j + i) * PAIRS + at.pair) + at.share;
                        *into = group ? *into + of_share[i] : of_share[i];
                    }
                    // a thread sums four states of B or C at one of these positions over the 8 pairs of the warp
                    __syncwarp();
                    if (at.lane < HALF * 8) {
                        const float4 *terms = mine + at.lane / 4 * (SPREAD / 4) + at.lane % 4;
                        float4 all = terms[0];
#pragma unroll
                        for (int i = 1; i < 8; i++) {
                            float4 term = terms[i * 4];
                            all.x += term.x, all.y += term.y, all.z += term.z, all.w += term.w;
                        }
                        slots[tile * 64 + (j + at.lane / 8) * 8 + at.lane % 8] = all;
                    }
                    __syncwarp();
                }
            }
        }
        store_in(parameters_of(p, at), p, at, group, d_rate);
        if (group + 1 < GROUPS) {
            load_rate(p, at, group + 1, rate);
            load_states(p, at, p.starts, group + 1, start);
            load_states(p, at, p.arriving, group + 1, adjoint);
            group_rows.ask(p, at, pixels, 0, group + 1, false);
        }
        __syncthreads();
        const RowGradients d_rows(p, at);
        for (int i = threadIdx.x; i < at.count * 8; i += THREADS) {  // four states of B or C over the warps
            const float4 *terms = saved + i / 8 / TILE * 64 + i / 8 % TILE * 8 + i % 8;
            float all[4] = {};
#pragma unroll
            for (int warp = 0; warp < WARPS; warp++) {
                float4 term = terms[warp * TILES * 64];
                all[0] += term.x, all[1] += term.y, all[2] += term.z, all[3] += term.w;
            }
            int state = group * 16 + i % 4 * 4;
            int column = RANK + (i % 8 < 4 ? 0 : STATES) + state;
#pragma unroll
            for (int n = 0; n < 4; n++)
                if (state + n < STATES) d_rows.write_at(pixels[i / 8], column + n, all[n]);
        }
        if (group + 1 < GROUPS) group_rows.store(rows);
        __syncthreads();
    }
    // what is left is of positions and channels: the value, and the raw step with what it comes from
    float *weights = (float *)spread;                          // [RANK][BLOCK]
    float *over = (float *)saved;                              // [AT_ONCE][RANK + 2][BLOCK]
    {
        const Steps steps(p, at);
        const int channel = at.dealt_channel();
        Pair rest[RANK + 2] = {}, direct = {};
        Values<CHUNK> values, before;
        values.ask(p, at, pixels, 0, p.value);
        if (p.direction) before.ask(p, at, pixels, 0, p.total);
        if (p.direction == 3) direct = direct_path(p, channel);
#pragma unroll
        for (int c = 0; c < 2; c++)
            for (int r = 0; r < RANK; r++)
                if (first == 0) weights[r * BLOCK + 2 * at.dealt_pair() + c] = steps.weight[c][r];
#pragma unroll
        for (int i = 0; i < CHUNK / AT_ONCE; i++) {
            int t = first + i * AT_ONCE;
            float4 found = sums[t * PAIRS + at.dealt_pair()];
            float2 *dy = (float2 *)(grad + t * GRAD_ROW + 2 * at.dealt_pair());
            float by_decay[2] = {found.x, found.y}, by_input[2] = {found.z, found.w}, g[2] = {dy->x, dy->y};
            Pair d_value, d_raw = {};
#pragma unroll
            for (int c = 0; c < 2; c++) {
                float slope, dt = softplus(steps.raw(low + t * RANK_4, c), &slope), v = values.x[i].of[c];
                d_value.of[c] = dt * by_input[c] + (p.direction ? before.x[i].of[c] : 0.0f);
                if (t < at.count) d_raw.of[c] = (by_decay[c] * LN2 + v * by_input[c]) * slope;
#pragma unroll
                for (int r = 0; r < RANK; r++) rest[r].of[c] += d_raw.of[c] * low[t * RANK_4 + r];
                rest[RANK].of[c] += d_raw.of[c];
                rest[RANK + 1].of[c] += v * g[c];
                if (p.direction == 3) d_value.of[c] += direct.of[c] * g[c];
            }
            *dy = make_float2(d_raw.of[0], d_raw.of[1]);
            long long offset = image * p.channels + channel + pixels[t] * (unsigned)p.channels;
            if (p.direction == 3) write_pair(p.out + offset, d_value, t < at.count ? steps.there : 0);
            else write_pair(p.total + offset, d_value, t < at.count ? steps.there : 0);
        }
#pragma unroll
        for (int r = 0; r < RANK + 2; r++)
            *(float2 *)(over + (first * (RANK + 2) + r) * BLOCK + 2 * at.dealt_pair()) = make_float2(rest[r].of[0], rest[r].of[1]);
    }
    __syncthreads();
    float *kept = parameters_of(p, at) + p.channels * STATES_4 + at.first * (RANK + 2);
    const RowGradients d_rows(p, at);
    for (int i = threadIdx.x; i < (RANK + 2) * BLOCK; i += THREADS) {
        int channel = i / (RANK + 2), r = i % (RANK + 2);
        float all = 0.0f;
#pragma unroll
        for (int part = 0; part < AT_ONCE; part++) all += over[(part * (RANK + 2) + r) * BLOCK + channel];
        if (at.first + channel < p.channels) kept[i] = all;
    }
    for (int i = threadIdx.x; i < CHUNK * RANK; i += THREADS) {  // neighbouring threads: neighbouring positions
        int t = i % CHUNK, r = i / CHUNK;
        float all = 0.0f;
#pragma unroll 8
        for (int pair = 0; pair < PAIRS; pair++) {
            float2 d_raw = *(const float2 *)(grad + t * GRAD_ROW + 2 * pair), w = *(const float2 *)(weights + r * BLOCK + 2 * pair);
            all += d_raw.x * w.x + d_raw.y * w.y;
        }
        if (t < at.count) d_rows.write_at(pixels[t], r, all);
    }
}

// The gradients of the parameters over batch and chunks: a warp's threads have neighbouring columns, its warps other chunks.
extern "C" __global__ void __launch_bounds__(1024) sum_chunks(const Problem p) {
    float *over = (float *)memory;  // [32][32]
    const int columns = p.parameters, column = blockIdx.x * 32 + threadIdx.x % 32, first = threadIdx.x / 32;
    const float *source = p.of_chunk + column;
    float sum = 0.0f;
    if (column < columns) {
#pragma unroll 8
        for (int chunk = first; chunk < p.batch * p.chunks; chunk += 32) sum += source[(long long)chunk * columns];
    }
    over[threadIdx.x] = sum;
    __syncthreads();
    if (first == 0 && column < columns) {
#pragma unroll
        for (int i = 1; i < 32; i++) sum += over[i * 32 + threadIdx.x];
        p.d_rest[p.direction * columns + column] = sum;
    }
}
