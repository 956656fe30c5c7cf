// The functions of numconv/_ptx.cuh on a CPU, in the same order: what each says it does, and hostile where PTX is.
//
// A copy_async lands at the wait of its thread that must see it, and not before; until then its destination is NaN. Products are
// exact, summed in double and rounded once per instruction; tensor cores truncate on the way, so a GPU may differ in more bits.
#pragma once

#define NUMCONV_EMULATED
#define DYNAMIC_SHARED(T, name) T* const name = (T*)cudasim::dynamic_shared

namespace cudasim {

inline void copy_async(void* to, const void* from, unsigned size, bool inside, int line)
{
    if ((uintptr_t)to % size || (uintptr_t)from % size) die("an asynchronous copy is not aligned to its size", line);
    if ((char*)to < dynamic_shared || (char*)to + size > dynamic_shared + dynamic_bytes)
        die("an asynchronous copy ends outside of the dynamic shared memory", line);
    memset(to, 0xff, size);
    fiber->copies.push_back({to, inside ? from : nullptr, size});
}

inline void copies_land(size_t count)
{
    for (size_t i = 0; i < count; ++i) {
        const Copy& c = fiber->copies[i];
        if (c.from) memcpy(c.to, c.from, c.size);
        else memset(c.to, 0, c.size);
    }
    fiber->copies.erase(fiber->copies.begin(), fiber->copies.begin() + count);
}

// c[g + 8 i][2 t + j] += sum over k of a[.][k] b[k][.], by functions that find the numbers among what the lanes gave.
template <int K, class A, class B> void multiply(float (&c)[4], A a, B b)
{
    const int g = fiber->lane / 4, t = fiber->lane % 4;
    for (int i = 0; i < 4; ++i) {
        double sum = c[i];
        for (int k = 0; k < K; ++k) sum += (double)a(g + 8 * (i / 2), k) * b(k, 2 * t + i % 2);
        c[i] = (float)sum;
    }
}

template <class Widen> void multiply_halves(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], Widen widen, int line)
{
    struct Given {
        unsigned a[4], b[2];
    } given = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    auto slots = exchange(~0u, given, line);
    auto at = [&](int lane) { return (const Given*)slots[lane]; };
    multiply<16>(
        c, [&](int r, int k) { return widen(at(r % 8 * 4 + k % 8 / 2)->a[r / 8 + 2 * (k / 8)] >> 16 * (k & 1)); },
        [&](int k, int n) { return widen(at(n * 4 + k % 8 / 2)->b[k / 8] >> 16 * (k & 1)); });
}

inline void matrices(unsigned (&r)[4], const void* row, bool transposed, int line)
{
    if ((uintptr_t)row % 16) die("a row of a matrix is not aligned to 16 bytes", line);
    auto slots = exchange(~0u, row, line);
    const unsigned g = fiber->lane / 4, t = fiber->lane % 4;
    for (int m = 0; m < 4; ++m) {
        auto number = [&](unsigned i, unsigned j) {
            const uint16_t* from;
            memcpy(&from, slots[8 * m + i], sizeof from);
            return (unsigned)from[j];
        };
        r[m] = transposed ? number(2 * t, g) | number(2 * t + 1, g) << 16 : number(g, 2 * t) | number(g, 2 * t + 1) << 16;
    }
}

}  // namespace cudasim

inline unsigned __float_as_uint(float x)
{
    unsigned u;
    memcpy(&u, &x, 4);
    return u;
}
inline float __uint_as_float(unsigned u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

inline void copy_async16(void* to, const void* from, bool inside, int line = __builtin_LINE()) { cudasim::copy_async(to, from, 16, inside, line); }
inline void copy_async8(void* to, const void* from, bool inside, int line = __builtin_LINE()) { cudasim::copy_async(to, from, 8, inside, line); }
inline void copy_async4(void* to, const void* from, bool inside, int line = __builtin_LINE()) { cudasim::copy_async(to, from, 4, inside, line); }
inline void copy_group() { cudasim::fiber->groups.push_back(cudasim::fiber->copies.size()); }
template <int N> void copy_wait()
{
    auto& groups = cudasim::fiber->groups;
    if (groups.size() <= N) return;
    const size_t landed = groups[groups.size() - N - 1];
    groups.erase(groups.begin(), groups.end() - N);
    for (size_t& end : groups) end -= landed;
    cudasim::copies_land(landed);
}

inline unsigned tf32_bits(float x)
{
    if (x != x) return 0x7fc00000u;  // rounded as a number, the NaN that memory is poisoned with would become 0
    return (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
}
inline float float_of_half_bits(unsigned short h)
{
    _Float16 x;
    memcpy(&x, &h, 2);
    return x;
}
inline unsigned short half_bits(float x)
{
    const _Float16 half = (_Float16)x;
    unsigned short h;
    memcpy(&h, &half, 2);
    return h;
}

inline void multiply_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line = __builtin_LINE())
{
    struct Given {
        unsigned a[4], b[2];
    } given = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    auto slots = cudasim::exchange(~0u, given, line);
    auto at = [&](int lane) { return (const Given*)slots[lane]; };
    auto value = [](unsigned u) { return __uint_as_float(u & 0xffffe000u); };  // the other bits are not read
    cudasim::multiply<8>(
        c, [&](int r, int k) { return value(at(r % 8 * 4 + k % 4)->a[r / 8 + 2 * (k / 4)]); },
        [&](int k, int n) { return value(at(n * 4 + k % 4)->b[k / 4]); });
}
inline void multiply_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line = __builtin_LINE())
{
    cudasim::multiply_halves(c, a, b, [](unsigned u) { return float_of_half_bits((unsigned short)u); }, line);
}
inline void multiply_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line = __builtin_LINE())
{
    cudasim::multiply_halves(c, a, b, [](unsigned u) { return __uint_as_float(u << 16); }, line);
}
inline void multiply_f64(double (&c)[2], double a, double b, int line = __builtin_LINE())
{
    struct Given {
        double a, b;
    } given = {a, b};
    auto slots = cudasim::exchange(~0u, given, line);
    const int g = cudasim::fiber->lane / 4, t = cudasim::fiber->lane % 4;
    for (int j = 0; j < 2; ++j)
        for (int k = 0; k < 4; ++k) c[j] += ((const Given*)slots[4 * g + k])->a * ((const Given*)slots[4 * (2 * t + j) + k])->b;
}

inline void load_matrices(unsigned (&r)[4], const void* row, int line = __builtin_LINE()) { cudasim::matrices(r, row, false, line); }
inline void load_matrices_transposed(unsigned (&r)[4], const void* row, int line = __builtin_LINE()) { cudasim::matrices(r, row, true, line); }
