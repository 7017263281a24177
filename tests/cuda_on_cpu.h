// Enough of CUDA C++ to run a kernel on a CPU, block after block: each thread is a coroutine that runs to the next barrier.
// Shared memory is poisoned before each block, so that what nobody wrote is not read unseen.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <vector>

#define __device__
#define __global__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) float2 { float x, y; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline float __fdividef(float a, float b) { return a / b; }
static inline unsigned __float_as_uint(float x) { unsigned u; memcpy(&u, &x, 4); return u; }
static inline float __uint_as_float(unsigned u) { float x; memcpy(&x, &u, 4); return x; }
static inline float exp2_(float x) { return exp2f(x); }
static inline float half_to_float(unsigned short bits) { _Float16 x; memcpy(&x, &bits, 2); return x; }
static inline unsigned short float_to_half(float x) { _Float16 y = x; unsigned short bits; memcpy(&bits, &y, 2); return bits; }

static inline unsigned short float_to_bfloat(float x) {
    unsigned u = __float_as_uint(x);
    return x != x ? 0x7fff : (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

struct Index { int x; };
static Index threadIdx, blockIdx;
static float4 memory[227 * 1024 / 16];

struct Thread {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(256 << 10);
    long block_barriers = 0, warp_barriers = 0;
    int parity = 0;
    bool done = false;
};
static std::vector<Thread> threads;
static ucontext_t scheduler;
static float exchanged[2][1024];

// A thread goes on when everyone it waits for has come as far.
static bool behind(int self) {
    const Thread &me = threads[self];
    for (int i = 0; i < (int)threads.size(); i++) {
        const Thread &other = threads[i];
        if (other.done) continue;
        if (other.block_barriers < me.block_barriers) return true;
        if (i / 32 == self / 32 && other.block_barriers == me.block_barriers && other.warp_barriers < me.warp_barriers) return true;
    }
    return false;
}
static void yield_() {
    int self = threadIdx.x;
    do swapcontext(&threads[self].context, &scheduler); while (behind(self));
}
static inline void __syncthreads() { threads[threadIdx.x].block_barriers++; yield_(); }
static inline void __syncwarp() { threads[threadIdx.x].warp_barriers++; yield_(); }
static inline float __shfl_xor_sync(unsigned, float x, int mask) {
    Thread &me = threads[threadIdx.x];
    float *slots = exchanged[me.parity ^= 1];
    slots[threadIdx.x] = x;
    __syncwarp();
    return slots[threadIdx.x ^ mask];
}

template <class Argument> struct Call { void (*kernel)(const Argument); const Argument *argument; };
template <class Argument> static Call<Argument> call;
template <class Argument> static void enter() {
    int self = threadIdx.x;
    call<Argument>.kernel(*call<Argument>.argument);
    threads[self].done = true;
    swapcontext(&threads[self].context, &scheduler);
}
template <class Argument>
static void run(void (*kernel)(const Argument), int blocks, int count, int shared, const Argument *argument) {
    call<Argument> = {kernel, argument};
    if (shared > (int)sizeof(memory)) abort();
    threads.resize(count);
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        memset(memory, 0xff, sizeof(memory));
        for (Thread &t : threads) {
            t.block_barriers = t.warp_barriers = 0, t.done = false;
            getcontext(&t.context);
            t.context.uc_stack.ss_sp = t.stack.data(), t.context.uc_stack.ss_size = t.stack.size();
            makecontext(&t.context, enter<Argument>, 0);
        }
        for (bool more = true; more;) {
            more = false;
            for (int i = 0; i < count; i++)
                if (!threads[i].done && !behind(i)) {
                    threadIdx.x = i;
                    swapcontext(&scheduler, &threads[i].context);
                    more |= !threads[i].done;
                } else more |= !threads[i].done;
        }
        for (size_t i = (shared + 15) / 16; i < sizeof(memory) / 16; i++)  // beyond what was asked for
            if (memory[i].x == memory[i].x) abort();
    }
}
