// CUDA C++ kernels as C++ for the CPU, for tests: g++ -std=c++17 on Linux compiles a .cu text that follows this header.
//
// Every thread of a block is a fiber with its own stack; blocks run one after another. It is hostile where a GPU is free to be:
//   - seed 0 runs blocks and threads in order, in turns; any other seed shuffles blocks, warps and lanes, and lets whoever comes
//     first run as far ahead as barriers allow;
//   - shared memory starts every block filled with 0xff: NaN as a float, -1 as an int;
//   - a barrier or shuffle that not all its threads reach, or that they reach on different lines, aborts with a message. Threads
//     that have returned count as missing, which is stricter than hardware.
//   - dynamic shared memory ends at an unreadable page; a kernel may not end while copies of its threads are on their way.
// It knows nothing of speed, of memory ordering between blocks, or of atomics. Inline PTX is in ptx_twins.hpp.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <map>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __constant__ static const
// All shared variables in one section of the library, to fill it before each block; `used` says that something else writes there.
#define __shared__ static __attribute__((section("cudasim_shared"), used))
extern "C" __attribute__((weak, visibility("hidden"))) char __start_cudasim_shared[], __stop_cudasim_shared[];

namespace cudasim {

struct Dim {
    unsigned x, y, z;
};

struct Barrier {
    unsigned arrived = 0, turn = 0;
    int line = 0;
};

// What the lanes named in one mask give each other. Two slots per lane, taken in turns: a fast lane may be one exchange ahead.
struct Exchange {
    Barrier barrier;
    unsigned count[32] = {};
    alignas(16) unsigned char slot[2][32][32];
};

// An asynchronous copy on its way to shared memory; from nowhere, zeros.
struct Copy {
    void* to;
    const void* from;
    size_t size;
};

struct Fiber {
    Dim thread;
    unsigned number, lane, warp;
    bool started, done;
    const Barrier* waits;
    unsigned turn;
    jmp_buf here;
    ucontext_t start;
    std::vector<Copy> copies;
    std::vector<size_t> groups;  // where each group of copies ends
};

static const size_t stack_bytes = 256 << 10;
static Fiber* fiber;
static jmp_buf scheduler;
static Dim block_index, block_dim, grid_dim;
static unsigned block_threads;
static char* dynamic_shared;
static size_t dynamic_bytes;
static Barrier block_barrier;
static std::vector<std::map<unsigned, Exchange>> warps;  // by warp, then by mask
static void (*body)(void*);
static void* body_context;

[[noreturn]] static void die(const char* what, int line)
{
    fprintf(stderr, "cudasim: %s (line %d, block %u %u %u, thread %u)\n", what, line, block_index.x, block_index.y, block_index.z,
            fiber ? fiber->number : 0);
    abort();
}

static void wait(Barrier& barrier, unsigned expected, int line)
{
    if (barrier.arrived && barrier.line != line) die("divergent barrier: some threads wait on one line, some on another", line);
    barrier.line = line;
    fiber->waits = &barrier;
    fiber->turn = barrier.turn;
    if (++barrier.arrived == expected) {
        barrier.arrived = 0;
        ++barrier.turn;
    } else if (!_setjmp(fiber->here)) {
        _longjmp(scheduler, 1);
    }
    fiber->waits = nullptr;
}

static unsigned lanes_of_warp()
{
    const unsigned left = block_threads - fiber->warp * 32;
    return left >= 32 ? ~0u : (1u << left) - 1;
}

// Give `value` to the lanes in `mask`, wait for theirs, and return them by lane.
template <class V> unsigned char (*exchange(unsigned mask, V value, int line))[32]
{
    static_assert(sizeof(V) <= 32, "an exchange carries at most 32 bytes");
    if (!(mask >> fiber->lane & 1)) die("a lane is not in its own mask", line);
    Exchange& e = warps[fiber->warp][mask];
    unsigned char(*slots)[32] = e.slot[e.count[fiber->lane]++ & 1];
    memcpy(slots[fiber->lane], &value, sizeof value);
    wait(e.barrier, __builtin_popcount(mask & lanes_of_warp()), line);
    return slots;
}

template <class V> V from_lane(unsigned mask, V value, unsigned source, int line)
{
    unsigned char(*slots)[32] = exchange(mask, value, line);
    if (!(mask & lanes_of_warp() & 1u << source)) die("a shuffle reads a lane outside its mask", line);
    memcpy(&value, slots[source], sizeof value);
    return value;
}

static void fiber_main()
{
    body(body_context);
    if (!fiber->copies.empty()) die("a kernel ends while asynchronous copies are on their way", 0);
    fiber->done = true;
    _longjmp(scheduler, 1);
}

static void resume(Fiber& next)
{
    fiber = &next;
    if (_setjmp(scheduler)) return;
    if (next.started) _longjmp(next.here, 1);
    next.started = true;
    setcontext(&next.start);
}

struct Dice {  // splitmix64
    uint64_t state;
    uint64_t roll()
    {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
    }
    void shuffle(unsigned* first, size_t count)
    {
        for (size_t i = count; i > 1; --i) std::swap(first[i - 1], first[roll() % i]);
    }
};

static std::vector<unsigned> in_order(unsigned count)
{
    std::vector<unsigned> order(count);
    for (unsigned i = 0; i < count; ++i) order[i] = i;
    return order;
}

// Whole warps change places, and lanes within their warp: so a whole warp can run ahead of the others.
static std::vector<unsigned> shuffled_threads(Dice& dice)
{
    std::vector<unsigned> order, warp_order = in_order((block_threads + 31) / 32);
    dice.shuffle(warp_order.data(), warp_order.size());
    for (unsigned warp : warp_order) {
        const size_t first = order.size();
        for (unsigned i = warp * 32; i < warp * 32 + 32 && i < block_threads; ++i) order.push_back(i);
        dice.shuffle(order.data() + first, order.size() - first);
    }
    return order;
}

static void run_block(std::vector<Fiber>& fibers, const std::vector<unsigned>& order, bool fair)
{
    memset(__start_cudasim_shared, 0xff, __stop_cudasim_shared - __start_cudasim_shared);
    memset(dynamic_shared, 0xff, dynamic_bytes);
    block_barrier = {};
    warps.assign((block_threads + 31) / 32, {});
    for (unsigned left = block_threads; left;) {
        bool progress = false;
        for (unsigned i : order) {
            Fiber& next = fibers[i];
            if (next.done || (next.waits && next.waits->turn == next.turn)) continue;
            progress = true;
            resume(next);
            left -= next.done;
            if (!fair) break;  // and look again from the first in order
        }
        if (progress) continue;
        for (Fiber& waiting : fibers)
            if (!waiting.done) {
                fiber = &waiting;
                die("divergent barrier: not all threads reach it", waiting.waits->line);
            }
    }
}

struct Launch {
    Dim grid, block;
    uint64_t seed, shared;
};

// Fresh memory that ends at an unreadable page: of 16-byte steps, and begun at 1024 as on a GPU only if its size allows.
static char* guarded(size_t size)
{
    const size_t page = 4096, length = (size + page - 1) / page * page;
    char* base = (char*)mmap(nullptr, length + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + length, page, PROT_NONE)) die("no memory for what blocks share", 0);
    return base + length - size;
}

