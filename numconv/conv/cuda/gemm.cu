// Dense contract_y and contract_x as one product of matrices, whose left one is gathered from the input as it goes:
//
//     out[m, j] = sum over taps k and channels c of in[position(m, k), c] * w[j, k, c]
//
// m counts positions of the answer through the batch, j its channels. `in` lies channels last, w as (j, k, c). contract_x falls
// into stride[0] * stride[1] * stride[2] classes, by the remainder of the answer's position: in each, the taps that reach it
// are equally spaced, and `in` is walked along one by one. With groups, j and c count within one.
//
// A block owns TILE_M x TILE_N of the answer and walks over taps and channels in steps of 64 bytes. Copies run ahead of the
// products by STAGES - 1 steps, through shared memory; rows of a stage lie PITCH bytes apart, which keeps the rows that a warp
// reads at once in different banks. Each of four warps owns a quarter. Every sum is in one fixed order.
//
// With few blocks the sum is split: blockIdx.z has one part of it each, and writes it to `parts`, which parts.cu adds in order.
//
// Defined from outside: Stored, Sum; MULTIPLY, the struct below that multiplies; TILE_M, TILE_N; CHUNK, the bytes of one copy,
// which divide the bytes of a row of channels.
#include "_numbers.cuh"

// The fields of Gather in gemm.py.
struct Gather {
    long long transposed, batch, groups;
    long long channels, outputs;  // of one group, summed over and made
    long long pitch;              // channels of `in` as it lies
    long long rectify, splits, answer;  // elements of the answer
    long long in_size[3], taps[3], out_size[3], stride[3], dilation[3], common[3], pad[3];  // common divisor of stride and dilation
    long long out_step[3];  // from one sample, position and channel of the answer to the next
};

static constexpr int ROW = 64, STAGES = 4, THREADS = 128;
static constexpr int PITCH = ROW + (sizeof(Stored) == 8 ? 32 : 16), STAGE = (TILE_M + TILE_N) * PITCH;
static constexpr int WARP_M = TILE_M / 2, WARP_N = TILE_N / 2, DEEP = ROW / sizeof(Stored);

// Along one axis: row u of the product meets, at step s of its sum, position first + step * u + jump * s of `in` under tap
// tap + apart * s. It is position out_first + out_step * u of the answer.
struct Line {
    int rows, first, step, jump, steps, tap, apart, out_first, out_step;
};

static __device__ Line line(const Gather& g, int axis, int remainder)
{
    const int s = g.stride[axis], d = g.dilation[axis], taps = g.taps[axis], size = g.out_size[axis], pad = g.pad[axis];
    if (!g.transposed) return {size, -pad, s, d, taps, 0, 1, 0, 1};
    const int apart = s / (int)g.common[axis], most = min(apart, taps);
    int k = 0;
    while (k < most && (remainder + pad - d * k) % s) ++k;
    const int steps = k < most ? (taps - 1 - k) / apart + 1 : 0;
    return {(size - remainder + s - 1) / s, (remainder + pad - d * k) / s, 1, -d / (int)g.common[axis], steps, k, apart, remainder, s};
}

struct Lines {
    Line a, b, c;
    __device__ int steps() const { return a.steps * b.steps * c.steps; }
};

__device__ __forceinline__ void copy_chunk(char* to, const Stored* from, bool inside)
{
    if (CHUNK == 16) copy_async16(to, from, inside);
    else if (CHUNK == 8) copy_async8(to, from, inside);
    else if (CHUNK == 4) copy_async4(to, from, inside);
    else *(unsigned short*)to = inside ? *(const unsigned short*)from : (unsigned short)0;  // there is no such asynchronous copy
}

// What one thread copies: one column of chunks of each stage, in rows SPACE apart. The position that each row starts from is
// worked out once; where in the sum its column is, a tap and a channel, is kept as it moves on.
struct Loader {
    static constexpr int PER_ROW = ROW / CHUNK, SPACE = THREADS / PER_ROW, A = TILE_M / SPACE, B = TILE_N / SPACE;
    static_assert(A * SPACE == TILE_M && B * SPACE == TILE_N, "every row is copied once");
    const Stored *in, *w;
    const Gather& g;
    const Lines& l;
    int row, column, outputs, at0[A], at1[A], at2[A];
    unsigned start[A], offset;  // positions of `in`; outside of it they wrap around, inside they are right again
    int step, channel, steps, channels, d0, d1, d2, tap;

