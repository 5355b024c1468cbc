/* The schedule: who does which part, and when. */

/* What each kernel defines: sizes, tensors and memory. */
ONCE static void prepare(void *values, const void *call, arena *memory);

typedef struct {
    int64_t size[AXES];
    segments groups;
    int broken; /* where there are LINKS, whether any of them leads nowhere */
} shape;

/* What is accumulated: a sum alone, or a weight with a sum, with moments, or with an extreme. */
enum { SUM, MOMENTS, MAXIMUM, MINIMUM };

/* A statistic of cells. `axes` has a bit for each axis that the cells have. A terminal one is
 * needed by no later sweep, so that it can wait for the end. */
typedef struct {
    unsigned axes;
    int kind, terminal;
} reduction;

/* A sweep measures `count` reductions from number `first` on; `finalize` computes from them what
 * later sweeps need. The first stage may have no sweep, if something is known before. */
typedef struct {
    void (*sweep)(const void *values, const range *r, const accumulator *a);
    void (*finalize)(void *values, const range *r, const accumulator *a);
    int first, count;
} stage;

/* There may be nothing to do before the first sweep, or after the last one. */
typedef struct {
    void (*prepare)(void *values, const void *call, arena *memory);
    void (*begin)(void *values);
    void (*finish)(void *values, const range *r, const accumulator *a);
    const stage *stages;
    int stage_count;
    const reduction *reductions;
    int reduction_count;
    unsigned islands; /* axes along which nothing is exchanged before the end */
    unsigned whole;   /* axes of which whoever works on an element needs all there is */
} kernel;

/* How long the loops are. */
static void set_lengths(shape *s, const int64_t *lengths) {
    memcpy(s->size, lengths, sizeof s->size);
}

/* Lay out the cells of a reduction, `length` of them along each axis, the vector axis innermost. */
static int64_t lay_out(accumulator *a, const reduction *of, const int64_t *length) {
    int64_t cells = 1;
    for (int axis = AXES - 1; axis >= 0; axis--) {
        const int has = (int)(of->axes >> axis) & 1;
        a->lo[axis] = 0;
        a->stride[axis] = has ? cells : 0;
        if (has) cells = times(cells, length[axis]);
    }
    return cells;
}

/* How many numbers there are for each cell. */
static int parts_of(const reduction *of) { return of->kind == SUM ? 1 : 3; }

/* Nothing was taken in yet. */
static void clear(const accumulator *a, int64_t cells, const reduction *of) {
    memset(a->total, 0, (size_t)(cells * parts_of(of)) * sizeof(double));
    if (of->kind == MAXIMUM || of->kind == MINIMUM)
        for (int64_t i = 0; i < cells; i++) a->total[i] = of->kind == MAXIMUM ? -INFINITY : INFINITY;
}

static void place(accumulator *a, double *memory, int64_t cells, const reduction *of) {
    a->total = memory;
    a->weight = of->kind == SUM ? NULL : memory + cells;
    a->mean = of->kind == SUM ? NULL : memory + 2 * cells;
    clear(a, cells, of);
}

