// Random words, uniform and normal numbers, made where they are wanted: a thread makes all that a block of four words gives.
//
// Four bytes are written per number and nothing but the samples' places is read. A block takes about 100 integer instructions,
// so the bound is the integer units of large draws, near that of memory, and the launch of small ones (a prediction: no GPU has
// run this).
#include "_philox.cuh"

// The fields of philox_cuda.Draws, in its order.
struct Draws {
    long long n, count;
    Origin origin;
};

template <class T, int N> struct __align__(N * sizeof(T)) Together {
    T at[N];
};

// Write what is inside of N numbers from `first` on; in one piece where every row begins at a multiple of it.
template <class T, int N>
__device__ __forceinline__ void put(T* row, long long first, long long count, const Together<T, N>& made)
{
    if (count % N == 0) {
        *(Together<T, N>*)(row + first) = made;
        return;
    }
    for (int j = 0; j < N; ++j)
        if (first + j < count) row[first + j] = made.at[j];
}

template <class T, int N, class Make>
__device__ __forceinline__ void fill(const long long* samples, T* out, const Draws& g, Make make)
{
    const long long blocks = (g.count + N - 1) / N;
    for (long long t = first_element(); t < g.n * blocks; t += threads()) {
        const long long i = t / blocks, b = t - i * blocks;
        unsigned words[4];
        draw(words, (unsigned)b, (unsigned)samples[i], g.origin);
        Together<T, N> made;
        make(made, words);
        put(out + i * g.count, N * b, g.count, made);
    }
}

constexpr int PER_BLOCK = 16 / sizeof(Sum);

extern "C" __global__ void draw_bits(const long long* samples, unsigned* out, const Draws g)
{
    fill<unsigned, 4>(samples, out, g, [](Together<unsigned, 4>& made, const unsigned (&words)[4]) {
        for (int j = 0; j < 4; ++j) made.at[j] = words[j];
    });
}

extern "C" __global__ void draw_uniform(const long long* samples, Stored* out, const Draws g)
{
    fill<Stored, PER_BLOCK>(samples, out, g, [](Together<Stored, PER_BLOCK>& made, const unsigned (&words)[4]) {
        Sum u[PER_BLOCK];
        make_uniform(u, words);
        for (int j = 0; j < PER_BLOCK; ++j) store(made.at[j], u[j]);
    });
}

extern "C" __global__ void draw_normal(const long long* samples, Stored* out, const Draws g)
{
    fill<Stored, PER_BLOCK>(samples, out, g, [](Together<Stored, PER_BLOCK>& made, const unsigned (&words)[4]) {
        Sum z[PER_BLOCK];
        make_normal(z, words);
        for (int j = 0; j < PER_BLOCK; ++j) store(made.at[j], z[j]);
    });
}