    __device__ Loader(const Stored* in, const Stored* w, const Gather& g, const Lines& l, int m0, int rows, int h, int j0, long long from)
        : in(in + h * g.channels), w(w + (h * g.outputs + j0) * g.taps[0] * g.taps[1] * g.taps[2] * g.channels), g(g), l(l),
          row(threadIdx.x / PER_ROW), column(threadIdx.x % PER_ROW), outputs(g.outputs - j0), steps(l.steps()), channels(g.channels)
    {
#pragma unroll
        for (int i = 0; i < A; ++i) {
            const int m = m0 + row + i * SPACE, u2 = m % l.c.rows, u1 = m / l.c.rows % l.b.rows, v = m / l.c.rows / l.b.rows;
            at0[i] = m < rows ? l.a.first + l.a.step * (v % l.a.rows) : -(1 << 30);  // which no tap brings inside
            at1[i] = l.b.first + l.b.step * u1;
            at2[i] = l.c.first + l.c.step * u2;
            start[i] = ((v / l.a.rows * (unsigned)g.in_size[0] + at0[i]) * (unsigned)g.in_size[1] + at1[i]) * (unsigned)g.in_size[2] + at2[i];
        }
        const int first = (int)from + column * (int)(CHUNK / sizeof(Stored));
        step = first / channels, channel = first % channels;
        find();
    }

    __device__ void find()
    {
        if (step >= steps) return;
        const int s2 = step % l.c.steps, s1 = step / l.c.steps % l.b.steps, s0 = step / l.c.steps / l.b.steps;
        d0 = l.a.jump * s0, d1 = l.b.jump * s1, d2 = l.c.jump * s2;
        offset = (d0 * (unsigned)g.in_size[1] + d1) * (unsigned)g.in_size[2] + d2;
        const int k0 = l.a.tap + l.a.apart * s0, k1 = l.b.tap + l.b.apart * s1, k2 = l.c.tap + l.c.apart * s2;
        tap = (k0 * (int)g.taps[1] + k1) * (int)g.taps[2] + k2;
    }

    __device__ void load(char* stage)
    {
        const bool within = step < steps;
        char* const to = stage + row * PITCH + column * CHUNK;
#pragma unroll
        for (int i = 0; i < A; ++i) {
            const bool inside = within && (unsigned)(at0[i] + d0) < (unsigned)g.in_size[0] &&
                                (unsigned)(at1[i] + d1) < (unsigned)g.in_size[1] && (unsigned)(at2[i] + d2) < (unsigned)g.in_size[2];
            copy_chunk(to + i * SPACE * PITCH, inside ? in + (start[i] + offset) * g.pitch + channel : in, inside);
        }
        const long long taps = g.taps[0] * g.taps[1] * g.taps[2];
#pragma unroll
        for (int i = 0; i < B; ++i) {
            const int j = row + i * SPACE;
            const bool inside = within && j < outputs;
            copy_chunk(to + (TILE_M + i * SPACE) * PITCH, inside ? w + (j * taps + tap) * channels + channel : w, inside);
        }
        if ((channel += DEEP) >= channels) {
            step += channel / channels, channel %= channels;
            find();
        }
    }
};

// Fragments of 32 bytes of K, of 16 rows each: the same words for numbers of 32 bits and pairs of 16.
template <int N> __device__ __forceinline__ void left(unsigned (&of)[N][4], const char* rows, int lane)
{
#pragma unroll
    for (int i = 0; i < N; ++i) load_matrices(of[i], rows + (16 * i + lane % 16) * PITCH + lane / 16 * 16);
}
template <int N> __device__ __forceinline__ void right(unsigned (&of)[N][2], const char* rows, int lane)
{
#pragma unroll
    for (int j = 0; j < N; j += 2) {
        unsigned two[4];
        load_matrices(two, rows + (8 * j + lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 16);
        of[j][0] = two[0], of[j][1] = two[1], of[j + 1][0] = two[2], of[j + 1][1] = two[3];
    }
}

// The accumulators of tensor cores: a thread holds rows g + 8 i and columns 2 t + j of each 16 x 8.
struct Tensor {
    static constexpr int M = WARP_M / 16, N = WARP_N / 8, ROWS = 2 * M, COLUMNS = 2 * N;
    static constexpr bool PAIRS = true;
    float sum[M][N][4] = {};
    __device__ static int row(int i, int lane) { return 8 * i + lane / 4; }
    __device__ static int column(int j, int lane) { return 8 * (j / 2) + 2 * (lane % 4) + j % 2; }
    __device__ float value(int i, int j) const { return sum[i / 2][j / 2][2 * (i % 2) + j % 2]; }
    __device__ void settle() {}
};

__device__ __forceinline__ void multiply_halves(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], f16) { multiply_f16(c, a, b); }
__device__ __forceinline__ void multiply_halves(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], bf16) { multiply_bf16(c, a, b); }

