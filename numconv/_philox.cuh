// Random numbers that are functions of a counter: Philox4x32-10 (Salmon et al., SC11), in the layout of numconv/train/random.py.
#include "_numbers.cuh"

// Whose numbers: the key's two words, and the counter's last two.
struct Origin {
    long long low, high, epoch, stream;
};

// The four words of one block of a sample.
__device__ __forceinline__ void draw(unsigned (&c)[4], unsigned block, unsigned sample, const Origin& origin)
{
    unsigned k0 = (unsigned)origin.low, k1 = (unsigned)origin.high;
    c[0] = block, c[1] = sample, c[2] = (unsigned)origin.epoch, c[3] = (unsigned)origin.stream;
    for (int round = 0; round < 10; ++round) {
        const unsigned long long p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
        c[0] = (unsigned)(p1 >> 32) ^ c[1] ^ k0, c[1] = (unsigned)p1;
        c[2] = (unsigned)(p0 >> 32) ^ c[3] ^ k1, c[3] = (unsigned)p0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
}

// Numbers in [0, 1), exact: the first 24 bits of each word, or 53 of each two, the first word being the lower half.
__device__ __forceinline__ void make_uniform(float (&u)[4], const unsigned (&words)[4])
{
    for (int j = 0; j < 4; ++j) u[j] = (float)(words[j] >> 8) * 0x1p-24f;
}
__device__ __forceinline__ void make_uniform(double (&u)[2], const unsigned (&words)[4])
{
    for (int j = 0; j < 2; ++j)
        u[j] = (double)(((unsigned long long)words[2 * j + 1] << 32 | words[2 * j]) >> 11) * 0x1p-53;
}

__device__ __forceinline__ float radius_of(float u) { return sqrtf(-2 * logf(1 - u)); }  // 1 - u is exact and never 0
__device__ __forceinline__ double radius_of(double u) { return sqrt(-2 * log(1 - u)); }
__device__ __forceinline__ void turned(float turn, float& sine, float& cosine) { sincospif(2 * turn, &sine, &cosine); }
__device__ __forceinline__ void turned(double turn, double& sine, double& cosine) { sincospi(2 * turn, &sine, &cosine); }

// Box and Muller's transform of pairs of uniform numbers. CUDA's log, sincospi and sqrt err by at most 1, 2 (float: 1) and 0 units
// in the last place, so a number by at most 4 (float: 3).
template <class T, int N> __device__ __forceinline__ void make_normal(T (&z)[N], const unsigned (&words)[4])
{
    make_uniform(z, words);
    for (int j = 0; j < N; j += 2) {
        const T radius = radius_of(z[j]);
        T sine, cosine;
        turned(z[j + 1], sine, cosine);
        z[j] = radius * cosine, z[j + 1] = radius * sine;
    }
}