LOOPS static void join(accumulator *a, const accumulator *more, int64_t cells, int kind) {
    if (kind == SUM) {
#pragma omp simd
        for (int64_t i = 0; i < cells; i++) a->total[i] += more->total[i];
        return;
    }
    if (kind != MOMENTS) {
        for (int64_t i = 0; i < cells; i++) {
            const double own = a->total[i], other = more->total[i];
            a->total[i] = kind == MAXIMUM ? LARGER(own, other) : SMALLER(own, other);
            a->weight[i] += more->weight[i];
        }
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
        if (axis != GROUPS) total = times(total, s->size[axis]);
    return total;
}

ONCE static int divide(division *d, const kernel *k, const shape *s, int64_t threads) {
    const int64_t total = elements(s);
    d->workers = total <= SERIAL ? 1 : max(threads, 1);
    d->islands = k->islands & ~(1u << VECTOR);
#if GROUPS >= 0
    d->islands &= ~(1u << ROWS); /* rows are reached through their groups */
#endif
    int64_t count = 1;
    d->axis = -1;
    for (int axis = 0; axis < AXES; axis++)
        if (d->islands >> axis & 1) {
            count = times(count, s->size[axis]);
            d->axis = axis;
        }
    d->fused = d->axis >= 0 && (d->workers == 1 || count >= 4 * d->workers);
    d->bounds = NULL;
    if (!d->fused) {
        int best = -1;
        for (int axis = AXES - 1; axis >= 0; axis--) {
            if (axis == GROUPS || k->whole >> axis & 1) continue;
            const int enough = s->size[axis] >= 2 * d->workers;
            if (best < 0 || enough || s->size[axis] > s->size[best]) best = axis;
        }
        if (best < 0) d->workers = 1; /* nothing can be divided */
        d->axis = best < 0 ? VECTOR : best;
        return 0;
    }
    const int64_t size = s->size[d->axis], outer = count / max(size, 1);
    const int64_t each = max(total / max(count, 1), 1) * (int64_t)sizeof(real);
    int64_t fair = (count + 8 * d->workers - 1) / (8 * d->workers); /* blocks for everyone */
    const int64_t wide = max(1, min(min(CACHE / each, fair), size));
    d->bounds = malloc((size_t)(size + 2) * sizeof(int64_t));
    if (!d->bounds) return 1;
    d->bounds[0] = 0;
    d->along = 0;
    d->widest = 1;
    for (int64_t at = 0; at < size;) {
        int64_t end = min(at + wide, size);
#if GROUPS >= 0
        if (d->axis == GROUPS) { /* about as many rows as groups of equal size would have */
            const int64_t *start = s->groups.start;
            const int64_t rows = max(wide * (start[size] / size), 1);
            for (end = at + 1; end < size && start[end + 1] - start[at] <= rows;) end++;
        }
#endif
        d->widest = max(d->widest, end - at);
        d->bounds[++d->along] = at = end;
    }
    d->blocks = outer * d->along;
    return 0;
}

static range everything(const shape *s) {
    range r = {.worker = 0};
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

/* Whether a reduction has cells of rows that are in groups. They are nowhere near each other, so
 * that all blocks have their cells in one array. */
static int of_rows(const reduction *of) {
#if GROUPS >= 0
    return (int)(of->axes >> ROWS) & 1;
#else
    (void)of;
    return 0;
#endif
}

/* Whether all workers write to the same cells of a reduction, each to its own. */
static int apart(const reduction *of, const division *d) {
    unsigned axes = of->axes;
#if GROUPS >= 0
    if (of_rows(of)) axes |= 1u << GROUPS; /* a row is in one group */
#endif
    return d->fused ? (axes & d->islands) == d->islands : (int)(axes >> d->axis) & 1;
}

LOOPS static void work_on_islands(const kernel *k, void *values, const shape *s,
                                  const division *d, accumulator *a, const int64_t *cells,
                                  int64_t worker) {
    const int64_t last = d->blocks * (worker + 1) / d->workers;
    for (int64_t block = d->blocks * worker / d->workers; block < last; block++) {
        range r = block_of(d, s, block);
        r.worker = worker;
        for (int n = 0; n < k->stage_count; n++) {
            const stage *now = k->stages + n;
            for (int i = now->first; i < now->first + now->count; i++) {
                if (k->reductions[i].terminal || of_rows(k->reductions + i)) continue;
                clear(a + i, cells[i], k->reductions + i);
                for (int axis = 0; axis < AXES; axis++)
                    a[i].lo[axis] = d->islands >> axis & 1 ? r.lo[axis] : 0;
            }
            if (now->sweep) now->sweep(values, &r, a);
            if (now->finalize) now->finalize(values, &r, a);
        }
    }
    stream_fence();
}

ONCE static int run(const kernel *k, void *values, const shape *s, int64_t threads) {
    division d;
    if (divide(&d, k, s, threads)) return 1;
    const int count = k->reduction_count;
    accumulator *a = malloc((size_t)(d.workers * max(count, 1)) * sizeof(accumulator));
    int64_t *cells = malloc((size_t)max(count, 1) * sizeof(int64_t));
    double *memory = NULL;
    if (!a || !cells) goto out_of_memory;
    for (int pass = 0; pass < 2; pass++) { /* count, then place */
        int64_t used = 0;
        for (int i = 0; i < count; i++) {
            const reduction *of = k->reductions + i;
            const int local = d.fused && !of->terminal && !of_rows(of);
            const int shared = !local && apart(of, &d);
            int64_t length[AXES];
            for (int axis = 0; axis < AXES; axis++) {
                const int inside = local && d.islands >> axis & 1;
                length[axis] = !inside ? s->size[axis] : axis == d.axis ? d.widest : 1;
            }
            for (int64_t w = 0; w < d.workers; w++) {
                accumulator *own = a + w * count + i;
                cells[i] = lay_out(own, of, length);
                if (w == 0 || !shared) used += cells[i] * parts_of(of);
                if ((size_t)used >= UNCOUNTABLE) goto out_of_memory;
                const int64_t at = used - cells[i] * parts_of(of);
                if (memory) place(own, memory + at, cells[i], of);
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
                r.worker = w;
                r.lo[d.axis] = s->size[d.axis] * w / d.workers;
                r.hi[d.axis] = s->size[d.axis] * (w + 1) / d.workers;
                now->sweep(values, &r, a + w * count);
                stream_fence();
            }
        }
        for (int i = now->first; i < now->first + now->count; i++) {
            const reduction *of = k->reductions + i;
            if ((d.fused && !of->terminal) || apart(of, &d)) continue;
            for (int64_t w = 1; w < d.workers; w++)
                join(a + i, a + w * count + i, cells[i], of->kind);
        }
        const range all = everything(s);
        if (!d.fused && now->finalize) now->finalize(values, &all, a);
    }
    const range all = everything(s);
    if (k->finish) k->finish(values, &all, a);
    free(memory), free(cells), free(a), free(d.bounds);
    return 0;
out_of_memory:
    free(cells), free(a), free(d.bounds);
    return 1;
}

enum { DONE, NO_MEMORY, BROKEN_LABELS };

/* Whether the lengths of a call can be multiplied: what is counted by their products is right. */
ONCE static int countable(const shape *s) {
    int64_t groups = 1;
#if GROUPS >= 0
    groups = s->size[GROUPS];
    if (s->size[ROWS] > 0) groups = (groups - 1) / s->size[ROWS] + 1; /* of a row each */
#endif
    return elements(s) < (int64_t)UNCOUNTABLE && times(elements(s), groups) < (int64_t)UNCOUNTABLE;
}

/* Run a kernel on a call. */
ONCE static int launch(const kernel *k, void *values, const shape *s, const void *call,
                       int64_t threads) {
    arena memory = {NULL, 0, GAP};
    k->prepare(values, call, &memory);
    if (!countable(s) || memory.used >= UNCOUNTABLE) return NO_MEMORY;
    void *block = malloc(memory.used + room_to_align(memory.used));
    if (!block) return NO_MEMORY;
    memory.next = aligned(block, memory.used);
    memory.used = 0;
    k->prepare(values, call, &memory);
    int outcome = BROKEN_LABELS;
#if GROUPS >= 0
    int usable = !s->groups.broken;
#else
    int usable = 1;
#endif
#ifdef LINKS
    usable &= !s->broken;
#endif
    if (usable) {
        if (k->begin) k->begin(values);
        outcome = run(k, values, s, threads) ? NO_MEMORY : DONE;
    }
    free(block);
    return outcome;
}

/* What a kernel file ends with: the function that is called, and, where something is kept for the
 * backward call, the one that tells how many bytes. */
#define ENTRY(function)                                                              \
    EXPORTED int function(const call_fields *call) {                                 \
        values v;                                                                    \
        return launch(&plan, &v, &v.shape, call, call->threads);                     \
    }

#define KEPT()                                                                       \
    EXPORTED int64_t kept(const call_fields *call) {                                 \
        values v;                                                                    \
        arena memory = {NULL, 0};                                                    \
        prepare(&v, call, &memory);                                                  \
        return (int64_t)v.kept;                                                      \
    }
