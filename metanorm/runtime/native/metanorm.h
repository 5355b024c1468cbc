/* What the kernels of generated modules are written in: rows of tensors, accumulators, schedule.
 *
 * A kernel defines AXES, the number of axes it loops over (GROUPS and ROWS are those of groups and
 * of their rows, or -1) and DIMS, that of its tensors, and includes this file. `real` is the
 * type of all arithmetic: float, or double for tensors of doubles. Data in half precision is
 * widened row by row as it is read and rounded as it is written.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __SSE2__
#include <immintrin.h>
#endif

#ifdef METANORM_DOUBLE
typedef double real;
#define REAL_TYPE FLOAT64
#define R(function) function
#else
typedef float real;
#define REAL_TYPE FLOAT32
#define R(function) function##f
#endif
#if defined(__GNUC__)
#define EXPORTED __attribute__((visibility("default")))
#else
#define EXPORTED
#endif

/* glibc has these for whole vectors (to four units in the last place), but says so under
 * -ffast-math alone. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(_OPENMP) && !defined(__clang__)
#define BY_VECTORS(function) \
    _Pragma("omp declare simd notinbranch") extern real R(function)(real);
#if __GLIBC_PREREQ(2, 22)
BY_VECTORS(exp)
BY_VECTORS(log)
BY_VECTORS(sin)
BY_VECTORS(cos)
#endif
#if __GLIBC_PREREQ(2, 35)
BY_VECTORS(tanh)
BY_VECTORS(erf)
BY_VECTORS(log1p)
#endif
#endif

#define TILE 4096        /* elements of a row that are looked at together */
#define TILE_AREA 65536  /* elements of several rows that are: two looks at them stay in L2 */
#define TILE_ROWS 256    /* rows at most: so many numbers are added to one in `real` */
#define STRIP 256        /* columns of narrow values that are added up together */
#define CACHE 65536      /* bytes that a worker looks at twice in a row, so that they should stay near it */
#define AHEAD 8192       /* bytes between a row and the one that is asked for beside it */
#define SERIAL 32768     /* elements for which more than one thread is not worth while */

#define VECTOR (AXES - 1) /* the axis along which rows lie */

/* STREAMED results are `real` and go past the caches, which they are too large for. */
enum { FLOAT32, FLOAT64, BFLOAT16, FLOAT16, BOOLEAN, INT64, STREAMED };

/* A tensor as large as the first input: strides, in elements, of the axes that are looped over. */
typedef struct {
    void *data;
    int64_t type;
    int64_t stride[AXES];
} tensor;

/* The same with strides of the dimensions that it has, as it comes from Python. */
typedef struct {
    void *data;
    int64_t type;
    int64_t stride[DIMS];
} strided;

/* A small, contiguous tensor; one that is absent has no data. */
typedef struct {
    void *data;
    int64_t type;
} narrow;

/* Loops over narrow values that are many; among islands each worker has its own. */
#define THREADS (int)v->call->threads

/* The part of the axes that a function is to work on. */
typedef struct {
    int64_t lo[AXES], hi[AXES];
} range;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---- numbers in memory */

static inline float widened_bfloat16(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

static inline uint16_t rounded_bfloat16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint32_t nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40u; /* NaN stays NaN */
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : nearest);
}

#ifdef __FLT16_MAX__
static inline float widened_float16(uint16_t bits) {
    _Float16 value;
    memcpy(&value, &bits, 2);
    return (float)value;
}

static inline uint16_t rounded_float16(float value) {
    const _Float16 half = (_Float16)value;
    uint16_t bits;
    memcpy(&bits, &half, 2);
    return bits;
}
#else /* a compiler without _Float16 */
static inline float widened_float16(uint16_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    const uint32_t exponent = (bits >> 10) & 0x1fu, fraction = bits & 0x3ffu;
    if (exponent == 0) {
        const float small = ldexpf((float)fraction, -24);
        return sign ? -small : small;
    }
    const uint32_t wide = sign | ((exponent == 31 ? 255u : exponent + 112u) << 23) | fraction << 13;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

static inline uint16_t rounded_float16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    const float size = fabsf(value);
    if (size != size) return (uint16_t)(sign | 0x7e00u);
    if (size >= 65520.0f) return (uint16_t)(sign | 0x7c00u);
    if (size < 6.103515625e-05f) return (uint16_t)(sign | (uint16_t)lrintf(ldexpf(size, 24)));
    bits &= 0x7fffffffu;
    const uint32_t nearest = (bits + 0xfffu + ((bits >> 13) & 1u)) >> 13;
    return (uint16_t)(sign | (nearest - (112u << 10)));
}
#endif

