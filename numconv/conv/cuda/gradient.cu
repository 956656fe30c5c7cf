// The weight gradient as a product of matrices: w[o, (k, i)] = sum over pixels m of y[m, o] * x[m under tap k, i].
//
// Arrays are channels-last, so both factors have their channels in a row and the pixels, which are summed over, down the columns. A
// block owns BM output channels times BN columns (k, i) of one group and one share of the pixels: its sum goes to a place of its own,
// and `added.cu` sums the shares in order. Padding is copied as zeros. Groups of STAGES tiles of BK pixels are on their way to shared
// memory while earlier ones are multiplied.
//
// KIND says how: 0 FMA of float32 or float64; 1 TF32 on tensor cores; 3 float32 as three TF32 products, the two small ones first;
// 2 float16 or bfloat16 on tensor cores (HALF is f16 or bf16); 4 float64 on tensor cores.
#include "_numbers.cuh"

// The fields of `gradient.Reduction`, in its order.
struct Reduction {
    long long batch, groups, c_in, c_out, true_c_in, true_c_out;  // channels of a group, with zeros behind them and without
    long long x_size[3], w_size[3], y_size[3], stride[3], dilation[3], pad_lo[3];
    long long splits, tiles;  // shares of the pixels, and tiles of BK of them in each
    long long step[4];        // BK pixels further, as samples and positions along each axis
};

#define WARPS_N (BN / WN)
#define THREADS (BM / WM * WARPS_N * 32)
// Rows are padded so that the lanes of a warp read from different banks.
#define PAD (KIND == 4 ? 4 : 8)
#define LDA (BM + PAD)
#define LDB (BN + PAD)

struct Pixel {
    int n, p0, p1, p2;
};

template <int Vector> __device__ __forceinline__ void copy(Stored* to, const Stored* from, bool inside)
{
    constexpr int bytes = Vector * sizeof(Stored);
    if constexpr (bytes == 16) copy_async16(to, from, inside);
    else if constexpr (bytes == 8) copy_async8(to, from, inside);
    else if constexpr (bytes == 4) copy_async4(to, from, inside);
    else store(*to, inside ? widened(*from) : Sum(0));
}

