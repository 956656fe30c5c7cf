// Matrices turned: to[b][c][r] = from[b][r][c] for each b, and zeros where r is past the rows, up to `pitch`.
//
// A tile of 32 x 32 goes through shared memory, so that both sides are read and written along their memory. With rows the
// channels and columns the positions it makes an array channels last; the other way round, channels first.
#include "_numbers.cuh"

struct Turn {
    long long batch, rows, columns, pitch;
};

static constexpr int TILE = 32, DEPTH = 8;  // a block has TILE x DEPTH threads

extern "C" __global__ void __launch_bounds__(256) turn(const Stored* from, Stored* to, const Turn g)
{
    __shared__ Stored tile[TILE][TILE + 1];
    const int lane = threadIdx.x % TILE, line = threadIdx.x / TILE;
    const long long down = (g.pitch + TILE - 1) / TILE, across = (g.columns + TILE - 1) / TILE;
    for (long long t = blockIdx.x; t < g.batch * down * across; t += gridDim.x) {
        const long long c0 = t % across * TILE, r0 = t / across % down * TILE, b = t / across / down;
        for (int i = line; i < TILE; i += DEPTH) {
            const long long r = r0 + i, c = c0 + lane;
            Stored x = {};
            if (r < g.rows && c < g.columns) x = from[(b * g.rows + r) * g.columns + c];
            tile[i][lane] = x;
        }
        __syncthreads();
        for (int i = line; i < TILE; i += DEPTH) {
            const long long r = r0 + lane, c = c0 + i;
            if (r < g.pitch && c < g.columns) to[(b * g.columns + c) * g.pitch + r] = tile[lane][i];
        }
        __syncthreads();
    }
}
