/* Sums and moments of cells, and how those of parts become those of a whole. */

/* The larger or smaller one of two numbers, NaN if either is. Functions, for a macro would have its
 * arguments twice, and GCC 12 vectorises a choice that stands there twice wrongly. */
static inline float larger_float(float a, float b) { return a > b || a != a ? a : b; }
static inline float smaller_float(float a, float b) { return a < b || a != a ? a : b; }
static inline double larger_double(double a, double b) { return a > b || a != a ? a : b; }
static inline double smaller_double(double a, double b) { return a < b || a != a ? a : b; }
#define LARGER(a, b) _Generic((a), float: larger_float, double: larger_double)(a, b)
#define SMALLER(a, b) _Generic((a), float: smaller_float, double: smaller_double)(a, b)
#pragma omp declare reduction(larger : float, double : omp_out = LARGER(omp_out, omp_in)) \
    initializer(omp_priv = -INFINITY)
#pragma omp declare reduction(smaller : float, double : omp_out = SMALLER(omp_out, omp_in)) \
    initializer(omp_priv = INFINITY)

/* Sums and moments of cells, in double, since many tiles are added to one. */
typedef struct {
    double *weight, *mean, *total; /* of a sum only `total`, which of moments is of squares,
                                    * and of an extreme is that */
    int64_t lo[AXES], stride[AXES];
} accumulator;

/* The number of a cell among those of an accumulator. */
static inline int64_t cell(const accumulator *a, const int64_t *at) {
    int64_t found = 0;
    for (int axis = 0; axis < VECTOR; axis++) found += (at[axis] - a->lo[axis]) * a->stride[axis];
    return found;
}

/* The same where cells lie along rows: then they are neighbours. */
static inline int64_t cell_along(const accumulator *a, const int64_t *at) {
    return cell(a, at) + (at[VECTOR] - a->lo[VECTOR]);
}

/* Chan's rule: the moments of a union, from those of its parts. */
static inline void merge(double *weight, double *mean, double *total, double more, double centre,
                         double squares) {
    if (more == 0) return;
    const double sum = *weight + more, gap = centre - *mean, part = more / sum;
    *mean += gap * part;
    *total += squares + gap * gap * *weight * part;
    *weight = sum;
}

/* A tile of `more` elements, whose mean was taken for `centre` but is off by a share of `drift`:
 * the sum of all differences from it, as `squares` is that of their squares. */
static inline void merge_at(const accumulator *a, int64_t cell, double more, double centre,
                            double drift, double squares) {
    if (more == 0) return;
    const double off = drift / more;
    merge(a->weight + cell, a->mean + cell, a->total + cell, more, centre + off,
          squares - off * drift);
}

/* The same for a run of cells that all take in `more` elements. */
static void merge_alike(const accumulator *a, int64_t cell, double more,
                        const real *restrict centre, const real *restrict drift,
                        const real *restrict squares, int64_t count) {
    double *restrict weight = a->weight + cell, *restrict mean = a->mean + cell;
    double *restrict total = a->total + cell;
    if (more == 0 || count == 0) return;
    const double before = weight[0], part = more / (before + more), both = before * part;
    const double share = 1 / more;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        const double off = drift[i] * share, gap = (double)centre[i] + off - mean[i];
        mean[i] += gap * part;
        total[i] += (double)squares[i] - off * drift[i] + gap * gap * both;
        weight[i] = before + more;
    }
}

static void merge_each(const accumulator *a, int64_t cell, const real *more, const real *centre,
                       const real *drift, const real *squares, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        merge_at(a, cell + i, more[i], centre[i], drift[i], squares[i]);
}

/* What was measured of a cell: a sum, a mean, and the mean of what was added up (a variance, of
 * squares), which is zero where nothing was. */
static inline double total_of(const accumulator *a, int64_t here) { return a->total[here]; }

static inline double centre_of(const accumulator *a, int64_t here) { return a->mean[here]; }

static inline double quotient_of(const accumulator *a, int64_t here) {
    const double weight = a->weight[here], total = a->total[here]; /* read both: no branch */
    return weight != 0 ? total / weight : 0;
}

/* The same in `real`. */
static inline real sum_of(const accumulator *a, int64_t here) { return (real)total_of(a, here); }

static inline real mean_of(const accumulator *a, int64_t here) { return (real)centre_of(a, here); }

static inline real share_of(const accumulator *a, int64_t here) {
    return (real)quotient_of(a, here);
}

/* The largest or smallest value; zero where nothing counts. */
static inline real extreme_of(const accumulator *a, int64_t here) {
    return a->weight[here] != 0 ? (real)a->total[here] : 0;
}

static inline void add_up(double *restrict total, const real *restrict more, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) total[i] += (double)more[i];
}