static void run(const Launch& launch)
{
    grid_dim = launch.grid, block_dim = launch.block;
    const unsigned blocks = grid_dim.x * grid_dim.y * grid_dim.z;
    block_threads = block_dim.x * block_dim.y * block_dim.z;
    if (!blocks || !block_threads || block_threads > 1024) die("a grid needs blocks, and a block 1 to 1024 threads", 0);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char* stacks = (char*)mmap(nullptr, block_threads * stack_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (stacks == MAP_FAILED) die("no memory for the stacks", 0);
    dynamic_bytes = (launch.shared + 15) / 16 * 16;
    dynamic_shared = guarded(dynamic_bytes);
    std::vector<Fiber> fibers(block_threads);
    Dice dice{launch.seed};
    std::vector<unsigned> block_order = in_order(blocks), order = in_order(block_threads);
    if (launch.seed) dice.shuffle(block_order.data(), blocks);
    for (unsigned b : block_order) {
        block_index = {b % grid_dim.x, b / grid_dim.x % grid_dim.y, b / grid_dim.x / grid_dim.y};
        if (launch.seed) order = shuffled_threads(dice);
        for (unsigned i = 0; i < block_threads; ++i) {
            Fiber& f = fibers[i];
            f.thread = {i % block_dim.x, i / block_dim.x % block_dim.y, i / block_dim.x / block_dim.y};
            f.number = i, f.lane = i % 32, f.warp = i / 32, f.started = f.done = false, f.waits = nullptr;
            getcontext(&f.start);
            f.start.uc_stack.ss_sp = stacks + i * stack_bytes, f.start.uc_stack.ss_size = stack_bytes;
            makecontext(&f.start, fiber_main, 0);
        }
        run_block(fibers, order, !launch.seed);
    }
    fiber = nullptr;
    munmap(stacks, block_threads * stack_bytes);
    munmap((char*)((uintptr_t)dynamic_shared & ~(uintptr_t)4095), (dynamic_bytes + 4095) / 4096 * 4096 + 4096);
}

// Size of a parameter passed by value; minus that of what it points to, for a pointer.
template <class A> constexpr int parameter()
{
    return std::is_pointer<A>::value ? -(int)sizeof(std::remove_pointer_t<A>) : (int)sizeof(A);
}

template <class... A> int parameters(void (*)(A...), int* sizes)
{
    for (int size : {parameter<A>()...}) *sizes++ = size;
    return sizeof...(A);
}

template <class... A, size_t... I>
void launch_with(void (*kernel)(A...), const Launch& launch, void** args, std::index_sequence<I...>)
{
    auto call = [&] { kernel(*(std::decay_t<A>*)args[I]...); };
    body = [](void* context) { (*(decltype(call)*)context)(); };
    body_context = &call;
    run(launch);
}

template <class... A> void launch(void (*kernel)(A...), const Launch& launch, void** args)
{
    launch_with(kernel, launch, args, std::index_sequence_for<A...>{});
}

}  // namespace cudasim

