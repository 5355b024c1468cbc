/* Sums and moments of all that is near, for each position along an axis of cells or of the data.
 *
 * Pools overlap there, so that each has elements in common with its neighbours. The axis is cut into
 * blocks as long as a pool: a pool then is the end of one block and the beginning of the next, and
 * all follow from a running total through each block from either end (van Herk, 1992; Gil & Werman,
 * 1993), joined by Chan's rule. It is the same work whatever the width, and nothing is subtracted.
 * Pools that stay within segments, such as the sequences of a packed batch, are those of each segment
 * for itself.
 *
 * Lines of cells lie beside each other, LANES at most: `line[position * lanes + lane]`. */

#define LANES 16

enum { TOTALS, ALIKE, WEIGHED }; /* sums; moments of cells that weigh the same, or not */

/* Memory of a worker: lines of numbers that one call after the other uses. */
typedef struct {
    double *memory;
    int64_t size; /* of each worker */
} scratch;

/* Memory for `size` numbers for each worker. */
static inline scratch scratch_of(int64_t size, int64_t workers, arena *a) {
    return (scratch){arena_alloc(a, times(size, max(workers, 1)), sizeof(double)), size};
}

/* Memory of a worker for arrays of all that a sweep has at hand to scan it. */
typedef struct {
    real *memory;
    int64_t size; /* of each worker */
} tiles;

static inline tiles tiles_of(int64_t size, int64_t workers, arena *a) {
    return (tiles){arena_alloc(a, times(size, max(workers, 1)), sizeof(real)), size};
}

/* How many lines `along` numbers long a sweep has at hand: as many as leave all that is at hand near
 * the processor, and as many as are scanned at once in any case. */
static inline int64_t strip_of(int64_t along, int64_t lines) {
    const int64_t fit = TILE / max(along, 1) / LANES * LANES;
    return max(min(max(fit, LANES), lines), 1);
}

/* Lines of cells, and how far the pool of each position reaches. The results of moments are a mean
 * and a variance, that of sums is `first` alone. */
typedef struct {
    const double *value, *weight;
    double *first, *second, *spare;
    int64_t length, lanes, back, ahead;
    int64_t step; /* from one position to the next: negative from the far end on */
    const int64_t *labels; /* the segment of each position, or NULL where all are of one */
} lines;

/* A running total of each lane; `count` is that of positions. */
typedef struct {
    double weight[LANES], mean[LANES], total[LANES];
    double count;
} running;

/* How many numbers there are for each lane and position. */
static inline int64_t parts_in(int kind) { return kind == TOTALS ? 1 : kind == ALIKE ? 2 : 3; }

static inline void empty(running *r, int64_t lanes) {
    r->count = 0;
#pragma omp simd
    for (int64_t i = 0; i < lanes; i++) r->weight[i] = r->mean[i] = r->total[i] = 0;
}

/* Take in the cells of one position (Welford, 1962). */
static inline void take_in(int kind, running *restrict r, const lines *l, int64_t position,
                           int64_t lanes) {
    const double *restrict x = l->value + position * l->step;
    r->count += 1;
    if (kind == TOTALS) {
#pragma omp simd
        for (int64_t i = 0; i < lanes; i++) r->total[i] += x[i];
    } else if (kind == ALIKE) {
        const double share = 1 / r->count, rest = 1 - share;
#pragma omp simd
        for (int64_t i = 0; i < lanes; i++) {
            const double gap = x[i] - r->mean[i];
            r->mean[i] += gap * share;
            r->total[i] += gap * gap * rest;
        }
    } else {
        const double *restrict w = l->weight + position * l->step;
#pragma omp simd
        for (int64_t i = 0; i < lanes; i++) {
            const double before = r->weight[i], sum = before + w[i];
            const double share = w[i] != 0 ? w[i] / sum : 0, gap = w[i] != 0 ? x[i] - r->mean[i] : 0;
            r->mean[i] += gap * share;
            r->total[i] += gap * gap * before * share;
            r->weight[i] = sum;
        }
    }
}

/* Note what was found from a position of its block on. */
static inline void put_by(int kind, const running *restrict r, double *restrict spare,
                          int64_t lanes) {
#pragma omp simd
    for (int64_t i = 0; i < lanes; i++) spare[i] = r->total[i];
    if (kind == TOTALS) return;
#pragma omp simd
    for (int64_t i = 0; i < lanes; i++) spare[lanes + i] = r->mean[i];
    if (kind == ALIKE) return;
#pragma omp simd
    for (int64_t i = 0; i < lanes; i++) spare[2 * lanes + i] = r->weight[i];
}

/* The pool of a position: what is noted of the end of one block, of `count` positions, and what was
 * found of the beginning of the next. */