// What a warp sums: WM x WN, from rows of pixels in shared memory.
#if KIND == 0
// A thread has TM x 4 sums: rows 8 u + g of its warp's, TM = WM / 8; columns 4 t and on of every 16.
struct Sums {
    Sum of[WM / 8][WN / 4];
    __device__ __forceinline__ void add(const Stored* a, const Stored* b, int g, int t)
    {
#pragma unroll 4
        for (int k = 0; k < BK; ++k) {
            Sum left[WM / 8], right[WN / 4];
#pragma unroll
            for (int i = 0; i < WM / 8; ++i) left[i] = widened(a[k * LDA + 8 * i + g]);
#pragma unroll
            for (int j = 0; j < WN / 4; ++j) right[j] = widened(b[k * LDB + 4 * j + t]);
#pragma unroll
            for (int i = 0; i < WM / 8; ++i)
#pragma unroll
                for (int j = 0; j < WN / 4; ++j) of[i][j] += left[i] * right[j];
        }
    }
    template <class Write> __device__ __forceinline__ void write(int g, int t, Write write)
    {
#pragma unroll
        for (int i = 0; i < WM / 8; ++i)
#pragma unroll
            for (int j = 0; j < WN / 4; ++j) write(8 * i + g, 4 * j + t, of[i][j]);
    }
};
#elif KIND == 4
struct Sums {
    double of[WM / 8][WN / 8][2];
    __device__ __forceinline__ void add(const double* a, const double* b, int g, int t)
    {
#pragma unroll
        for (int k = 0; k < BK; k += 4) {
            double left[WM / 8], right[WN / 8];
#pragma unroll
            for (int i = 0; i < WM / 8; ++i) left[i] = a[(k + t) * LDA + 8 * i + g];
#pragma unroll
            for (int j = 0; j < WN / 8; ++j) right[j] = b[(k + t) * LDB + 8 * j + g];
#pragma unroll
            for (int i = 0; i < WM / 8; ++i)
#pragma unroll
                for (int j = 0; j < WN / 8; ++j) multiply_f64(of[i][j], left[i], right[j]);
        }
    }
    template <class Write> __device__ __forceinline__ void write(int g, int t, Write write)
    {
#pragma unroll
        for (int i = 0; i < WM / 8; ++i)
#pragma unroll
            for (int j = 0; j < WN / 8; ++j)
#pragma unroll
                for (int e = 0; e < 2; ++e) write(8 * i + g, 8 * j + 2 * t + e, of[i][j][e]);
    }
};
#else
struct Sums {
    float of[WM / 16][WN / 8][4];
#if KIND == 2
    __device__ __forceinline__ void add(const Stored* a, const Stored* b, int g, int t)
    {
        const int lane = 4 * g + t, row = lane % 8, which = lane / 8;
#pragma unroll
        for (int k = 0; k < BK; k += 16) {
            unsigned left[WM / 16][4], right[WN / 16][4];
#pragma unroll
            for (int i = 0; i < WM / 16; ++i)
                load_matrices_transposed(left[i], a + (k + row + 8 * (which / 2)) * LDA + 16 * i + 8 * (which % 2));
#pragma unroll
            for (int j = 0; j < WN / 16; ++j)
                load_matrices_transposed(right[j], b + (k + row + 8 * (which % 2)) * LDB + 16 * j + 8 * (which / 2));
#pragma unroll
            for (int i = 0; i < WM / 16; ++i)
#pragma unroll
                for (int j = 0; j < WN / 8; ++j) {
                    const unsigned pair[2] = {right[j / 2][2 * (j % 2)], right[j / 2][2 * (j % 2) + 1]};
                    MULTIPLY(of[i][j], left[i], pair);
                }
        }
    }
#else
    // Tensor cores do not round sums to the nearest: those of a tile are added to the rest by the thread itself.
    __device__ __forceinline__ void add(const float* a, const float* b, int g, int t)
    {
        float tile[WM / 16][WN / 8][4] = {};
#pragma unroll
        for (int k = 0; k < BK; k += 8) {
            unsigned left[WM / 16][4], right[WN / 8][2], rest_left[WM / 16][4], rest_right[WN / 8][2];
#pragma unroll
            for (int i = 0; i < WM / 16; ++i)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const float x = a[(k + t + 4 * (e / 2)) * LDA + 16 * i + g + 8 * (e % 2)];
                    left[i][e] = tf32_bits(x);
                    if (KIND == 3) rest_left[i][e] = tf32_bits(x - __uint_as_float(left[i][e]));
                }
#pragma unroll
            for (int j = 0; j < WN / 8; ++j)
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    const float x = b[(k + t + 4 * e) * LDB + 8 * j + g];
                    right[j][e] = tf32_bits(x);
                    if (KIND == 3) rest_right[j][e] = tf32_bits(x - __uint_as_float(right[j][e]));
                }
#pragma unroll
            for (int i = 0; i < WM / 16; ++i)
#pragma unroll
                for (int j = 0; j < WN / 8; ++j) {
                    if (KIND == 3) {
                        multiply_tf32(tile[i][j], rest_left[i], right[j]);
                        multiply_tf32(tile[i][j], left[i], rest_right[j]);
                    }
                    multiply_tf32(tile[i][j], left[i], right[j]);
                }
        }
#pragma unroll
        for (int i = 0; i < WM / 16; ++i)
#pragma unroll
            for (int j = 0; j < WN / 8; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) of[i][j][e] += tile[i][j][e];
    }
#endif
    template <class Write> __device__ __forceinline__ void write(int g, int t, Write write)
    {
#pragma unroll
        for (int i = 0; i < WM / 16; ++i)
#pragma unroll
            for (int j = 0; j < WN / 8; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) write(16 * i + g + 8 * (e / 2), 8 * j + 2 * t + e % 2, of[i][j][e]);
    }
};
#endif

