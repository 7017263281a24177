// The four-direction selective scan of SS2D and its gradients, for GPUs from NVIDIA.
//
// Compiled at run time for one number of states and rank and one type of image; `ss2d.py` beside it says with what, and
// starts the kernels. An image of another size never compiles.
//
//     ends      each chunk of a direction from a zero state: its end state, and the sum of its steps
//     carry     from chunk ends to chunk starts, in place
//     output    y from the chunk starts, one direction after the other
//     gradients everything of one direction from the chunk starts and from the adjoints that arrive after each chunk
//
// A block owns WARPS * 16 channels of one chunk. A thread owns two channels and four states: a warp 16 channels and 16
// states, STATES is worked off in groups of 16. What all states need (step, step times value) is made once per position and
// channel and lies in shared memory; so do B and C, which all channels need.
//
// Layouts: value, dy (batch, length, channels); rows (batch, length, 4, RANK + 2 STATES): step of low rank, B, C; weight (4,
// channels, RANK); bias, direct (4, channels); rate (4, channels, STATES); states (batch, 4, chunks, channels, STATES_4).
// Direction k reads its positions in the order of `basicsr.ops.ss2d.traversal`.

#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f
#define THREADS (WARPS * 32)
#define BLOCK (WARPS * 16)              // channels of a block
#define PAIRS (WARPS * 8)               // pairs of channels of a block
#define AT_ONCE 4                       // THREADS / PAIRS
#define RANK_4 ((RANK + 3) / 4 * 4)
#define SOME_RANK (RANK ? RANK : 1)      // of arrays, which cannot be empty
#define STATES_4 ((STATES + 3) / 4 * 4)
#define LARGER(a, b) ((a) > (b) ? (a) : (b))
#define GROUPS ((STATES + 15) / 16)
#define ROW (RANK + 2 * STATES)
#define GRAD_ROW (BLOCK + 2)            // of dy in shared memory: neighbouring positions in other banks
#define RATES_SHARED (GROUPS > 2)
#define TILES (CHUNK / TILE)
static_assert(CHUNK % TILE == 0 && TILE % HALF == 0 && CHUNK % PART == 0 && PART % 4 == 0, "loops end with what they walk over");
#define AHEAD 16                        // chunks that `carry` reads at once
#define SPREAD 144                      // floats of what a warp sums over channels, for one position and B or C

struct bf16 { unsigned short bits; };
struct fp16 { unsigned short bits; };

// Two neighbouring channels; where their number is odd, the last has no neighbour.
struct Pair { float of[2]; };

__device__ __forceinline__ float from_bits(unsigned bits) { return __uint_as_float(bits); }
__device__ __forceinline__ float read(const float *p) { return *p; }
__device__ __forceinline__ float read(const bf16 *p) { return from_bits((unsigned)p->bits << 16); }
__device__ __forceinline__ float read(const fp16 *p) { return half_to_float(p->bits); }
__device__ __forceinline__ Pair both(const float *p) { float2 v = *(const float2 *)p; return {v.x, v.y}; }
__device__ __forceinline__ Pair both(const bf16 *p) {
    unsigned v = *(const unsigned *)p;
    return {from_bits(v << 16), from_bits(v & 0xffff0000u)};
}
__device__ __forceinline__ Pair both(const fp16 *p) {
    unsigned v = *(const unsigned *)p;
    return {half_to_float(v & 0xffff), half_to_float(v >> 16)};
}
__device__ __forceinline__ unsigned short bits_of(const bf16 *, float x) { return float_to_bfloat(x); }
__device__ __forceinline__ unsigned short bits_of(const fp16 *, float x) { return float_to_half(x); }
__device__ __forceinline__ void write(float *p, float x) { *p = x; }
template <class Half> __device__ __forceinline__ void write(Half *p, float x) { p->bits = bits_of(p, x); }
__device__ __forceinline__ void write_both(float *p, Pair v) { *(float2 *)p = make_float2(v.of[0], v.of[1]); }
template <class Half> __device__ __forceinline__ void write_both(Half *p, Pair v) {
    *(unsigned *)p = bits_of(p, v.of[0]) | (unsigned)bits_of(p, v.of[1]) << 16;
}