// Numbers of 16 bits; their products are exact.
template <class Half> struct Halves_ : Tensor {
    __device__ void multiply(const char* a, const char* b, int lane)
    {
#pragma unroll
        for (int k = 0; k < ROW; k += 32) {
            unsigned of_a[M][4], of_b[N][2];
            left(of_a, a + k, lane);
            right(of_b, b + k, lane);
#pragma unroll
            for (int i = 0; i < M; ++i)
#pragma unroll
                for (int j = 0; j < N; ++j) multiply_halves(sum[i][j], of_a[i], of_b[j], Half());
        }
    }
};
using Halves = Halves_<Stored>;

// float32 rounded to 11 bits.
struct Tf32 : Tensor {
    __device__ void multiply(const char* a, const char* b, int lane)
    {
#pragma unroll
        for (int k = 0; k < ROW; k += 32) {
            unsigned of_a[M][4], of_b[N][2];
            left(of_a, a + k, lane);
            right(of_b, b + k, lane);
#pragma unroll
            for (auto& of : of_a)
#pragma unroll
                for (unsigned& u : of) u = tf32_bits(__uint_as_float(u));
#pragma unroll
            for (auto& of : of_b)
#pragma unroll
                for (unsigned& u : of) u = tf32_bits(__uint_as_float(u));
#pragma unroll
            for (int i = 0; i < M; ++i)
#pragma unroll
                for (int j = 0; j < N; ++j) multiply_tf32(sum[i][j], of_a[i], of_b[j]);
        }
    }
};

// x = big + small, 11 bits each, but for what is beyond 22 bits. What is not finite is small, and big 0: so that an infinity meets
// each number once, with its sign. (Two infinities meet 0 and so make NaN.)
__device__ __forceinline__ void split(unsigned& big, unsigned& small)
{
    const float x = __uint_as_float(big), rounded = __uint_as_float(tf32_bits(x));
    const bool finite = fabsf(rounded) <= 3.402823466e38f;
    big = finite ? __float_as_uint(rounded) : 0;
    small = finite ? tf32_bits(x - rounded) : __float_as_uint(rounded);
}

// float32 in three products of 11 bits, the small ones first: what is lost of a product is 2^-22 of it. Tensor cores drop bits
// where they add, so a long sum is the float32 sum of short ones.
struct Thrice : Tensor {
    static constexpr int SHORT = 4;  // steps of 64 bytes
    float total[M][N][4] = {};
    int steps = 0;
    __device__ float value(int i, int j) const { return total[i / 2][j / 2][2 * (i % 2) + j % 2]; }
    __device__ void settle()
    {
        steps = 0;
#pragma unroll
        for (int i = 0; i < M; ++i)
#pragma unroll
            for (int j = 0; j < N; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) total[i][j][e] += sum[i][j][e], sum[i][j][e] = 0;
    }
    __device__ void products(const unsigned (&a)[M][4], const unsigned (&b)[N][2])
    {
#pragma unroll
        for (int i = 0; i < M; ++i)
#pragma unroll
            for (int j = 0; j < N; ++j) multiply_tf32(sum[i][j], a[i], b[j]);
    }
    __device__ void multiply(const char* a, const char* b, int lane)
    {
#pragma unroll 1  // both halves at once take more registers than there are
        for (int k = 0; k < ROW; k += 32) {
            unsigned big_a[M][4], big_b[N][2], small_a[M][4], small_b[N][2];
            left(big_a, a + k, lane);
            right(big_b, b + k, lane);
#pragma unroll
            for (int i = 0; i < M; ++i)
#pragma unroll
                for (int e = 0; e < 4; ++e) split(big_a[i][e], small_a[i][e]);
#pragma unroll
            for (int j = 0; j < N; ++j)
#pragma unroll
                for (int e = 0; e < 2; ++e) split(big_b[j][e], small_b[j][e]);
            products(small_a, big_b);
            products(big_a, small_b);
            products(big_a, big_b);
        }
        if (++steps == SHORT) settle();
    }
};