// partial[split][h][o][k][i] = the sum over the pixels of a share.
extern "C" __global__ void __launch_bounds__(THREADS, 1) summed(const Stored* x, const Stored* y, Sum* partial, const Reduction r)
{
    constexpr int chunks_a = BM / VECTOR_Y, chunks_b = BN / VECTOR_X, rows_a = THREADS / chunks_a, rows_b = THREADS / chunks_b;
    constexpr int passes_a = BK / rows_a, passes_b = BK / rows_b;
    static_assert(THREADS % chunks_a == 0 && THREADS % chunks_b == 0 && BK % rows_a == 0 && BK % rows_b == 0, "a tile's copies");
    DYNAMIC_SHARED(Stored, shared);

    const int thread = threadIdx.x, lane = thread % 32, g = lane / 4, t = lane % 4;
    const int warp_m = thread / 32 / WARPS_N * WM, warp_n = thread / 32 % WARPS_N * WN;
    const int taps = (int)(r.w_size[0] * r.w_size[1] * r.w_size[2]), c_in = (int)r.c_in, c_out = (int)r.c_out, columns = taps * c_in;
    const int tiles_n = (columns + BN - 1) / BN, tiles_m = (c_out + BM - 1) / BM;
    const int h = blockIdx.x / (tiles_n * tiles_m), m0 = blockIdx.x / tiles_n % tiles_m * BM, n0 = blockIdx.x % tiles_n * BN;
    const long long split = blockIdx.y, pixels = r.batch * r.y_size[0] * r.y_size[1] * r.y_size[2], begin = split * r.tiles * BK;

    // This thread's columns: of y, output channels from o; of x, input channels from i under one tap.
    const int o = m0 + thread % chunks_a * VECTOR_Y, row_a = thread / chunks_a;
    const int column = n0 + thread % chunks_b * VECTOR_X, row_b = thread / chunks_b, tap = column / c_in;
    const long long channels_x = r.groups * r.c_in, channels_y = r.groups * r.c_out;
    const Stored* const y_o = y + h * c_out + o;
    const Stored* const x_i = x + h * c_in + (column - tap * c_in);
    const int k2 = tap % (int)r.w_size[2], k01 = tap / (int)r.w_size[2], k1 = k01 % (int)r.w_size[1], k0 = k01 / (int)r.w_size[1];
    const int q0 = k0 * (int)r.dilation[0] - (int)r.pad_lo[0], q1 = k1 * (int)r.dilation[1] - (int)r.pad_lo[1];
    const int q2 = k2 * (int)r.dilation[2] - (int)r.pad_lo[2];

    Pixel at[passes_b];
#pragma unroll
    for (int i = 0; i < passes_b; ++i) {
        const long long m = begin + row_b + i * rows_b, plane = m / r.y_size[2], volume = plane / r.y_size[1];
        at[i] = {(int)(volume / r.y_size[0]), (int)(volume % r.y_size[0]), (int)(plane % r.y_size[1]), (int)(m % r.y_size[2])};
    }

    // Tiles are copied in order; the pixels under x move on by BK each time, with carries.
    auto load = [&](int tile) {
        Stored* const to_a = shared + tile % STAGES * BK * (LDA + LDB);
        Stored* const to_b = to_a + BK * LDA;
#pragma unroll
        for (int i = 0; i < passes_a; ++i) {
            const int row = row_a + i * rows_a;
            const long long m = begin + (long long)tile * BK + row;
            const bool inside = m < pixels && o < c_out;
            copy<VECTOR_Y>(to_a + row * LDA + thread % chunks_a * VECTOR_Y, inside ? y_o + m * channels_y : y, inside);
        }
#pragma unroll
        for (int i = 0; i < passes_b; ++i) {
            Pixel& p = at[i];
            const int s0 = p.p0 * (int)r.stride[0] + q0, s1 = p.p1 * (int)r.stride[1] + q1, s2 = p.p2 * (int)r.stride[2] + q2;
            const bool inside = p.n < r.batch && column < columns && (unsigned)s0 < (unsigned)r.x_size[0] &&
                                (unsigned)s1 < (unsigned)r.x_size[1] && (unsigned)s2 < (unsigned)r.x_size[2];
            const long long q = ((p.n * r.x_size[0] + s0) * r.x_size[1] + s1) * r.x_size[2] + s2;
            copy<VECTOR_X>(to_b + (row_b + i * rows_b) * LDB + thread % chunks_b * VECTOR_X, inside ? x_i + q * channels_x : x, inside);
            p.p2 += (int)r.step[3];
            const int carry2 = p.p2 >= (int)r.y_size[2];
            p.p2 -= carry2 * (int)r.y_size[2];
            p.p1 += (int)r.step[2] + carry2;
            const int carry1 = p.p1 >= (int)r.y_size[1];
            p.p1 -= carry1 * (int)r.y_size[1];
            p.p0 += (int)r.step[1] + carry1;
            const int carry0 = p.p0 >= (int)r.y_size[0];
            p.p0 -= carry0 * (int)r.y_size[0];
            p.n += (int)r.step[0] + carry0;
        }
    };

    Sums sums = {};
    const int tiles = (int)r.tiles;
#pragma unroll
    for (int tile = 0; tile < STAGES - 1; ++tile) {
        if (tile < tiles) load(tile);
        copy_group();
    }
    for (int tile = 0; tile < tiles; ++tile) {
        copy_wait<STAGES - 2>();
        __syncthreads();  // this tile is there for all threads, and all have read the one whose place is filled next
        if (tile + STAGES - 1 < tiles) load(tile + STAGES - 1);
        copy_group();
        const Stored* const a = shared + tile % STAGES * BK * (LDA + LDB);
        sums.add(a + warp_m, a + BK * LDA + warp_n, g, t);
    }
    copy_wait<0>();

    Sum* const to = partial + (split * r.groups + h) * c_out * columns;
    sums.write(g, t, [&](int m, int n, Sum sum) {
        m += m0 + warp_m, n += n0 + warp_n;
        if (m < c_out && n < columns) to[(long long)m * columns + n] = sum;
    });
}
