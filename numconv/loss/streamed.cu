// Rows of u against rows of v: softmax of the logits s[i][j] = <u_i, v_j> / T, whose matrix is never in memory. A block makes it a tile
// of 64 x 64 at a time, for 64 rows of u: `statistics` keeps the largest logit and the sum of exponentials of each row, `gradient`
// makes the tiles again and multiplies what they say by v.
//
// Where u and v are the same views (apart = 1), no row is its own partner. The wanted partner of row i is (i + shift) mod columns.
#include "_numbers.cuh"

// The fields of `streamed.Streamed`, in its order.
struct Streamed {
    long long rows, columns, dim, shift, apart;
    double inverse;  // 1 / T
    double by_row, by_column;
};

#define TILE 64
#define DEEP 16          // of the inner products' dimension, or of the columns, in shared memory at a time
#define SLICE 128        // dimensions of the gradient that a block makes
#define PITCH (TILE + 1)
#define THREADS 256      // thread 16 a + b has rows 4 a to 4 a + 3 and columns b, b + 16, b + 32, b + 48 of a tile

// The tile of logits of these rows and columns; all threads of a block together.
__device__ __forceinline__ void logits(const Stored* u, const Stored* v, long long row0, long long column0, Sum* left, Sum* right,
                                       const Streamed& r, Sum (&s)[4][4])
{
    const int a = threadIdx.x / 16, b = threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) s[i][j] = 0;
    for (long long k0 = 0; k0 < r.dim; k0 += DEEP) {
        __syncthreads();  // all have read what was there
        for (int at = threadIdx.x; at < TILE * DEEP; at += THREADS) {
            const int line = at / DEEP, k = at % DEEP;
            const bool inside = k0 + k < r.dim;
            left[k * PITCH + line] = inside && row0 + line < r.rows ? widened(u[(row0 + line) * r.dim + k0 + k]) : Sum(0);
            right[k * PITCH + line] = inside && column0 + line < r.columns ? widened(v[(column0 + line) * r.dim + k0 + k]) : Sum(0);
        }
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < DEEP; ++k) {
            Sum x[4], y[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) x[i] = left[k * PITCH + 4 * a + i], y[i] = right[k * PITCH + b + 16 * i];
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) s[i][j] += x[i] * y[j];
        }
    }
    const Sum inverse = (Sum)r.inverse;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) s[i][j] *= inverse;
}

__device__ __forceinline__ bool may_choose(long long row, long long column, const Streamed& r)
{
    return row < r.rows && column < r.columns && !(r.apart && row == column);
}

// terms[i] = log sum of exp(s) - s of the partner, most[i] the largest logit, total[i] the sum of exp(s - most).
extern "C" __global__ void __launch_bounds__(THREADS) statistics(const Stored* u, const Stored* v, Stored* terms, Stored* most, Stored* total,
                                                                 const Streamed r)
{
    __shared__ Sum left[DEEP * PITCH], right[DEEP * PITCH];
    const int a = threadIdx.x / 16, b = threadIdx.x % 16;
    const long long row0 = blockIdx.x * (long long)TILE;
    const Sum least = -(Sum)r.inverse * 4 - 1;  // below every logit of unit vectors, and finite
    Sum largest[4], sum[4], wanted[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) largest[i] = least, sum[i] = 0, wanted[i] = 0;
    for (long long column0 = 0; column0 < r.columns; column0 += TILE) {
        Sum s[4][4];
        logits(u, v, row0, column0, left, right, r, s);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const long long row = row0 + 4 * a + i;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const long long column = column0 + b + 16 * j;
                if (!may_choose(row, column, r)) continue;
                const Sum here = s[i][j];
                if (here > largest[i]) sum[i] = sum[i] * exp(largest[i] - here) + 1, largest[i] = here;
                else sum[i] += exp(here - largest[i]);
                if (column == (row + r.shift) % r.columns) wanted[i] = here;
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const long long row = row0 + 4 * a + i;
        for (int by = 8; by; by /= 2) {  // among the 16 threads of these rows
            const Sum other = __shfl_xor_sync(0xffffffffu, largest[i], by), more = __shfl_xor_sync(0xffffffffu, sum[i], by);
            const Sum both = other > largest[i] || other != other ? other : largest[i];
            sum[i] = sum[i] * exp(largest[i] - both) + more * exp(other - both);
            largest[i] = both;
            wanted[i] += __shfl_xor_sync(0xffffffffu, wanted[i], by);  // one of them has it, the others zero
        }
        if (b == 0 && row < r.rows) {
            store(terms[row], log(sum[i]) + (largest[i] - wanted[i]));
            store(most[row], largest[i]);
            store(total[row], sum[i]);
        }
    }
}