struct Doubles {
    static constexpr int M = WARP_M / 8, N = WARP_N / 8, ROWS = M, COLUMNS = 2 * N;
    static constexpr bool PAIRS = true;
    double sum[M][N][2] = {};
    __device__ static int row(int i, int lane) { return 8 * i + lane / 4; }
    __device__ static int column(int j, int lane) { return 8 * (j / 2) + 2 * (lane % 4) + j % 2; }
    __device__ double value(int i, int j) const { return sum[i][j / 2][j % 2]; }
    __device__ void settle() {}
    __device__ void multiply(const char* a, const char* b, int lane)
    {
        const int g = lane / 4, t = lane % 4;
#pragma unroll
        for (int k = 0; k < ROW; k += 32) {
            double of_b[N];
#pragma unroll
            for (int j = 0; j < N; ++j) of_b[j] = *(const double*)(b + (8 * j + g) * PITCH + k + 8 * t);
#pragma unroll
            for (int i = 0; i < M; ++i) {
                const double of_a = *(const double*)(a + (8 * i + g) * PITCH + k + 8 * t);
#pragma unroll
                for (int j = 0; j < N; ++j) multiply_f64(sum[i][j], of_a, of_b[j]);
            }
        }
    }
};

// Without tensor cores: every product and sum of float32 as IEEE 754 has it, a long sum as the sum of short ones. A warp is 4 x 8
// threads.
struct Ieee {
    static constexpr int M = WARP_M / 4, N = WARP_N / 8, ROWS = M, COLUMNS = N;
    static constexpr bool PAIRS = false;
    struct alignas(4 * sizeof(Stored)) Four {
        Stored x[4];
    };
    static constexpr int SHORT = 4;  // steps of 64 bytes
    Sum sum[M][N] = {}, total[M][N] = {};
    int steps = 0;
    __device__ static int row(int i, int lane) { return 4 * i + lane / 8; }
    __device__ static int column(int j, int lane) { return 8 * j + lane % 8; }
    __device__ Sum value(int i, int j) const { return total[i][j]; }
    __device__ void settle()
    {
        steps = 0;
#pragma unroll
        for (int i = 0; i < M; ++i)
#pragma unroll
            for (int j = 0; j < N; ++j) total[i][j] += sum[i][j], sum[i][j] = 0;
    }
    __device__ void multiply(const char* a, const char* b, int lane)
    {
#pragma unroll
        for (int k = 0; k < ROW; k += sizeof(Four)) {
            Four of_b[N];
#pragma unroll
            for (int j = 0; j < N; ++j) of_b[j] = *(const Four*)(b + column(j, lane) * PITCH + k);
#pragma unroll
            for (int i = 0; i < M; ++i) {
                const Four of_a = *(const Four*)(a + row(i, lane) * PITCH + k);
#pragma unroll
                for (int e = 0; e < 4; ++e)
#pragma unroll
                    for (int j = 0; j < N; ++j) sum[i][j] += widened(of_a.x[e]) * widened(of_b[j].x[e]);
            }
        }
        if (++steps == SHORT) settle();
    }
};

template <class To> struct alignas(2 * sizeof(To)) Pair {
    To x[2];
};

// Where in the answer row m of the product is.
static __device__ long long place(int m, const Gather& g, const Lines& l)
{
    const int u2 = m % l.c.rows, u1 = m / l.c.rows % l.b.rows, v = m / l.c.rows / l.b.rows, u0 = v % l.a.rows;
    const long long q0 = l.a.out_first + l.a.out_step * u0, q1 = l.b.out_first + l.b.out_step * u1;
    return v / l.a.rows * g.out_step[0] + ((q0 * g.out_size[1] + q1) * g.out_size[2] + l.c.out_first + l.c.out_step * u2) * g.out_step[1];
}

