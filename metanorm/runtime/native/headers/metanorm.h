/* What the kernels of generated modules are written in: rows of tensors, accumulators, schedule.
 *
 * A kernel defines AXES, the number of axes it loops over, and DIMS, that of its tensors, and
 * includes this file. Where rows are in groups, it defines GROUPS and ROWS, the axes of both.
 * ISLANDS has a bit for each axis along which nothing is exchanged. `real` is the type of all
 * arithmetic: float, or double for tensors of doubles. Data in half precision is widened row by row
 * as it is read and rounded as it is written.
 */
#define _DEFAULT_SOURCE /* for madvise, which C itself does not have */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#ifndef GROUPS
#define GROUPS (-1)
#define ROWS (-1)
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
_Pragma("omp declare simd notinbranch") extern real R(pow)(real, real);
#endif
#if __GLIBC_PREREQ(2, 35)
BY_VECTORS(tanh)
BY_VECTORS(erf)
BY_VECTORS(log1p)
#endif
#endif

#define TILE 4096        /* elements of a row that are worked on together */
#define TILE_AREA 65536  /* elements of several rows that are: a second pass finds them in L2 */
#define TILE_ROWS 256    /* rows at most: so many numbers are added to one in `real` */
#define STRIP 256        /* columns of narrow values that are added up together */
#define CACHE 65536      /* bytes that a worker reads several times in a row, from the nearest cache */
#define AHEAD 8192       /* bytes between a row and the one that is asked for beside it */
#ifndef SERIAL
#define SERIAL 32768     /* elements for which more than one thread is not worth while */
#endif

/* ONCE is what runs once in a call: short code, which takes less time to compile, is as good there as
 * fast code. LOOPS is what it calls to go through rows or cells. */
#if defined(__GNUC__)
#define ONCE __attribute__((cold))
#define LOOPS __attribute__((hot, noinline, unused))
#else
#define ONCE
#define LOOPS
#endif

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

/* The part of the axes that a function is to work on, and the number of who does. */
typedef struct {
    int64_t lo[AXES], hi[AXES], worker;
} range;

/* From where to where an axis is worked on: all of it where it is not one of the loops. */
static inline int64_t low(const range *r, int axis) { return axis < 0 ? 0 : r->lo[axis]; }
static inline int64_t high(const range *r, int axis, int64_t size) {
    return axis < 0 ? size : r->hi[axis];
}

/* Bytes that no process has. Lengths whose product is larger are refused before they meet. */
#define UNCOUNTABLE ((size_t)1 << 56)

/* The product of two lengths, where it can be counted. */
static inline int64_t times(int64_t a, int64_t b) {
    const int64_t largest = (int64_t)UNCOUNTABLE;
    return a < 0 || b < 0 || (b > 0 && a > largest / b) ? largest : a * b;
}

static inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

/* Loops: over positions, over those of an axis in the range `r`, over those of an axis that is a
 * loop in some layouts only, and in steps. SIMD stands before a loop whose iterations the compiler
 * may take side by side, REDUCING before one that also joins values: `REDUCING(+ : sum)`. */
#define FOR(i, from, to) for (int64_t i = (from); i < (to); i++)
#define EACH(i, axis) FOR(i, r->lo[axis], r->hi[axis])
#define EACH_OF(i, axis, size) FOR(i, low(r, axis), high(r, axis, size))
#define STEPS(i, from, to, step) for (int64_t i = (from); i < (to); i += (step))
#define PRAGMA(text) _Pragma(#text)
#define SIMD PRAGMA(omp simd)
#define REDUCING(...) PRAGMA(omp simd reduction(__VA_ARGS__))

/* How many rows of a length are worked on together. */
static inline int64_t tile_rows(int64_t length) {
    return min(TILE_ROWS, TILE_AREA / max(min(TILE, length), 1));
}

/* Loops over rows piece by piece: `length` elements from `start` on, between two bounds or in the
 * range `r` of an axis. And over tiles, which are such pieces of the rows from `begin` to `end`:
 * between two bounds or in the range of an axis. */
#define PIECES(from, to) \
    for (int64_t start = (from), length; (length = min(TILE, (to) - start)) > 0; start += TILE)
#define EACH_PIECE(axis) PIECES(r->lo[axis], r->hi[axis])
#define TILES(first, last, from, to) \
    for (int64_t rows = tile_rows((to) - (from)), begin = (first), end; \
         (end = min(begin + rows, (last))) > begin; begin = end) \
        PIECES(from, to)
#define EACH_TILE(axis_of_rows, axis) \
    TILES(r->lo[axis_of_rows], r->hi[axis_of_rows], r->lo[axis], r->hi[axis])

#include "metanorm/rows.h"
#include "metanorm/narrow.h"
#include "metanorm/accumulators.h"
#include "metanorm/moments.h"
#include "metanorm/lines.h"
#include "metanorm/groups.h"
#ifdef SCANS
#include "metanorm/scan.h"
#endif
#ifdef SIMPLEX
#include "metanorm/simplex.h"
#endif
#ifdef LINKS
#include "metanorm/links.h"
#endif
#include "metanorm/schedule.h"
