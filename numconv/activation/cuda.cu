// Softmax, its logarithm, and their pullbacks.
#include "_rows.cuh"

// y = exp(x - most) / total.
extern "C" __global__ void softmax(const Stored* x, Stored* y, const Rows r)
{
    __shared__ Sum scratch[32];
    for (long long row = first_row(); row < r.outer * r.inner; row += teams()) {
        const Stored* const x_row = x + start(row, r);
        Stored* const y_row = y + start(row, r);
        const Sum most = largest(x_row, r, scratch), total = sum_exp(x_row, most, r, scratch);
        for (long long k = member(); k < r.n; k += TEAM) store(y_row[k * r.inner], exp(widened(x_row[k * r.inner]) - most) / total);
    }
}

// y = (x - most) - log(total).
extern "C" __global__ void log_softmax(const Stored* x, Stored* y, const Rows r)
{
    __shared__ Sum scratch[32];
    for (long long row = first_row(); row < r.outer * r.inner; row += teams()) {
        const Stored* const x_row = x + start(row, r);
        Stored* const y_row = y + start(row, r);
        const Sum most = largest(x_row, r, scratch), rest = log(sum_exp(x_row, most, r, scratch));
        for (long long k = member(); k < r.n; k += TEAM) store(y_row[k * r.inner], (widened(x_row[k * r.inner]) - most) - rest);
    }
}

// dx = y * (dy - sum of y * dy).
extern "C" __global__ void softmax_pullback(const Stored* y, const Stored* dy, Stored* dx, const Rows r)
{
    __shared__ Sum scratch[32];
    for (long long row = first_row(); row < r.outer * r.inner; row += teams()) {
        const long long at = start(row, r);
        Sum sum = 0;
        for (long long k = member(); k < r.n; k += TEAM) sum += widened(y[at + k * r.inner]) * widened(dy[at + k * r.inner]);
        sum = team_sum(sum, scratch);
        for (long long k = member(); k < r.n; k += TEAM)
            store(dx[at + k * r.inner], widened(y[at + k * r.inner]) * (widened(dy[at + k * r.inner]) - sum));
    }
}

// dx = dy - exp(y) * sum of dy.
extern "C" __global__ void log_softmax_pullback(const Stored* y, const Stored* dy, Stored* dx, const Rows r)
{
    __shared__ Sum scratch[32];
    for (long long row = first_row(); row < r.outer * r.inner; row += teams()) {
        const long long at = start(row, r);
        Sum sum = 0;
        for (long long k = member(); k < r.n; k += TEAM) sum += widened(dy[at + k * r.inner]);
        sum = team_sum(sum, scratch);
        for (long long k = member(); k < r.n; k += TEAM)
            store(dx[at + k * r.inner], widened(dy[at + k * r.inner]) - exp(widened(y[at + k * r.inner])) * sum);
    }
}