#define GATHER(TYPE, WIDENED)                                                        \
    {                                                                                \
        const TYPE *from = (const TYPE *)data + offset;                              \
        if (stride == 1)                                                             \
            for (int64_t i = 0; i < count; i++) buffer[i] = (real)WIDENED(from[i]);  \
        else                                                                         \
            for (int64_t i = 0; i < count; i++)                                      \
                buffer[i] = (real)WIDENED(from[i * stride]);                         \
    }

#define SCATTER(TYPE, ROUNDED)                                                       \
    {                                                                                \
        TYPE *to = (TYPE *)data + offset;                                            \
        if (stride == 1)                                                             \
            for (int64_t i = 0; i < count; i++) to[i] = (TYPE)ROUNDED(buffer[i]);    \
        else                                                                         \
            for (int64_t i = 0; i < count; i++)                                      \
                to[i * stride] = (TYPE)ROUNDED(buffer[i]);                           \
    }

static void widen(const void *data, int64_t type, int64_t offset, int64_t stride, int64_t count,
                  real *restrict buffer) {
    switch (type) {
    case FLOAT32: GATHER(float, ) break;
    case FLOAT64: GATHER(double, ) break;
    case BFLOAT16: GATHER(uint16_t, widened_bfloat16) break;
    case FLOAT16: GATHER(uint16_t, widened_float16) break;
    case INT64: GATHER(int64_t, ) break;
    default: GATHER(uint8_t, ) break;
    }
}

/* What is streamed at once. */
#if defined(__AVX512F__)
#define PIECE 64
#define STREAM_PIECE(to, from) \
    _mm512_stream_si512((__m512i *)(to), _mm512_loadu_si512((const void *)(from)))
#elif defined(__AVX__)
#define PIECE 32
#define STREAM_PIECE(to, from) \
    _mm256_stream_si256((__m256i *)(to), _mm256_loadu_si256((const __m256i *)(from)))
#elif defined(__SSE2__)
#define PIECE 16
#define STREAM_PIECE(to, from) \
    _mm_stream_si128((__m128i *)(to), _mm_loadu_si128((const __m128i *)(from)))
#endif

/* Write `bytes` that nobody reads soon: no line is fetched before it is overwritten. */
static void stream(char *to, const char *from, int64_t bytes) {
#ifdef __SSE2__
    const int64_t head = least((int64_t)(-(uintptr_t)to & (PIECE - 1)), bytes);
    const int64_t whole = head + (bytes - head) / PIECE * PIECE;
    memcpy(to, from, (size_t)head);
    for (int64_t i = head; i < whole; i += PIECE) STREAM_PIECE(to + i, from + i);
    memcpy(to + whole, from + whole, (size_t)(bytes - whole));
#else
    memcpy(to, from, (size_t)bytes);
#endif
}

/* Streamed rows are seen by other threads from here on. */
static inline void landed(void) {
#ifdef __SSE2__
    _mm_sfence();
#endif
}

static void round_off(void *data, int64_t type, int64_t offset, int64_t stride, int64_t count,
                      const real *restrict buffer) {
    switch (type) {
    case FLOAT32: SCATTER(float, ) break;
    case FLOAT64: SCATTER(double, ) break;
    case STREAMED:
        if (stride == 1)
            stream((char *)((real *)data + offset), (const char *)buffer,
                   count * (int64_t)sizeof(real));
        else
            SCATTER(real, )
        break;
    case BFLOAT16: SCATTER(uint16_t, rounded_bfloat16) break;
    default: SCATTER(uint16_t, rounded_float16) break;
    }
}

