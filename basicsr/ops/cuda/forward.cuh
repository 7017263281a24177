// Chunk ends, chunk starts and the output; see scan.cuh.

template <bool ADJOINT>
__device__ __forceinline__ void chunk_ends(const Problem &p) {
    float4 *made = memory;                            // [2][PART][PAIRS]: of this part and the next
    float *rows = (float *)(made + 2 * PART * PAIRS); // [2][PART][16]: B, or C for the adjoint
    float *low = rows + 2 * PART * 16;                // [CHUNK][RANK_4]
    unsigned *pixels = (unsigned *)(low + CHUNK * RANK_4);  // [CHUNK]
    const Place at = place(p, 4);
    const Steps steps(p, at);
    const int parts = (at.count + PART - 1) / PART;
    const TYPE *value = ADJOINT ? p.dy : p.value;
    float h[GROUPS][2][4] = {}, sum[2] = {};
    Rows<16, PART> next_rows;
    Values<PART> next_values;
    int from = ADJOINT ? (parts - 1) * PART : 0;
    find_pixels(p, at, pixels);
    __syncthreads();
    next_values.ask(p, at, pixels, from, value);
    next_rows.ask(p, at, pixels, from, 0, ADJOINT);
    const Rates rates(p, at, (float4 *)(pixels + CHUNK));
    stage_low(p, at, pixels, low);
    __syncthreads();
    make_steps(at, steps, low, next_values, from, !ADJOINT, made);
    next_rows.store(rows);
    __syncthreads();
    for (int part = 0, turn = 0; part < parts; part++) {
        const int next = from + (ADJOINT ? -PART : PART);
#pragma unroll
        for (int group = 0; group < GROUPS; group++, turn ^= 1) {
            const bool last = group == GROUPS - 1, more = !last || part + 1 < parts;
            if (more) next_rows.ask(p, at, pixels, last ? next : from, last ? 0 : group + 1, ADJOINT);
            if (last && more) next_values.ask(p, at, pixels, next, value);
            const float4 *here = made + part % 2 * PART * PAIRS + at.pair;
            const float *of_states = rows + turn * PART * 16 + at.share * 4;
            float rate[2][4];
            rates.get(group, rate);
#pragma unroll 4
            for (int i = 0; i < PART; i++) {
                int t = ADJOINT ? PART - 1 - i : i;
                float4 m = here[t * PAIRS];
                float b[4], dt[2] = {m.x, m.y}, v[2] = {m.z, m.w};
                unpack(*(const float4 *)(of_states + t * 16), b);
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    if (group == 0) sum[c] += dt[c];
#pragma unroll
                    for (int n = 0; n < 4; n++) {
                        float decay = exp2_(rate[c][n] * dt[c]), x = v[c] * b[n];
                        h[group][c][n] = ADJOINT ? decay * (h[group][c][n] + x) : decay * h[group][c][n] + x;
                    }
                }
            }
            if (more) next_rows.store(rows + (turn ^ 1) * PART * 16);
            if (last && more) make_steps(at, steps, low, next_values, next, !ADJOINT, made + (part + 1) % 2 * PART * PAIRS);
            __syncthreads();
        }
        from = next;
    }
#pragma unroll
    for (int group = 0; group < GROUPS; group++) store_in(chunk_of(ADJOINT ? p.arriving : p.starts, p, at), p, at, group, h[group]);
    if (at.share == 0) {
        long long chunk = ((long long)at.batch * 4 + at.direction) * p.chunks + at.chunk;
        write_pair(p.sums + chunk * p.channels + at.channel, {sum[0], sum[1]}, channels_from(p, at.channel));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, ENDS_BLOCKS) ends(const Problem p) { chunk_ends<false>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, ENDS_BLOCKS) adjoint_ends(const Problem p) { chunk_ends<true>(p); }

// What one thread of `carry` reads at once.
struct Ends {
    float end[AHEAD], sum[AHEAD];

    __device__ __forceinline__ void ask(const Problem &p, const float *states, const float *sums, int first, int size) {
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            int chunk = min(first + j, p.chunks - 1);
            if (p.adjoint) chunk = p.chunks - 1 - chunk;
            end[j] = states[(long long)chunk * size];
            sum[j] = sums[(long long)chunk * p.channels];
        }
    }
};

