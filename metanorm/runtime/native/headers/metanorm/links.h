/* Edges of a graph, found from either end: nodes in a row, with what their edges lead to. */

/* Sources and then targets, `count` of each, as they come from Python. */
typedef struct {
    const void *data;
    int64_t type, count;
} edge_ends;

typedef struct {
    const int64_t *start; /* of each node among all edges, and their end */
    const int64_t *other; /* the other end of each edge, those of a node side by side */
} edge_list;

typedef struct {
    edge_list to, from; /* the edges that lead to a node, and those that lead away from it */
    int broken;         /* an end is no node */
} links;

/* The edges of each node in the order in which they are given; with `loop`, one to itself before
 * them. */
LOOPS static edge_list edges_of(const int64_t *own, const int64_t *other, int64_t count,
                                int64_t nodes, int loop, arena *a) {
    int64_t *start = arena_alloc(a, nodes + 1, sizeof(int64_t));
    int64_t *ends = arena_alloc(a, loop ? count + nodes : count, sizeof(int64_t));
    if (!start || !ends) return (edge_list){start, ends};
    memset(start, 0, (size_t)(nodes + 1) * sizeof(int64_t));
    for (int64_t e = 0; e < count; e++) start[own[e] + 1]++;
    for (int64_t n = 0; n < nodes; n++) start[n + 1] += start[n] + loop;
    if (loop)
        for (int64_t n = 0; n < nodes; n++) ends[start[n]++] = n;
    for (int64_t e = 0; e < count; e++) ends[start[own[e]]++] = other[e];
    for (int64_t n = nodes; n > 0; n--) start[n] = start[n - 1];
    start[0] = 0;
    return (edge_list){start, ends};
}

/* Find the edges that lead to each node, and those that lead away from it, as far as they are
 * wanted. Their ends are read again in a backward call, and may have been written to. */
static inline links links_of(const edge_ends *given, int64_t nodes, int loop, int to, int from,
                             arena *a) {
    const int64_t count = given->count, *source = given->data, *target = source + count;
    links found = {{NULL, NULL}, {NULL, NULL}, 0};
    if (a->next)
        for (int64_t e = 0; e < 2 * count; e++)
            if (source[e] < 0 || source[e] >= nodes) {
                found.broken = 1;
                return found;
            }
    if (to) found.to = edges_of(target, source, count, nodes, loop, a);
    if (from) found.from = edges_of(source, target, count, nodes, loop, a);
    return found;
}