static inline int64_t bytes_of(int64_t type) {
    return type == FLOAT32 ? 4 : type == FLOAT64 || type == INT64 ? 8 : type == BOOLEAN ? 1 : 2;
}

/* A place: one index for each axis, of the vector axis that of the first element of a row. */
#define AT(...) ((const int64_t[AXES]){__VA_ARGS__})

static inline int64_t offset(const tensor *t, const int64_t *at) {
    int64_t found = 0;
    for (int axis = 0; axis < AXES; axis++) found += at[axis] * t->stride[axis];
    return found;
}

static inline int direct(const tensor *t) {
    return t->data && t->type == REAL_TYPE && t->stride[VECTOR] == 1;
}

/* A row of a tensor: as it lies in memory where it can be read there, else in the buffer. */
static inline const real *row(const tensor *t, const int64_t *at, int64_t count, real *buffer) {
    if (direct(t)) return (const real *)t->data + offset(t, at);
    widen(t->data, t->type, offset(t, at), t->stride[VECTOR], count, buffer);
    return buffer;
}

/* How far a row is ahead that had better be asked for now. */
static inline int64_t ahead(int64_t count) {
    return AHEAD / most(count * (int64_t)sizeof(real), 1);
}

/* Ask for a row, if it is short: those that are looked at several times before the next ones come
 * too suddenly for the processor to foresee them. */
static inline void foresee(const tensor *t, const int64_t *at, int64_t count) {
#ifdef __GNUC__
    const int64_t size = bytes_of(t->type);
    if (t->stride[VECTOR] != 1 || 4 * count * size > AHEAD) return;
    const char *there = (const char *)t->data + offset(t, at) * size;
    for (int64_t i = 0; i < count * size; i += 64) __builtin_prefetch(there + i);
#endif
}

/* Where to write a row, and what is left to do when it is written. */
static inline real *target(const tensor *t, const int64_t *at, real *buffer) {
    return direct(t) ? (real *)t->data + offset(t, at) : buffer;
}

static inline void written(const tensor *t, const int64_t *at, int64_t count, const real *buffer) {
    if (t->data && !direct(t))
        round_off(t->data, t->type, offset(t, at), t->stride[VECTOR], count, buffer);
}

/* ---- memory for narrow values: one allocation for each call */

typedef struct {
    char *next;
    size_t used;
} arena;

/* `count` numbers; without memory only their size is counted. */
static inline void *take(arena *a, int64_t count, size_t size) {
    const size_t bytes = ((size_t)most(count, 0) * size + 63) & ~(size_t)63;
    void *found = a->next ? a->next + a->used : NULL;
    a->used += bytes;
    return found;
}

/* A narrow tensor as an array of its own; `absent` in every place where it is not given. */
static inline const real *copied(const narrow *t, int64_t count, real absent, arena *a) {
    real *array = take(a, count, sizeof(real));
    if (!array) return NULL;
    if (t->data)
        widen(t->data, t->type, 0, 1, count, array);
    else
        for (int64_t i = 0; i < count; i++) array[i] = absent;
    return array;
}

/* The same, or the tensor itself where it can be read as it is. */
static inline const real *staged(const narrow *t, int64_t count, real absent, arena *a) {
    if (t->data && t->type == REAL_TYPE) return (const real *)t->data;
    return copied(t, count, absent, a);
}

/* Where the entries of each row of a matrix lie, or of each column: outside is nothing but zeros. */
typedef struct {
    const int64_t *first, *end;
} extent;

/* A square matrix, by which positions of an axis count for others: `entries[row * step + column]`,
 * and `across[column * step + row]` for loops along columns. Many are sparse (the identity,
 * blocks), so that loops run from the first entry of a line to the last. */
typedef struct {
    const real *entries, *across;
    int64_t step;
    extent rows, columns;
} matrix;

static inline real entry(const matrix *m, int64_t row, int64_t column) {
    return m->entries[row * m->step + column];
}

