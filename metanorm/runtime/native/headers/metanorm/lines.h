/* Statistics of narrow values that lie on lines: `count` numbers, `step` apart, added up in double. */

static inline double total_along(const real *x, int64_t count, int64_t step) {
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; i++) total += x[i * step];
    return total;
}

static inline real sum_along(const real *x, int64_t count, int64_t step) {
    return (real)total_along(x, count, step);
}

static inline real mean_along(const real *x, int64_t count, int64_t step) {
    return (real)(count ? total_along(x, count, step) / (double)count : 0);
}

/* The mean and the variance about it, wherever they are wanted. */
static inline void moments_along(const real *x, int64_t count, int64_t step, real *mean,
                                 real *var) {
    const double centre = count ? total_along(x, count, step) / (double)count : 0;
    double squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < count; i++) {
        const double gap = x[i * step] - centre;
        squares += gap * gap;
    }
    if (mean) *mean = (real)centre;
    if (var) *var = (real)(count ? squares / (double)count : 0);
}

/* Sums of `count` columns: down all rows, which are `row_step` apart, of all blocks of them. */
static inline void sums_across(const real *x, int64_t blocks, int64_t block_step, int64_t rows,
                               int64_t row_step, int64_t count, real *sums) {
    for (int64_t begin = 0; begin < count; begin += STRIP) {
        const int64_t length = min(STRIP, count - begin);
        double total[STRIP] = {0};
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t i = 0; i < rows; i++)
                add_up(total, x + block * block_step + i * row_step + begin, length);
#pragma omp simd
        for (int64_t i = 0; i < length; i++) sums[begin + i] = (real)total[i];
    }
}
