/* Memory for narrow values: one allocation for each call. */

#ifdef __SANITIZE_ADDRESS__
#define GAP 64
#else
#define GAP 0
#endif

typedef struct {
    char *next;
    size_t used; /* bytes; all that there are, where numbers could not be counted */
    size_t gap;  /* bytes behind each array that nobody may touch, where a sanitizer looks on */
} arena;

/* Memory that the kernel of the system hands out page by page, at every call anew, is had in large
 * pages, each of which is worth five hundred small ones. */
#define LARGE_PAGE ((size_t)1 << 21)

static inline size_t room_to_align(size_t bytes) {
    return bytes < 4 * LARGE_PAGE ? 64 : LARGE_PAGE;
}

static inline char *aligned(void *block, size_t bytes) {
    const size_t room = room_to_align(bytes);
    char *first = (char *)(((uintptr_t)block + room - 1) & ~(uintptr_t)(room - 1));
#ifdef MADV_HUGEPAGE
    if (room == LARGE_PAGE) madvise(first, bytes & ~(LARGE_PAGE - 1), MADV_HUGEPAGE);
#endif
    return first;
}

/* `count` numbers; without memory only their size is counted. */
static inline void *arena_alloc(arena *a, int64_t count, size_t size) {
    if (count < 0 || (size_t)count > (UNCOUNTABLE - a->used) / size) {
        a->used = UNCOUNTABLE;
        return NULL;
    }
    char *found = a->next ? a->next + a->used : NULL;
    const size_t bytes = (size_t)count * size, room = ((bytes + 63) & ~(size_t)63) + a->gap;
#ifdef __SANITIZE_ADDRESS__
    if (found && a->gap) ASAN_POISON_MEMORY_REGION(found + bytes, room - bytes);
#endif
    a->used += room;
    return found;
}

/* The same for each of some arrays of `real`. */
static inline void arena_alloc_all(arena *a, int64_t count, int arrays, real ***places) {
    for (int i = 0; i < arrays; i++) *places[i] = arena_alloc(a, count, sizeof(real));
}

/* A narrow tensor as an array of its own; `absent` in every place where it is not given. */
static inline const real *copied(const narrow *t, int64_t count, real absent, arena *a) {
    real *array = arena_alloc(a, count, sizeof(real));
    if (!array) return NULL;
    if (t->data)
        widen(t->data, t->type, 0, 1, count, array);
    else
        for (int64_t i = 0; i < count; i++) array[i] = absent;
    return array;
}

/* The same, or the tensor itself where it can be read as it is. */
static inline const real *as_real(const narrow *t, int64_t count, real absent, arena *a) {
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

/* Whether a position of an axis is in the run of `length` positions that begins at `start`. */
static inline int is_inside(int64_t position, int64_t start, int64_t length) {
    return position >= start && position < start + length;
}

static inline real entry(const matrix *m, int64_t row, int64_t column) {
    return m->entries[row * m->step + column];
}

static inline real entry_across(const matrix *m, int64_t row, int64_t column) {
    return m->across[column * m->step + row];
}

/* The extents of `size` lines, which are `across` apart, with elements that are `along` apart. */
static inline extent extents(const real *entries, int64_t size, int64_t across, int64_t along,
                             arena *a) {
    int64_t *first = arena_alloc(a, size, sizeof(int64_t)), *end = arena_alloc(a, size, sizeof(int64_t));
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
    real *zeros = arena_alloc(a, 2 * size, sizeof(real));
    int64_t *place = arena_alloc(a, size + 1, sizeof(int64_t));
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
LOOPS static matrix matrix_of(const narrow *t, int64_t size, int both_ways, arena *a) {
    if (!t->data) return identity(size, a);
    matrix m = {as_real(t, size * size, 0, a), NULL, size, {NULL, NULL}, {NULL, NULL}};
    if (both_ways) {
        real *across = arena_alloc(a, size * size, sizeof(real));
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