// `count` channels (0, 1, 2) from p on; where the number of channels is even, 1 does not occur.
template <class T> __device__ __forceinline__ Pair read_pair(const T *p, int count) {
#if EVEN
    return count ? both(p) : Pair{};
#else
    return {count ? read(p) : 0.0f, count > 1 ? read(p + 1) : 0.0f};
#endif
}
template <class T> __device__ __forceinline__ void write_pair(T *p, Pair v, int count) {
#if EVEN
    if (count) write_both(p, v);
#else
    if (count) write(p, v.of[0]);
    if (count > 1) write(p + 1, v.of[1]);
#endif
}

struct Problem {
    const TYPE *value, *dy, *rows;
    const float *weight, *bias, *rate, *direct;
    float *starts, *arriving, *sums, *total;
    TYPE *out;
    TYPE *d_rows;     // like rows; with several blocks of channels instead
    float *of_block;  // (blocks, batch, length, 4, ROW), to be summed
    float *of_chunk;  // of one direction (batch, chunks, parameters): A, then weight, bias and D of each channel
    float *d_rest;    // (4, parameters), the sums over batch and chunks
    // parameters: a multiple of 4 not below channels (STATES_4 + RANK + 2)
    int batch, height, width, channels, chunks, blocks, parameters, direction, adjoint;
};

// softplus and its derivative; the first is x to the last bit above 20, by rounding
__device__ __forceinline__ float softplus(float x, float *slope) {
    float small = exp2_(-fabsf(x) * LOG2E);
    // log1p(small) / small on [0, 1], to 5e-9: log(1 + small) would lose the small steps
    float p = -0.003318420145660639f * small + 0.020204348489642143f;
    p = p * small - 0.05766400322318077f;
    p = p * small + 0.10680510848760605f;
    p = p * small - 0.15355369448661804f;
    p = p * small + 0.1969539225101471f;
    p = p * small - 0.2495858520269394f;
    p = p * small + 0.33330512046813965f;
    p = p * small - 0.4999993145465851f;
    p = p * small + 1.0f;
    if (slope) {
        float inverse = __fdividef(1.0f, 1.0f + small);
        *slope = x >= 0 ? inverse : small * inverse;
    }
    return fmaxf(x, 0.0f) + small * p;
}

// What a block works on, and where a thread stands in it.
struct Place {
    int batch, direction, chunk, first, count;   // chunk of the scan; first channel of the block; positions of the chunk
    int warp, lane, pair, share, channel;        // pair of channels in the block, quarter of the states; first channel
    int length;

    // Where a thread stands when positions and pairs of channels are dealt out one by one.
    __device__ __forceinline__ int dealt_pair() const { return threadIdx.x % PAIRS; }
    __device__ __forceinline__ int dealt_channel() const { return first + 2 * dealt_pair(); }
};

__device__ __forceinline__ int channels_from(const Problem &p, int channel) { return max(0, min(2, p.channels - channel)); }

__device__ __forceinline__ Place place(const Problem &p, int directions) {
    Place at;
    int block = blockIdx.x;
    at.first = block % p.blocks * BLOCK;
    block /= p.blocks;
    at.chunk = block % p.chunks;
    block /= p.chunks;
    at.direction = directions == 4 ? block % 4 : p.direction;
    at.batch = block / directions;
    at.length = p.height * p.width;
    at.count = min(CHUNK, at.length - at.chunk * CHUNK);
    at.warp = threadIdx.x / 32;
    at.lane = threadIdx.x % 32;
    at.share = at.lane % 4;
    at.pair = at.warp * 8 + at.lane / 4;
    at.channel = at.first + 2 * at.pair;
    return at;
}

// Pixels of the chunk, in the order of the direction. Read after the next barrier.
__device__ __forceinline__ void find_pixels(const Problem &p, const Place &at, unsigned *pixels) {
    for (int t = threadIdx.x; t < CHUNK; t += THREADS) {
        int rank = at.chunk * CHUNK + min(t, at.count - 1);
        if (at.direction >= 2) rank = at.length - 1 - rank;
        pixels[t] = at.direction % 2 ? rank % p.height * p.width + rank / p.height : rank;
    }
}

// The low-rank steps of the chunk to shared memory; zeros beyond the scan.
__device__ __forceinline__ void stage_low(const Problem &p, const Place &at, const unsigned *pixels, float *low) {
    const TYPE *source = p.rows + ((long long)at.batch * at.length * 4 + at.direction) * ROW;
    for (int i = threadIdx.x; i < CHUNK * RANK; i += THREADS) {
        int t = i / SOME_RANK, r = i % SOME_RANK;
        low[t * RANK_4 + r] = t < at.count ? read(source + pixels[t] * (4u * ROW) + r) : 0.0f;
    }
}