static inline real entry_across(const matrix *m, int64_t row, int64_t column) {
    return m->across[column * m->step + row];
}

/* The extents of `size` lines, which are `across` apart, with elements that are `along` apart. */
static inline extent extents(const real *entries, int64_t size, int64_t across, int64_t along,
                             arena *a) {
    int64_t *first = take(a, size, sizeof(int64_t)), *end = take(a, size, sizeof(int64_t));
    if (first && end)
        for (int64_t i = 0; i < size; i++) {
            const real *line = entries + i * across;
            int64_t low = 0, high = size;
            while (low < high && line[low * along] == 0) low++;
            while (high > low && line[(high - 1) * along] == 0) high--;
            first[i] = low, end[i] = high;
        }
    return (extent){first, end};
}

/* The identity: all rows are one row of zeros around a one, each read from a little further on. */
static inline matrix identity(int64_t size, arena *a) {
    real *zeros = take(a, 2 * size, sizeof(real));
    int64_t *place = take(a, size + 1, sizeof(int64_t));
    matrix m = {NULL, NULL, -1, {NULL, NULL}, {NULL, NULL}};
    if (!zeros || !place) return m;
    memset(zeros, 0, (size_t)(2 * size) * sizeof(real));
    zeros[size] = 1;
    for (int64_t i = 0; i <= size; i++) place[i] = i;
    m.entries = m.across = zeros + size;
    m.rows = m.columns = (extent){place, place + 1};
    return m;
}

/* A square matrix with its extents; the identity where none is given. */
static inline matrix matrix_of(const narrow *t, int64_t size, int both_ways, arena *a) {
    if (!t->data) return identity(size, a);
    matrix m = {staged(t, size * size, 0, a), NULL, size, {NULL, NULL}, {NULL, NULL}};
    if (both_ways) {
        real *across = take(a, size * size, sizeof(real));
        for (int64_t row = 0; across && row < size; row++)
            for (int64_t i = 0; i < size; i++) across[i * size + row] = m.entries[row * size + i];
        m.across = across;
    }
    m.rows = extents(m.entries, size, size, 1, a);
    m.columns = extents(m.entries, size, 1, size, a);
    return m;
}

/* Write an array to a narrow tensor, where that is wanted. */
static inline void give(const narrow *t, const real *array, int64_t count) {
    if (t->data && t->data != (const void *)array) round_off(t->data, t->type, 0, 1, count, array);
}

/* Move a running statistic towards a new value, at the precision of `real`. */
static inline void track(const narrow *running, const real *value, int64_t count, double momentum) {
    if (!running->data) return;
    for (int64_t i = 0; i < count; i++) {
        real before;
        widen(running->data, running->type, i, 1, 1, &before);
        const real after = before + (value[i] - before) * (real)momentum;
        round_off(running->data, running->type, i, 1, 1, &after);
    }
}

/* ---- accumulators */

/* Sums and moments of cells, in double, since many tiles are added to one. */
typedef struct {
    double *weight, *mean, *total; /* of a sum only `total`; of moments, `total` is of squares */
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
static inline real sum_of(const accumulator *a, int64_t here) { return (real)a->total[here]; }

static inline real mean_of(const accumulator *a, int64_t here) { return (real)a->mean[here]; }

static inline real share_of(const accumulator *a, int64_t here) {
    const double weight = a->weight[here], total = a->total[here]; /* read both: no branch */
    return weight > 0 ? (real)(total / weight) : 0;
}

static inline void add_up(double *restrict total, const real *restrict more, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) total[i] += (double)more[i];
}

/* ---- groups of an axis: rows in the order of their groups */

typedef struct {
    int64_t count;        /* groups */
    const int64_t *start; /* of each group among the ordered rows, and their end */
    const int64_t *order; /* the rows in order, or NULL where they are ordered as they are */
    int broken;           /* a label is none of the groups */
} segments;

/* Find the groups of `labels`, each in [0, count). Without labels, all rows are one group.
 * Labels are looked at again in a backward call, and may have been written to. */
