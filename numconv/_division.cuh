// Quotients by numbers that a whole launch shares.
//
// n / d for 0 <= n and 0 < d. In 32 bits a product and a shift: the factor is in the lower half of `by`, the shift above, as
// `_cuda.reciprocal(d)` makes it.
__device__ __forceinline__ int quotient(int n, int d, long long by)
{
    return d == 1 ? n : (int)(__umulhi((unsigned)n, (unsigned)by) >> (int)(by >> 32));
}
__device__ __forceinline__ long long quotient(long long n, long long d, long long) { return n / d; }