// What a thread brings from memory for COUNT positions: B and C of a group of states, or one of them, where COLUMNS is 16. To
// ask first and store later lets other work hide the wait.
template <int COLUMNS, int COUNT>
struct Rows {
    static const int STEP = THREADS / COLUMNS, TIMES = (COUNT + STEP - 1) / STEP;
    float x[TIMES];

    __device__ __forceinline__ void ask(const Problem &p, const Place &at, const unsigned *pixels, int from, int group, bool of_c) {
        int column = threadIdx.x % COLUMNS, state = group * 16 + column % 16, first = threadIdx.x / COLUMNS;
        int end = state < STATES ? min(from + COUNT, at.count) : 0;
        const TYPE *source = p.rows + ((long long)at.batch * at.length * 4 + at.direction) * ROW + RANK + state +
                             (of_c || column >= 16 ? STATES : 0);
#pragma unroll
        for (int i = 0; i < TIMES; i++) {
            int t = from + first + i * STEP;
            x[i] = t < end ? read(source + pixels[t] * (4u * ROW)) : 0.0f;
        }
    }

    __device__ __forceinline__ void store(float *into) const {
        into += threadIdx.x;  // a row after the other, COLUMNS threads each
#pragma unroll
        for (int i = 0; i < TIMES; i++)
            if ((int)(threadIdx.x / COLUMNS) + i * STEP < COUNT) into[i * STEP * COLUMNS] = x[i];
    }
};

// The same for a pair of channels at every AT_ONCE-th position, of values or of what belongs to them.
template <int COUNT>
struct Values {
    static const int TIMES = COUNT / AT_ONCE;
    Pair x[TIMES];

    template <class T>
    __device__ __forceinline__ void ask(const Problem &p, const Place &at, const unsigned *pixels, int from, const T *value) {
        int channel = at.dealt_channel(), there = channels_from(p, channel), first = threadIdx.x / PAIRS;
        const T *source = value + (long long)at.batch * at.length * p.channels + channel;
#pragma unroll
        for (int i = 0; i < TIMES; i++) {
            int t = from + first + i * AT_ONCE;
            x[i] = read_pair(source + pixels[t] * (unsigned)p.channels, t < at.count ? there : 0);
        }
    }
};

// The raw step of the two channels that this thread makes steps for.
struct Steps {
    float weight[2][SOME_RANK], bias[2];
    int there;

    __device__ __forceinline__ Steps(const Problem &p, const Place &at) {
        int channel = at.dealt_channel();
        there = channels_from(p, channel);
#pragma unroll
        for (int c = 0; c < 2; c++) {
            long long row = (long long)at.direction * p.channels + channel + c;
            bias[c] = c < there ? p.bias[row] : 0.0f;
#pragma unroll
            for (int r = 0; r < RANK; r++) weight[c][r] = c < there ? p.weight[row * RANK + r] : 0.0f;
        }
    }

    __device__ __forceinline__ float raw(const float *low, int c) const {
        float z = bias[c];
#pragma unroll
        for (int r = 0; r < RANK; r++) z += weight[c][r] * low[r];
        return z;
    }
};

// {step, step, step * value, step * value} of each pair of channels; {step, step, dy, dy} for the adjoint. Beyond the scan the
// step is zero, which leaves the state as it is.
template <int COUNT>
__device__ __forceinline__ void make_steps(const Place &at, const Steps &steps, const float *low, const Values<COUNT> &values,
                                           int from, bool times_step, float4 *into) {
    int first = threadIdx.x / PAIRS;
    low += (from + first) * RANK_4;
    into += first * PAIRS + at.dealt_pair();
#pragma unroll
    for (int i = 0; i < COUNT / AT_ONCE; i++) {
        Pair dt = {}, v = values.x[i];
#pragma unroll
        for (int c = 0; c < 2; c++) {
            if (from + first + i * AT_ONCE < at.count) dt.of[c] = softplus(steps.raw(low + i * AT_ONCE * RANK_4, c), 0);
            if (times_step) v.of[c] *= dt.of[c];
        }
        into[i * AT_ONCE * PAIRS] = make_float4(dt.of[0], dt.of[1], v.of[0], v.of[1]);
    }
}

