/* The moments of a tensor, tile by tile. Of each tile a first pass gives the mean, and a second one
 * sums the squares of differences from it; it also sums the differences, which corrects the mean's
 * rounding error. Sums over a tile are of type `real`. */

/* The moments of a row, in the cell of an accumulator. */
static inline void row_moments(const accumulator *a, int64_t cell, const tensor *t,
                               const int64_t *at, int64_t length) {
    real buffer[TILE];
    const real *here = row(t, at, length, buffer);
    real sum = 0, drift = 0, squares = 0;
    REDUCING(+ : sum) FOR(i, 0, length) sum += here[i];
    const real centre = sum / (real)length;
    REDUCING(+ : drift, squares) FOR(i, 0, length) {
        const real gap = here[i] - centre;
        drift += gap;
        squares += gap * gap;
    }
    merge_at(a, cell, (double)length, centre, drift, squares);
}

/* The moments of a tile, in one cell: of some rows along an axis. */
static inline void tile_moments(const accumulator *a, int64_t cell, const tensor *t,
                                const int64_t *at, int axis, int64_t rows, int64_t length) {
    const int64_t first = offset(t, at), step = t->stride[axis];
    if (step == length && direct(t)) { /* rows that adjoin are one */
        length *= rows;
        rows = 1;
    }
    real buffer[TILE], sum = 0, drift = 0, squares = 0;
    FOR(k, 0, rows) {
        const real *here = elements_from(t, first + k * step, length, buffer);
        prefetch_from(t, first + (k + ahead(length)) * step, length);
        REDUCING(+ : sum) FOR(i, 0, length) sum += here[i];
    }
    const real centre = sum / (real)(rows * length);
    FOR(k, 0, rows) {
        const real *here = elements_from(t, first + k * step, length, buffer);
        REDUCING(+ : drift, squares) FOR(i, 0, length) {
            const real gap = here[i] - centre;
            drift += gap;
            squares += gap * gap;
        }
    }
    merge_at(a, cell, (double)(rows * length), centre, drift, squares);
}

/* The moments of each column of a tile, in a run of cells. */
static inline void column_moments(const accumulator *a, int64_t cell, const tensor *t,
                                   const int64_t *at, int axis, int64_t rows, int64_t length) {
    const int64_t first = offset(t, at), step = t->stride[axis];
    real buffer[TILE], centre[TILE], drift[TILE], squares[TILE];
    SIMD FOR(i, 0, length) centre[i] = 0;
    FOR(k, 0, rows) {
        const real *here = elements_from(t, first + k * step, length, buffer);
        prefetch_from(t, first + (k + ahead(length)) * step, length);
        SIMD FOR(i, 0, length) centre[i] += here[i];
    }
    SIMD FOR(i, 0, length) {
        centre[i] /= (real)rows;
        drift[i] = 0;
        squares[i] = 0;
    }
    FOR(k, 0, rows) {
        const real *here = elements_from(t, first + k * step, length, buffer);
        SIMD FOR(i, 0, length) {
            const real gap = here[i] - centre[i];
            drift[i] += gap;
            squares[i] += gap * gap;
        }
    }
    merge_alike(a, cell, (double)rows, centre, drift, squares, length);
}