// Add the bias, rectify, round once and store: the rows from m on and columns from j on that a warp owns.
template <class To, class Multiply>
__device__ __forceinline__ void give(const Multiply& sums, const Stored* b, To* out, bool rectify, const Gather& g, const Lines& l, int m, int rows, int j, int lane)
{
    constexpr int STEP = Multiply::PAIRS ? 2 : 1;
    const bool paired = Multiply::PAIRS && g.out_step[2] == 1 && g.outputs % 2 == 0;
    long long at[Multiply::ROWS];
#pragma unroll
    for (int i = 0; i < Multiply::ROWS; ++i) {
        const int r = m + Multiply::row(i, lane);
        at[i] = r < rows ? place(r, g, l) : -1;
    }
#pragma unroll
    for (int c = 0; c < Multiply::COLUMNS; c += STEP) {
        const int o = j + Multiply::column(c, lane);
        if (o >= g.outputs) continue;
        Sum bias[STEP];
#pragma unroll
        for (int e = 0; e < STEP; ++e) bias[e] = b && o + e < g.outputs ? widened(b[o + e]) : Sum(0);
#pragma unroll
        for (int i = 0; i < Multiply::ROWS; ++i) {
            if (at[i] < 0) continue;
            Pair<To> made;
#pragma unroll
            for (int e = 0; e < STEP; ++e) {
                const Sum x = b ? sums.value(i, c + e) + bias[e] : sums.value(i, c + e);
                store(made.x[e], rectify && x < 0 ? Sum(0) : x);
            }
            To* const to = out + at[i] + o * g.out_step[2];
            if (paired) {
                *(Pair<To>*)to = made;
                continue;
            }
#pragma unroll
            for (int e = 0; e < STEP; ++e)
                if (o + e < g.outputs) to[e * g.out_step[2]] = made.x[e];
        }
    }
}

// Blocks: the tiles of outputs, those of all groups, then those of positions; classes along y, splits along z.
extern "C" __global__ void __launch_bounds__(THREADS) gather(const Stored* in, const Stored* w, const Stored* b, Stored* out, Sum* parts, const Gather g)
{
    DYNAMIC_SHARED(char, shared);
    const int classes1 = g.transposed ? g.stride[1] : 1, classes2 = g.transposed ? g.stride[2] : 1, remainder = blockIdx.y;
    const Lines l = {line(g, 0, remainder / classes2 / classes1), line(g, 1, remainder / classes2 % classes1), line(g, 2, remainder % classes2)};
    const int rows = (int)g.batch * l.a.rows * l.b.rows * l.c.rows;
    const unsigned across = (g.outputs + TILE_N - 1) / TILE_N, groups = g.groups;
    const unsigned j0 = blockIdx.x % across * TILE_N, h = blockIdx.x / across % groups, tile = blockIdx.x / across / groups;
    if (tile >= (rows + TILE_M - 1u) / TILE_M) return;
    const int m0 = tile * TILE_M, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long every = ((long long)l.steps() * g.channels + DEEP - 1) / DEEP, from = every * blockIdx.z / g.splits;
    Loader loader(in, w, g, l, m0, rows, h, j0, from * DEEP);
    const int count = (int)(every * (blockIdx.z + 1) / g.splits - from);
#pragma unroll
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < count) loader.load(shared + s * STAGE);
        copy_group();
    }
    MULTIPLY sums;
    const int warp_m = warp / 2 * WARP_M, warp_n = warp % 2 * WARP_N;
    for (int s = 0; s < count; ++s) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        if (s + STAGES - 1 < count) loader.load(shared + (s + STAGES - 1) % STAGES * STAGE);
        copy_group();
        const char* const stage = shared + s % STAGES * STAGE;
        sums.multiply(stage + warp_m * PITCH, stage + (TILE_M + warp_n) * PITCH, lane);
    }
    sums.settle();
    const int o = h * g.outputs, m = m0 + warp_m, j = j0 + warp_n;
    const long long at = o * g.out_step[2];
    if (g.splits == 1) give(sums, b ? b + o : b, out + at, g.rectify, g, l, m, rows, j, lane);
    else give(sums, nullptr, parts + blockIdx.z * g.answer + at, false, g, l, m, rows, j, lane);
}