static inline segments grouped(const int64_t *labels, int64_t rows, int64_t count, arena *a) {
    int64_t *start = take(a, count + 1, sizeof(int64_t));
    int64_t *order = take(a, labels ? rows : 0, sizeof(int64_t));
    segments found = {count, start, NULL, 0};
    if (!start) return found;
    memset(start, 0, (size_t)(count + 1) * sizeof(int64_t));
    if (!labels) {
        start[count] = rows;
        return found;
    }
    int ordered = 1;
    for (int64_t i = 0; i < rows; i++) {
        if (labels[i] < 0 || labels[i] >= count) {
            found.broken = 1;
            return found;
        }
        start[labels[i] + 1]++;
        ordered &= i == 0 || labels[i - 1] <= labels[i];
    }
    for (int64_t g = 0; g < count; g++) start[g + 1] += start[g];
    if (ordered) return found;
    for (int64_t i = 0; i < rows; i++) order[start[labels[i]]++] = i;
    for (int64_t g = count; g > 0; g--) start[g] = start[g - 1];
    start[0] = 0;
    found.order = order;
    return found;
}

/* The row at a place among the ordered ones; behind them all, the last. */
static inline int64_t ordered(const segments *s, int64_t place) {
    const int64_t last = s->start[s->count] - 1, here = least(place, last);
    return s->order ? s->order[here] : here;
}

/* ---- the schedule: who does which part, and when */

typedef struct {
    int64_t size[AXES];
    segments groups;
} shape;

/* A statistic of cells. `axes` has a bit for each axis that the cells have. A terminal one is
 * needed by no later sweep, so that it can wait for the end. */
typedef struct {
    unsigned axes;
    int moments, terminal;
} reduction;

/* A sweep measures `count` reductions from number `first` on; `settle` computes from them what
 * later sweeps need. The first stage may have no sweep, if something is known before. */
typedef struct {
    void (*sweep)(const void *values, const range *r, const accumulator *a);
    void (*settle)(void *values, const range *r, const accumulator *a);
    int first, count;
} stage;

typedef struct {
    void (*prepare)(void *values, const void *call, arena *memory);
    void (*begin)(void *values);
    void (*finish)(void *values, const range *r, const accumulator *a);
    const stage *stages;
    int stage_count;
    const reduction *reductions;
    int reduction_count;
    unsigned islands; /* axes along which nothing is exchanged before the end */
} kernel;

/* Lay out the cells of a reduction, `length` of them along each axis, the vector axis innermost. */
static int64_t lay_out(accumulator *a, const reduction *of, const int64_t *length) {
    int64_t cells = 1;
    for (int axis = AXES - 1; axis >= 0; axis--) {
        const int has = (int)(of->axes >> axis) & 1;
        a->lo[axis] = 0;
        a->stride[axis] = has ? cells : 0;
        if (has) cells *= length[axis];
    }
    return cells;
}

static void place(accumulator *a, double *memory, int64_t cells, int moments) {
    a->total = memory;
    a->weight = moments ? memory + cells : NULL;
    a->mean = moments ? memory + 2 * cells : NULL;
}

static void join(accumulator *a, const accumulator *more, int64_t cells, int moments) {
    if (!moments) {
        for (int64_t i = 0; i < cells; i++) a->total[i] += more->total[i];
        return;
    }
    for (int64_t i = 0; i < cells; i++)
        merge(a->weight + i, a->mean + i, a->total + i, more->weight[i], more->mean[i],
              more->total[i]);
}

/* How the work is divided. Where there are enough islands, each worker finishes block after block
 * of them while it is in the cache: `axis` is the innermost axis of islands and `bounds` the
 * blocks along it. Otherwise every sweep is divided along `axis`, and its parts are joined. */
typedef struct {
    int fused, axis;
    unsigned islands;
    int64_t workers, blocks, along; /* blocks in all, and along the axis */
    int64_t *bounds;
    int64_t widest; /* islands in the largest block */
} division;

static int64_t elements(const shape *s) {
    int64_t total = 1;
    for (int axis = 0; axis < AXES; axis++)
        if (axis != GROUPS) total *= s->size[axis];
    return total;
}