#define threadIdx (cudasim::fiber->thread)
#define blockIdx (cudasim::block_index)
#define blockDim (cudasim::block_dim)
#define gridDim (cudasim::grid_dim)
constexpr int warpSize = 32;

inline void __syncthreads(int line = __builtin_LINE()) { cudasim::wait(cudasim::block_barrier, cudasim::block_threads, line); }
inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) { cudasim::exchange(mask, 0, line); }

// Lanes are grouped by `width`, a power of two. A source outside the group means one's own value; only __shfl_sync wraps around.
template <class V> V __shfl_sync(unsigned mask, V value, int source, int width = 32, int line = __builtin_LINE())
{
    return cudasim::from_lane(mask, value, (cudasim::fiber->lane & -width) | (source & (width - 1)), line);
}
template <class V> V __shfl_up_sync(unsigned mask, V value, unsigned by, int width = 32, int line = __builtin_LINE())
{
    const unsigned lane = cudasim::fiber->lane;
    return cudasim::from_lane(mask, value, (lane & (width - 1)) < by ? lane : lane - by, line);
}
template <class V> V __shfl_down_sync(unsigned mask, V value, unsigned by, int width = 32, int line = __builtin_LINE())
{
    const unsigned lane = cudasim::fiber->lane, last = lane | (width - 1);
    return cudasim::from_lane(mask, value, lane + by > last ? lane : lane + by, line);
}
template <class V> V __shfl_xor_sync(unsigned mask, V value, int bits, int width = 32, int line = __builtin_LINE())
{
    const unsigned lane = cudasim::fiber->lane, last = lane | (width - 1), source = lane ^ bits;
    return cudasim::from_lane(mask, value, source > last ? lane : source, line);
}

inline unsigned __ballot_sync(unsigned mask, int given, int line = __builtin_LINE())
{
    unsigned char(*slots)[32] = cudasim::exchange(mask, given, line);
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane) {
        int vote = 0;
        if (mask >> lane & 1) memcpy(&vote, slots[lane], sizeof vote);
        votes |= (unsigned)(vote != 0) << lane;
    }
    return votes;
}
inline int __any_sync(unsigned mask, int given, int line = __builtin_LINE()) { return __ballot_sync(mask, given, line) != 0; }
inline int __all_sync(unsigned mask, int given, int line = __builtin_LINE()) { return __ballot_sync(mask, given, line) == mask; }

#define CUDASIM_VECTOR(T, name, align2, align4)          \
    struct alignas(align2) name##2 { T x, y; };          \
    struct alignas(align4) name##4 { T x, y, z, w; };    \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUDASIM_VECTOR(float, float, 8, 16)
CUDASIM_VECTOR(int, int, 8, 16)
CUDASIM_VECTOR(unsigned, uint, 8, 16)
CUDASIM_VECTOR(unsigned short, ushort, 4, 8)
CUDASIM_VECTOR(double, double, 16, 16)

template <class T> T __ldg(const T* p) { return *p; }
template <class A, class B> std::common_type_t<A, B> min(A a, B b) { return b < a ? b : a; }
template <class A, class B> std::common_type_t<A, B> max(A a, B b) { return a < b ? b : a; }
inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }

// Sine and cosine of pi x. The turns by a quarter are exact, as CUDA's are; the rest is rounded from a wider type.
template <class T> void cudasim_sincospi(T x, T* sine, T* cosine)
{
    const long double quarters = roundl(2 * (long double)x);
    const long double rest = (x - quarters / 2) * 3.14159265358979323846264338327950288L;
    const T s = (T)sinl(rest), c = (T)cosl(rest);
    const int turn = (int)fmodl(quarters, 4) & 3;
    *sine = turn == 0 ? s : turn == 1 ? c : turn == 2 ? -s : -c;
    *cosine = turn == 0 ? c : turn == 1 ? -s : turn == 2 ? -c : s;
}
inline void sincospif(float x, float* sine, float* cosine) { cudasim_sincospi(x, sine, cosine); }
inline void sincospi(double x, double* sine, double* cosine) { cudasim_sincospi(x, sine, cosine); }

#include "ptx_twins.hpp"