// One thread for each channel and state of a scan. In place: the state before a chunk takes the place of its end state.
extern "C" __global__ void __launch_bounds__(128) carry(const Problem p) {
    const int size = p.channels * STATES_4, parts = (size + 127) / 128;
    int i = blockIdx.x % parts * 128 + threadIdx.x;
    long long scan = blockIdx.x / parts;  // of (batch, 4)
    if (i >= size) return;
    int channel = i / STATES_4, state = i % STATES_4;
    float rate = state < STATES ? p.rate[(scan % 4 * p.channels + channel) * STATES + state] * LOG2E : 0.0f;
    float *states = (p.adjoint ? p.arriving : p.starts) + scan * p.chunks * size + i, h = 0.0f;
    const float *sums = p.sums + scan * p.chunks * p.channels + channel;
    Ends next;
    next.ask(p, states, sums, 0, size);
    for (int first = 0; first < p.chunks; first += AHEAD) {
        const Ends now = next;
        next.ask(p, states, sums, first + AHEAD, size);  // before anything is stored, which would have to be waited for
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            if (first + j >= p.chunks) break;
            int chunk = p.adjoint ? p.chunks - 1 - first - j : first + j;
            states[(long long)chunk * size] = h;
            h = exp2_(rate * now.sum[j]) * h + now.end[j];
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, OUTPUT_BLOCKS) output(const Problem p) {
    float4 *made = memory;                            // [2][PART][PAIRS]: of this part and the next
    float *rows = (float *)(made + 2 * PART * PAIRS); // [2][PART][32]: B, C
    float *y = rows + 2 * PART * 32;                  // [PART][BLOCK]; a warp has channels of its own
    float *low = y + PART * BLOCK;                    // [CHUNK][RANK_4]
    unsigned *pixels = (unsigned *)(low + CHUNK * RANK_4);  // [CHUNK]
    const Place at = place(p, 1);
    const Steps steps(p, at);
    // when results are written, a warp deals out its own 8 pairs at 4 positions
    const int pair = at.warp * 8 + at.lane % 8, channel = at.first + 2 * pair, there = channels_from(p, channel);
    const long long image = (long long)at.batch * at.length * p.channels + channel;
    float h[GROUPS][2][4];
    Pair direct = {};
    Rows<32, PART> next_rows;
    Values<PART> next_values;
    find_pixels(p, at, pixels);
    __syncthreads();
    next_values.ask(p, at, pixels, 0, p.value);
    next_rows.ask(p, at, pixels, 0, 0, false);
    const Rates rates(p, at, (float4 *)(pixels + CHUNK));
#pragma unroll
    for (int group = 0; group < GROUPS; group++) load_states(p, at, p.starts, group, h[group]);
    if (p.direction == 3) direct = direct_path(p, channel);
    stage_low(p, at, pixels, low);
    __syncthreads();
    make_steps(at, steps, low, next_values, 0, true, made);
    next_rows.store(rows);
    __syncthreads();
    for (int from = 0, turn = 0, half = 0; from < at.count; from += PART, half ^= 1) {
        Pair before[PART / 4];
#pragma unroll
        for (int i = 0; i < PART / 4; i++) {
            int t = from + at.lane / 8 + 4 * i;
            before[i] = read_pair(p.total + image + pixels[t] * (unsigned)p.channels, p.direction && t < at.count ? there : 0);
        }
#pragma unroll
        for (int group = 0; group < GROUPS; group++, turn ^= 1) {
            const bool last = group == GROUPS - 1, more = !last || from + PART < at.count;
            if (more) next_rows.ask(p, at, pixels, last ? from + PART : from, last ? 0 : group + 1, false);
            if (last && more) next_values.ask(p, at, pixels, from + PART, p.value);
            const float4 *here = made + half * PART * PAIRS + at.pair;
            const float *of_states = rows + turn * PART * 32 + at.share * 4;
            float *into = y + at.share / 2 * BLOCK + 2 * at.pair + at.share % 2;
            float rate[2][4];
            rates.get(group, rate);
#pragma unroll 2
            for (int t = 0; t < PART; t += 2) {
                float sums[4];
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    float4 m = here[(t + j) * PAIRS];
                    float b[4], s[4], dt[2] = {m.x, m.y}, dx[2] = {m.z, m.w};
                    unpack(*(const float4 *)(of_states + (t + j) * 32), b);
                    unpack(*(const float4 *)(of_states + (t + j) * 32 + 16), s);
#pragma unroll
                    for (int c = 0; c < 2; c++) {
                        float found = 0.0f;
#pragma unroll
                        for (int n = 0; n < 4; n++) {
                            h[group][c][n] = exp2_(rate[c][n] * dt[c]) * h[group][c][n] + dx[c] * b[n];
                            found += h[group][c][n] * s[n];
                        }
                        sums[2 * j + c] = found;
                    }
                }
                float mine = sum_shares(sums, at.share);  // of position share / 2, channel share % 2
                into[t * BLOCK] = group ? into[t * BLOCK] + mine : mine;
            }
            if (more) next_rows.store(rows + (turn ^ 1) * PART * 32);
            if (last && more) make_steps(at, steps, low, next_values, from + PART, true, made + (half ^ 1) * PART * PAIRS);
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < PART / 4; i++) {
            int t = at.lane / 8 + 4 * i, to_write = from + t < at.count ? there : 0;
            float2 found = *(const float2 *)(y + t * BLOCK + 2 * pair);
            Pair sum = {found.x + before[i].of[0], found.y + before[i].of[1]};
            unsigned offset = pixels[from + t] * (unsigned)p.channels;
            if (p.direction == 3) {
                Pair x = read_pair(p.value + image + offset, to_write);
                for (int c = 0; c < 2; c++) sum.of[c] += direct.of[c] * x.of[c];
                write_pair(p.out + image + offset, sum, to_write);
            } else write_pair(p.total + image + offset, sum, to_write);
        }
        __syncwarp();
    }
}