static int divide(division *d, const kernel *k, const shape *s, int64_t threads) {
    const int64_t total = elements(s);
    d->workers = total <= SERIAL ? 1 : most(threads, 1);
    d->islands = k->islands & ~(1u << VECTOR);
#if GROUPS >= 0
    d->islands &= ~(1u << ROWS); /* rows are reached through their groups */
#endif
    int64_t count = 1;
    d->axis = -1;
    for (int axis = 0; axis < AXES; axis++)
        if (d->islands >> axis & 1) {
            count *= s->size[axis];
            d->axis = axis;
        }
    d->fused = d->axis >= 0 && (d->workers == 1 || count >= 4 * d->workers);
    d->bounds = NULL;
    if (!d->fused) {
        int best = VECTOR;
        for (int axis = AXES - 1; axis >= 0; axis--) {
            if (axis == GROUPS) continue;
            const int enough = s->size[axis] >= 2 * d->workers;
            if (enough || s->size[axis] > s->size[best]) best = axis;
        }
        d->axis = best;
        return 0;
    }
    const int64_t size = s->size[d->axis], outer = count / most(size, 1);
    const int64_t each = most(total / most(count, 1), 1) * (int64_t)sizeof(real);
    int64_t fair = (count + 8 * d->workers - 1) / (8 * d->workers); /* blocks for everyone */
    const int64_t wide = most(1, least(least(CACHE / each, fair), size));
    d->bounds = malloc((size_t)(size + 2) * sizeof(int64_t));
    if (!d->bounds) return 1;
    d->bounds[0] = 0;
    d->along = 0;
    d->widest = 1;
    for (int64_t at = 0; at < size;) {
        int64_t end = least(at + wide, size);
#if GROUPS >= 0
        if (d->axis == GROUPS) { /* about as many rows as groups of equal size would have */
            const int64_t *start = s->groups.start;
            const int64_t rows = most(wide * (start[size] / size), 1);
            for (end = at + 1; end < size && start[end + 1] - start[at] <= rows;) end++;
        }
#endif
        d->widest = most(d->widest, end - at);
        d->bounds[++d->along] = at = end;
    }
    d->blocks = outer * d->along;
    return 0;
}

static range everything(const shape *s) {
    range r;
    for (int axis = 0; axis < AXES; axis++) r.lo[axis] = 0, r.hi[axis] = s->size[axis];
    return r;
}

/* The part of the axes that belongs to a block of islands. */
static range block_of(const division *d, const shape *s, int64_t block) {
    range r = everything(s);
    int64_t rest = block / d->along;
    r.lo[d->axis] = d->bounds[block % d->along];
    r.hi[d->axis] = d->bounds[block % d->along + 1];
    for (int axis = d->axis - 1; axis >= 0; axis--)
        if (d->islands >> axis & 1) {
            r.lo[axis] = rest % s->size[axis];
            r.hi[axis] = r.lo[axis] + 1;
            rest /= s->size[axis];
        }
    return r;
}

/* Whether all workers write to the same cells of a reduction, each to its own. */
static int apart(const reduction *of, const division *d) {
    return d->fused ? (of->axes & d->islands) == d->islands : (int)(of->axes >> d->axis) & 1;
}

static void work_on_islands(const kernel *k, void *values, const shape *s, const division *d,
                            accumulator *a, const int64_t *cells, int64_t worker) {
    const int64_t last = d->blocks * (worker + 1) / d->workers;
    for (int64_t block = d->blocks * worker / d->workers; block < last; block++) {
        const range r = block_of(d, s, block);
        for (int n = 0; n < k->stage_count; n++) {
            const stage *now = k->stages + n;
            for (int i = now->first; i < now->first + now->count; i++) {
                if (k->reductions[i].terminal) continue;
                const int moments = k->reductions[i].moments;
                memset(a[i].total, 0, (size_t)(cells[i] * (moments ? 3 : 1)) * sizeof(double));
                for (int axis = 0; axis < AXES; axis++)
                    a[i].lo[axis] = d->islands >> axis & 1 ? r.lo[axis] : 0;
            }
            if (now->sweep) now->sweep(values, &r, a);
            if (now->settle) now->settle(values, &r, a);
        }
    }
    landed();
}

