/* Rows of tensors: read where they lie, widened, rounded and written. */

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

/* The nearest number in half precision, without a step that vectors do not have. */
static inline float as_float16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint32_t sign = bits & 0x80000000u, size = bits ^ sign;
    const uint32_t nearest = (size + 0xfffu + ((size >> 13) & 1u)) & ~0x1fffu;
    float magnitude, found;
    memcpy(&magnitude, &size, 4);
    memcpy(&found, &nearest, 4);
    found = size < 0x38800000u ? (magnitude + 0.5f) - 0.5f : found; /* multiples of 2^-24 */
    found = size >= 0x477ff000u ? INFINITY : found;                 /* from 65520 on */
    found = size > 0x7f800000u ? magnitude : found;                 /* NaN stays NaN */
    memcpy(&bits, &found, 4);
    bits |= sign;
    memcpy(&found, &bits, 4);
    return found;
}

/* The nearest number of a type, by way of float, as torch rounds. The type is the same for all
 * elements of a loop, of which the compiler makes one for each. */
static inline real rounded_to(real value, int64_t type) {
    if (type == BFLOAT16) return (real)widened_bfloat16(rounded_bfloat16((float)value));
    if (type == FLOAT16) return (real)as_float16((float)value);
    return type == FLOAT32 ? (real)(float)value : value;
}

#define GATHER(TYPE, WIDENED)                                                        \
    {                                                                                \
        const TYPE *from = (const TYPE *)data + offset;                              \
        if (stride == 1)                                                             \
            _Pragma("omp simd") for (int64_t i = 0; i < count; i++)                  \
                buffer[i] = (real)WIDENED(from[i]);                                  \
        else                                                                         \
            for (int64_t i = 0; i < count; i++)                                      \
                buffer[i] = (real)WIDENED(from[i * stride]);                         \
    }

#define SCATTER(TYPE, ROUNDED)                                                       \
    {                                                                                \
        TYPE *to = (TYPE *)data + offset;                                            \
        if (stride == 1)                                                             \
            _Pragma("omp simd") for (int64_t i = 0; i < count; i++)                  \
                to[i] = (TYPE)ROUNDED(buffer[i]);                                    \
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

/* What is streamed at once. Built-in functions of the compilers, since <immintrin.h> is 40,000 lines
 * that take longer to read than all the rest of a kernel. */
#if defined(__AVX512F__)
#define PIECE 64
#define STREAM_PIECE __builtin_ia32_movntdq512
#elif defined(__AVX__)
#define PIECE 32
#define STREAM_PIECE __builtin_ia32_movntdq256
#elif defined(__SSE2__)
#define PIECE 16
#define STREAM_PIECE __builtin_ia32_movntdq
#endif
#if defined(PIECE) && defined(__clang__)
#undef STREAM_PIECE
#define STREAM_PIECE(to, value) __builtin_nontemporal_store(value, to)
#endif
#ifdef PIECE
typedef long long piece __attribute__((vector_size(PIECE), may_alias));
#endif

/* Write `bytes` that nobody reads soon: no line is fetched before it is overwritten. */
static void stream(char *to, const char *from, int64_t bytes) {
#ifdef PIECE
    const int64_t head = min((int64_t)(-(uintptr_t)to & (PIECE - 1)), bytes);
    const int64_t whole = head + (bytes - head) / PIECE * PIECE;
    memcpy(to, from, (size_t)head);
    for (int64_t i = head; i < whole; i += PIECE) {
        piece value;
        memcpy(&value, from + i, PIECE);
        STREAM_PIECE((piece *)(to + i), value);
    }
    memcpy(to + whole, from + whole, (size_t)(bytes - whole));
#else
    memcpy(to, from, (size_t)bytes);
#endif
}

/* Streamed rows are seen by other threads from here on. */
static inline void stream_fence(void) {
#ifdef PIECE
    __builtin_ia32_sfence();
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

/* A tensor, as it lies along the loops: a kernel defines STRIDES. */
#define TENSOR(t) ((tensor){(t).data, (t).type, {STRIDES((t))}})

static inline int64_t offset(const tensor *t, const int64_t *at) {
    int64_t found = 0;
    for (int axis = 0; axis < AXES; axis++) found += at[axis] * t->stride[axis];
    return found;
}

static inline int direct(const tensor *t) {
    return t->data && t->type == REAL_TYPE && t->stride[VECTOR] == 1;
}

/* The elements from an offset on: as they lie in memory where they can be read there, else in the
 * buffer. */
static inline const real *elements_from(const tensor *t, int64_t first, int64_t count,
                                        real *buffer) {
    if (direct(t)) return (const real *)t->data + first;
    widen(t->data, t->type, first, t->stride[VECTOR], count, buffer);
    return buffer;
}

/* The same for the row at a place. */
static inline const real *row(const tensor *t, const int64_t *at, int64_t count, real *buffer) {
    return elements_from(t, offset(t, at), count, buffer);
}

/* How far a row is ahead that had better be asked for now. */
static inline int64_t ahead(int64_t count) {
    return AHEAD / max(count * (int64_t)sizeof(real), 1);
}

/* Ask for the elements of a row from an offset on, if it is short: those that are read several
 * times before the next ones come too suddenly for the processor to foresee them. */
static inline void prefetch_from(const tensor *t, int64_t first, int64_t count) {
#ifdef __GNUC__
    const int64_t size = bytes_of(t->type);
    if (t->stride[VECTOR] != 1 || 4 * count * size > AHEAD) return;
    const char *there = (const char *)t->data + first * size;
    for (int64_t i = 0; i < count * size; i += 64) __builtin_prefetch(there + i);
#endif
}

/* The same for the row at a place. */
static inline void prefetch(const tensor *t, const int64_t *at, int64_t count) {
    prefetch_from(t, offset(t, at), count);
}

/* Where to write a row, and what is left to do when it is written. */
static inline real *target(const tensor *t, const int64_t *at, real *buffer) {
    return direct(t) ? (real *)t->data + offset(t, at) : buffer;
}

static inline void written(const tensor *t, const int64_t *at, int64_t count, const real *buffer) {
    if (t->data && !direct(t))
        round_off(t->data, t->type, offset(t, at), t->stride[VECTOR], count, buffer);
}