static inline void report(int kind, const running *restrict r, const double *restrict spare,
                          double count, const lines *l, int64_t position, int64_t lanes) {
    double *restrict first = l->first + position * l->step;
    double *restrict second = l->second + position * l->step;
    if (kind == TOTALS) {
#pragma omp simd
        for (int64_t i = 0; i < lanes; i++) first[i] = spare[i] + r->total[i];
    } else if (kind == ALIKE) {
        const double *restrict mean = spare + lanes;
        const double sum = count + r->count, share = r->count / sum, both = count * share;
        const double each = 1 / sum;
#pragma omp simd
        for (int64_t i = 0; i < lanes; i++) {
            const double gap = r->mean[i] - mean[i];
            first[i] = mean[i] + gap * share;
            second[i] = (spare[i] + r->total[i] + gap * gap * both) * each;
        }
    } else {
        const double *restrict mean = spare + lanes, *restrict weight = mean + lanes;
#pragma omp simd
        for (int64_t i = 0; i < lanes; i++) {
            const double more = r->weight[i], sum = weight[i] + more;
            const double share = more != 0 ? more / sum : 0, gap = more != 0 ? r->mean[i] - mean[i] : 0;
            const double total = spare[i] + r->total[i] + gap * gap * weight[i] * share;
            first[i] = sum != 0 ? mean[i] + gap * share : 0;
            second[i] = sum != 0 ? total / sum : 0;
        }
    }
}

/* All pools reach back to the beginning. Results may take the place of what was read. */
static inline void scan_pasts(int kind, const lines *l, int64_t lanes) {
    const double nothing[3 * LANES] = {0};
    running r;
    empty(&r, lanes);
    int64_t next = 0;
    for (int64_t i = 0; i < l->length; i++) {
        while (next < l->length && next - i <= l->ahead) take_in(kind, &r, l, next++, lanes);
        report(kind, &r, nothing, 0, l, i, lanes);
    }
}

static inline void scan_windows(int kind, const lines *l, int64_t lanes) {
    const int64_t length = l->length, width = l->back + l->ahead + 1;
    const int64_t room = parts_in(kind) * lanes;
    running r;
    for (int64_t begin = 0; begin < length; begin += width) { /* the pools that begin in a block */
        const int64_t end = min(width, length - begin), last = begin + l->ahead;
        empty(&r, lanes);
        for (int64_t j = width - 1; j >= 0; j--) {
            const int64_t position = begin - l->back + j;
            if (position >= 0 && position < length) take_in(kind, &r, l, position, lanes);
            if (j < end) put_by(kind, &r, l->spare + j * room, lanes);
        }
        empty(&r, lanes);
        for (int64_t j = 0; j < end; j++) {
            if (j > 0 && last + j < length) take_in(kind, &r, l, last + j, lanes);
            const int64_t first = max(begin - l->back + j, 0);
            const double count = (double)max(min(last, length - 1) - first + 1, 0);
            report(kind, &r, l->spare + j * room, count, l, begin + j, lanes);
        }
    }
}

static inline void scan_lanes(int kind, lines l, int64_t lanes) {
    const int64_t far = l.length - 1;
    if (l.back < far && l.ahead < far) {
        scan_windows(kind, &l, lanes);
        return;
    }
    if (l.back < far) { /* the same from the other end */
        const int64_t back = l.back;
        l.back = l.ahead, l.ahead = back;
        l.value += far * l.step, l.first += far * l.step, l.second += far * l.step;
        if (kind == WEIGHED) l.weight += far * l.step;
        l.step = -l.step;
    }
    scan_pasts(kind, &l, lanes);
}

/* Where the segment that begins at a position ends. */
static inline int64_t segment_end(const lines *l, int64_t begin) {
    if (!l->labels) return l->length;
    int64_t end = begin + 1;
    while (end < l->length && l->labels[end] == l->labels[begin]) end++;
    return end;
}

/* Scan each segment for itself. */
static inline void scan_segments(int kind, const lines *l, int64_t lanes) {
    for (int64_t begin = 0, end; begin < l->length; begin = end) {
        end = segment_end(l, begin);
        lines segment = *l;
        segment.length = end - begin;
        segment.value += begin * l->step;
        segment.first += begin * l->step, segment.second += begin * l->step;
        if (kind == WEIGHED) segment.weight += begin * l->step;
        scan_lanes(kind, segment, lanes);
    }
}

/* Scan all lines; as many as there can be are worth loops of that very length. */
static inline void scan(int kind, const lines *l) {
    if (l->lanes == LANES)
        scan_segments(kind, l, LANES);
    else if (l->lanes == 1)
        scan_segments(kind, l, 1);
    else
        scan_segments(kind, l, l->lanes);
}

static void scan_sums(const lines *l) { scan(TOTALS, l); }
static void scan_moments(const lines *l) { scan(ALIKE, l); }
static void scan_weighed(const lines *l) { scan(WEIGHED, l); }