__device__ __forceinline__ void load_rate(const Problem &p, const Place &at, int group, float rate[2][4]) {
#pragma unroll
    for (int c = 0; c < 2; c++)
#pragma unroll
        for (int n = 0; n < 4; n++) {
            int state = group * 16 + at.share * 4 + n;
            bool there = at.channel + c < p.channels && state < STATES;
            rate[c][n] = there ? p.rate[((long long)at.direction * p.channels + at.channel + c) * STATES + state] * LOG2E : 0.0f;
        }
}

__device__ __forceinline__ void unpack(const float4 &v, float x[4]) { x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w; }

// D of two channels, summed over the directions.
__device__ __forceinline__ Pair direct_path(const Problem &p, int channel) {
    Pair sum = {};
#pragma unroll
    for (int k = 0; k < 4; k++) {
        Pair d = read_pair(p.direct + k * p.channels + channel, channels_from(p, channel));
        sum.of[0] += d.of[0], sum.of[1] += d.of[1];
    }
    return sum;
}

// Rates of all groups: in registers, or where there are many in shared memory, 16 bytes of a thread beside those of the next.
struct Rates {
    float of[RATES_SHARED ? 1 : GROUPS][2][4];
    float4 *room;

    __device__ __forceinline__ Rates(const Problem &p, const Place &at, float4 *shared) : room(shared + threadIdx.x) {
#pragma unroll
        for (int group = 0; group < GROUPS; group++) {
            float rate[2][4];
            load_rate(p, at, group, rate);
#pragma unroll
            for (int c = 0; c < 2; c++) {
                if (RATES_SHARED) room[(group * 2 + c) * THREADS] = make_float4(rate[c][0], rate[c][1], rate[c][2], rate[c][3]);
                else for (int n = 0; n < 4; n++) of[group][c][n] = rate[c][n];
            }
        }
    }

    __device__ __forceinline__ void get(int group, float rate[2][4]) const {
#pragma unroll
        for (int c = 0; c < 2; c++) {
            if (RATES_SHARED) unpack(room[(group * 2 + c) * THREADS], rate[c]);
            else for (int n = 0; n < 4; n++) rate[c][n] = of[group][c][n];
        }
    }
};

// The four states of channel c of this thread, in (channels, STATES_4); null where there are none.
__device__ __forceinline__ float4 *state_slot(float *states, const Problem &p, const Place &at, int group, int c) {
    int state = group * 16 + at.share * 4;
    if (at.channel + c >= p.channels || state >= STATES_4) return 0;
    return (float4 *)(states + (at.channel + c) * STATES_4 + state);
}

__device__ __forceinline__ float *chunk_of(float *states, const Problem &p, const Place &at) {
    return states + (((long long)at.batch * 4 + at.direction) * p.chunks + at.chunk) * p.channels * STATES_4;
}

__device__ __forceinline__ void load_states(const Problem &p, const Place &at, float *states, int group, float h[2][4]) {
    states = chunk_of(states, p, at);
#pragma unroll
    for (int c = 0; c < 2; c++) {
        float4 *slot = state_slot(states, p, at, group, c);
        float4 v = slot ? *slot : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        h[c][0] = v.x, h[c][1] = v.y, h[c][2] = v.z, h[c][3] = v.w;
    }
}

__device__ __forceinline__ void store_in(float *states, const Problem &p, const Place &at, int group, const float h[2][4]) {
#pragma unroll
    for (int c = 0; c < 2; c++) {
        float4 *slot = state_slot(states, p, at, group, c);
        if (slot) *slot = make_float4(h[c][0], h[c][1], h[c][2], h[c][3]);
    }
}

// Sums over the four threads that share a pair of channels. Thread `share` gets the sum of v[share].
__device__ __forceinline__ float sum_shares(const float v[4], int share) {
    bool odd = share & 1, high = share & 2;
    float a = odd ? v[1] : v[0], b = odd ? v[3] : v[2];
    a += __shfl_xor_sync(~0u, odd ? v[0] : v[1], 1);
    b += __shfl_xor_sync(~0u, odd ? v[2] : v[3], 1);
    float mine = high ? b : a;
    return mine + __shfl_xor_sync(~0u, high ? a : b, 2);
}