static int run(const kernel *k, void *values, const shape *s, int64_t threads) {
    division d;
    if (divide(&d, k, s, threads)) return 1;
    const int count = k->reduction_count;
    accumulator *a = malloc((size_t)(d.workers * most(count, 1)) * sizeof(accumulator));
    int64_t *cells = malloc((size_t)most(count, 1) * sizeof(int64_t));
    double *memory = NULL;
    if (!a || !cells) goto out_of_memory;
    for (int pass = 0; pass < 2; pass++) { /* count, then place */
        int64_t used = 0;
        for (int i = 0; i < count; i++) {
            const reduction *of = k->reductions + i;
            const int local = d.fused && !of->terminal, shared = !local && apart(of, &d);
            int64_t length[AXES];
            for (int axis = 0; axis < AXES; axis++) {
                const int inside = local && d.islands >> axis & 1;
                length[axis] = !inside ? s->size[axis] : axis == d.axis ? d.widest : 1;
            }
            for (int64_t w = 0; w < d.workers; w++) {
                accumulator *own = a + w * count + i;
                cells[i] = lay_out(own, of, length);
                if (w == 0 || !shared) used += cells[i] * (of->moments ? 3 : 1);
                const int64_t at = used - cells[i] * (of->moments ? 3 : 1);
                if (memory) place(own, memory + at, cells[i], of->moments);
            }
        }
        if (pass == 0 && !(memory = calloc((size_t)used + 1, sizeof(double)))) goto out_of_memory;
    }
    if (d.fused) {
#pragma omp parallel for schedule(static) num_threads((int)d.workers) if (d.workers > 1)
        for (int64_t w = 0; w < d.workers; w++)
            work_on_islands(k, values, s, &d, a + w * count, cells, w);
    }
    for (int n = 0; n < k->stage_count; n++) {
        const stage *now = k->stages + n;
        if (!d.fused && now->sweep) {
#pragma omp parallel for schedule(static) num_threads((int)d.workers) if (d.workers > 1)
            for (int64_t w = 0; w < d.workers; w++) {
                range r = everything(s);
                r.lo[d.axis] = s->size[d.axis] * w / d.workers;
                r.hi[d.axis] = s->size[d.axis] * (w + 1) / d.workers;
                now->sweep(values, &r, a + w * count);
                landed();
            }
        }
        for (int i = now->first; i < now->first + now->count; i++) {
            const reduction *of = k->reductions + i;
            if ((d.fused && !of->terminal) || apart(of, &d)) continue;
            for (int64_t w = 1; w < d.workers; w++)
                join(a + i, a + w * count + i, cells[i], of->moments);
        }
        const range all = everything(s);
        if (!d.fused && now->settle) now->settle(values, &all, a);
    }
    const range all = everything(s);
    k->finish(values, &all, a);
    free(memory), free(cells), free(a), free(d.bounds);
    return 0;
out_of_memory:
    free(cells), free(a), free(d.bounds);
    return 1;
}

enum { DONE, NO_MEMORY, BROKEN_LABELS };

/* Run a kernel on a call. */
static int launch(const kernel *k, void *values, const shape *s, const void *call,
                  int64_t threads) {
    arena memory = {NULL, 0};
    k->prepare(values, call, &memory);
    void *block = malloc(memory.used + 64);
    if (!block) return NO_MEMORY;
    memory.next = (char *)(((uintptr_t)block + 63) & ~(uintptr_t)63);
    memory.used = 0;
    k->prepare(values, call, &memory);
    int outcome = BROKEN_LABELS;
#if GROUPS >= 0
    const int usable = !s->groups.broken;
#else
    const int usable = 1;
#endif
    if (usable) {
        k->begin(values);
        outcome = run(k, values, s, threads) ? NO_MEMORY : DONE;
    }
    free(block);
    return outcome;
}