// du_i = 1 / T times the sum over j of d[i][j] v_j, with
// d[i][j] = by_row (p of j among i's - [j is i's partner]) + by_column (p of i among j's - [i is j's partner]).
// A block owns 64 rows and a slice of the dimensions.
extern "C" __global__ void __launch_bounds__(THREADS) gradient(const Stored* u, const Stored* v, const Stored* most_u, const Stored* total_u,
                                                               const Stored* most_v, const Stored* total_v, Stored* du, const Streamed r)
{
    DYNAMIC_SHARED(Sum, shared);
    Sum* const left = shared;  // and, after the logits are made, rows of v
    Sum* const right = left + DEEP * PITCH;
    Sum* const weights = shared + DEEP * (2 * PITCH > SLICE ? 2 * PITCH : SLICE);
    const int a = threadIdx.x / 16, b = threadIdx.x % 16;
    const long long row0 = blockIdx.x * (long long)TILE, dim0 = blockIdx.y * (long long)SLICE;
    Sum sum[4][SLICE / 16] = {};
    for (long long column0 = 0; column0 < r.columns; column0 += TILE) {
        Sum s[4][4];
        logits(u, v, row0, column0, left, right, r, s);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const long long row = row0 + 4 * a + i;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const long long column = column0 + b + 16 * j;
                Sum d = 0;
                if (may_choose(row, column, r)) {
                    if (r.by_row != 0) {
                        d += (Sum)r.by_row * (exp(s[i][j] - widened(most_u[row])) / widened(total_u[row]) -
                                              (column == (row + r.shift) % r.columns ? Sum(1) : Sum(0)));
                    }
                    if (r.by_column != 0) {
                        d += (Sum)r.by_column * (exp(s[i][j] - widened(most_v[column])) / widened(total_v[column]) -
                                                 (row == (column + r.shift) % r.rows ? Sum(1) : Sum(0)));
                    }
                }
                weights[(b + 16 * j) * PITCH + 4 * a + i] = d;
            }
        }
        for (int j0 = 0; j0 < TILE; j0 += DEEP) {
            __syncthreads();  // all have read the rows of v that were there, or, at first, the factors of the logits
            for (int at = threadIdx.x; at < DEEP * SLICE; at += THREADS) {
                const long long column = column0 + j0 + at / SLICE, k = dim0 + at % SLICE;
                shared[at] = column < r.columns && k < r.dim ? widened(v[column * r.dim + k]) : Sum(0);
            }
            __syncthreads();
#pragma unroll 4
            for (int j = 0; j < DEEP; ++j)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const Sum weight = weights[(j0 + j) * PITCH + 4 * a + i];
#pragma unroll
                    for (int k = 0; k < SLICE / 16; ++k) sum[i][k] += weight * shared[j * SLICE + b + 16 * k];
                }
        }
    }
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int k = 0; k < SLICE / 16; ++k) {
            const long long row = row0 + 4 * a + i, dim = dim0 + b + 16 * k;
            if (row < r.rows && dim < r.dim) store(du[row * r.dim + dim], sum[i][k] * (Sum)r.inverse);
        }
}
