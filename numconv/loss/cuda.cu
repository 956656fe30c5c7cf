// Cross entropy of a softmax and a label: no array of the logits' size is made on the way to the value.
#include "_rows.cuh"

// A label that is no class gives NaN.
// terms = log(total) - ((1 - s) * (x[label] - most) + s / n * sum of (x - most)); most and total are kept for the slope.
extern "C" __global__ void cross_entropy(const Stored* x, const long long* labels, Stored* terms, Stored* most, Stored* total, const Rows r)
{
    __shared__ Sum scratch[32];
    const Sum smoothing = (Sum)r.smoothing;
    for (long long row = first_row(); row < r.outer * r.inner; row += teams()) {
        const Stored* const x_row = x + start(row, r);
        const Sum m = largest(x_row, r, scratch), t = sum_exp(x_row, m, r, scratch);
        Sum even = 0;
        if (smoothing > 0) {  // else a class ruled out by a logit of -inf would count, as 0 * inf
            for (long long k = member(); k < r.n; k += TEAM) even += widened(x_row[k * r.inner]) - m;
            even = team_sum(even, scratch) * (smoothing / r.n);
        }
        if (member() == 0) {
            const long long label = labels[row];
            const Sum x_label = 0 <= label && label < r.n ? widened(x_row[label * r.inner]) : Sum(__uint_as_float(0x7fc00000));
            store(terms[row], log(t) - ((1 - smoothing) * (x_label - m) + even));
            store(most[row], m);
            store(total[row], t);
        }
    }
}

// dx[k] = share * (exp(x[k] - most) / total - s / n - (1 - s) * [k is the label]); share is one for all, or one per row.
extern "C" __global__ void cross_entropy_slope(const Stored* x, const long long* labels, const Stored* most, const Stored* total,
                                               const Stored* share, const Stored* one_share, Stored* dx, const Rows r)
{
    const Sum smoothing = (Sum)r.smoothing, even = smoothing / r.n;
    for (long long row = first_row(); row < r.outer * r.inner; row += teams()) {
        const long long at = start(row, r), label = labels[row];
        const Sum m = widened(most[row]), t = widened(total[row]), s = widened(share ? share[row] : *one_share);
        for (long long k = member(); k < r.n; k += TEAM)
            store(dx[at + k * r.inner], s * (exp(widened(x[at + k * r.inner]) - m) / t - even - (k == label ? 1 - smoothing : Sum(0))));
    }
}
