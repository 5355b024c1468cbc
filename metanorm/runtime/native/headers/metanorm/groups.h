/* Groups of an axis: rows in the order of their groups. */

typedef struct {
    int64_t count;         /* groups */
    const int64_t *start;  /* of each group among the ordered rows, and their end */
    const int64_t *order;  /* the rows in order, or NULL where they are ordered as they are */
    const int64_t *labels; /* the group of each row, or NULL where there is one */
    int broken;            /* a label is none of the groups */
} segments;

/* Find the groups of `labels`, each in [0, count). Without labels, all rows are one group.
 * Labels are read again in a backward call, and may have been written to. */
LOOPS static segments grouped(const int64_t *labels, int64_t rows, int64_t count, arena *a) {
    int64_t *start = arena_alloc(a, count + 1, sizeof(int64_t));
    int64_t *order = arena_alloc(a, labels ? rows : 0, sizeof(int64_t));
    segments found = {count, start, NULL, labels, 0};
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

/* The group of a row. */
static inline int64_t group_of(const segments *s, int64_t row) {
    return s->labels ? s->labels[row] : 0;
}

/* The row at a place among the ordered ones; behind them all, the last. */
static inline int64_t ordered(const segments *s, int64_t place) {
    const int64_t last = s->start[s->count] - 1, here = min(place, last);
    return s->order ? s->order[here] : here;
}
