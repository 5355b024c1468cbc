/* Weights that sum to one and are at least a radius away from all alike (Shao et al., 2019, "SSN",
 * arXiv 1903.03793): the nearest point of the simplex, pushed out of a circle about the centre of
 * the face that it lies on, until none would be negative.
 *
 * Every step keeps the order of the values, so that a face is all that is above some level, and the
 * weights there are `1 / count + stretch * (x - mean)`. Values are taken as they are below the
 * largest one: all that is one below it or more has no weight. */

#define APART 4e-15 /* from the centre of a face; what is nearer has no way out */

/* A face: what is above a level, and its moments. A NaN is on every face, and makes all of it NaN. */
typedef struct {
    double level, count, mean, squares;
} face;

/* The face that weights are on, and the one that they were last pushed away in, if they were. */
typedef struct {
    face on, from;
    double largest, stretch;
} simplex;

static inline double below(const simplex *s, real x) { return (double)x - s->largest; }

static inline int is_on(const face *f, double x) { return !(x <= f->level); }

/* Leave out what would be negative, again and again (Michelot, 1986). */
static void project(simplex *s, const real *x, int64_t size, int64_t step) {
    face *on = &s->on;
    for (double before = 0;; before = on->count) {
        double total = 0;
        on->count = 0;
        for (int64_t i = 0; i < size; i++)
            if (is_on(on, below(s, x[i * step]))) on->count += 1, total += below(s, x[i * step]);
        if (on->count == before) break;
        on->mean = total / on->count;
        on->level = on->mean - 1 / (on->count * s->stretch);
    }
    on->squares = 0;
    for (int64_t i = 0; i < size; i++) {
        const double gap = below(s, x[i * step]) - on->mean;
        if (is_on(on, below(s, x[i * step]))) on->squares += gap * gap;
    }
}

/* The weights of values that are `step` apart. */
static simplex simplex_of(const real *x, int64_t size, int64_t step, double radius) {
    simplex s = {{-1, 0, 0, 0}, {0, 0, 0, 0}, -INFINITY, 1};
    for (int64_t i = 0; i < size; i++) s.largest = LARGER(s.largest, (double)x[i * step]);
    project(&s, x, size, step);
    for (double first = s.on.count, before = 0; s.on.count != before;) {
        before = s.on.count;
        const double room = radius * radius - (1 / before - 1 / first);
        const double away = s.stretch * s.stretch * s.on.squares;
        if (!(away < room && away > APART * APART)) break;
        s.from = s.on;
        s.stretch = sqrt(room / s.on.squares);
        project(&s, x, size, step);
    }
    return s;
}

/* The weight of a value. */
static inline real weight_of(const simplex *s, real x) {
    const double gap = below(s, x) - s->on.mean;
    return is_on(&s->on, below(s, x)) ? (real)(1 / s->on.count + s->stretch * gap) : 0;
}

/* What arrives at the weights: in all, and by how much it stretches them. */
typedef struct {
    double total, pull;
} arrived;

static inline void arrive(arrived *a, const simplex *s, real x, real adjoint) {
    if (!is_on(&s->on, below(s, x))) return;
    a->total += adjoint;
    a->pull += adjoint * (below(s, x) - s->on.mean);
}

/* What of it arrives at a value: each moves the mean, and by the spread of its face the stretch.
 * Weights that are NaN have gradients that are. */
static inline real adjoint_of(const simplex *s, const arrived *a, real x, real adjoint) {
    if (s->on.mean != s->on.mean) return NAN;
    double found = 0;
    if (is_on(&s->on, below(s, x))) found = adjoint - a->total / s->on.count;
    if (s->from.count > 0 && is_on(&s->from, below(s, x)))
        found -= a->pull * (below(s, x) - s->from.mean) / s->from.squares;
    return (real)(s->stretch * found);
}
