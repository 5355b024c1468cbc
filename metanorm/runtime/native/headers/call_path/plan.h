/* Plans: what calls with one signature have in common, as `call_path/plans.py` encodes it.
 *
 * Every field is an int64_t, so that a plan is a sequence of them. Lengths are not part of a plan:
 * it says in which dimension of which tensor each length and stride is read.
 */
enum {
    MAX_RANK = 8,
    MAX_TENSORS = 32, /* operands, gradients and results of one call */
    MAX_ARGUMENTS = 48,
    MAX_WORDS = 128,
    MAX_FILLS = 96,
    MAX_GUARDS = 48,
    MAX_SPANS = 8,
};

/* Some neighbouring dimensions of a tensor. */
typedef struct {
    int64_t tensor, first, last;
} Span;

/* Conditions on a tensor. */
typedef struct {
    int64_t present;       /* otherwise None: not saved for the backward pass */
    int64_t keys;          /* dispatch keys: device, layout, autograd, ... */
    int64_t dtype, requires_grad, rank;
    int64_t strides_are;   /* ANY, DENSE or EXACT */
    int64_t ones;          /* DENSE: the set of dimensions of length one, as bits; -1: any */
    int64_t order[MAX_RANK];                   /* DENSE: dimensions, the innermost one first */
    int64_t sizes[MAX_RANK], strides[MAX_RANK]; /* EXACT */
} Layout;
enum { ANY, DENSE, EXACT };

/* A word of a call that is filled in at each call. */
typedef struct {
    int64_t at, kind, number; /* of a tensor, of an index or of a momentum */
    int64_t first, last;      /* of a span */
} Fill;
enum { SIZE, STRIDE, COUNT, MOMENTUM, POINTER, SAVED };

/* A result of a kernel. */
typedef struct {
    int64_t operand;     /* whose gradient it is */
    int64_t dtype, rank;
    int64_t layout;      /* LIKE, PACKED or AS_GIVEN */
    int64_t like;        /* LIKE: this operand */
    Span lengths[MAX_RANK]; /* PACKED: each is the length of one dimension, the number of groups of
                               an index (first is COUNTED), or without a tensor the length itself */
    int64_t sizes[MAX_RANK], strides[MAX_RANK]; /* AS_GIVEN */
} Result;
enum { LIKE, PACKED, AS_GIVEN };
enum { NO_TENSOR = -1, COUNTED = -1 };

/* A condition on lengths under which a plan holds. */
typedef struct {
    int64_t kind, n;
    Span spans[MAX_SPANS];
    int64_t bound;
} Guard;
enum {
    EQUAL,      /* both spans have the same lengths */
    DIVISIBLE,  /* the elements of the span are divisible by the bound */
    FEW,        /* four times the elements of all spans are at most those of tensor 0, or these are
                   no more than the bound */
    AT_MOST,    /* the elements of the span are at most the bound */
    EXACTLY,    /* they are as many as the bound */
};

typedef int KernelFunction(const void *call);
typedef int64_t SavedFunction(const void *call);

/* A call of a kernel. */
typedef struct {
    KernelFunction *function;
    SavedFunction *bytes_saved;   /* the size of what the backward pass reads, or NULL */
    const char *name;
    int64_t real, bytes_of_real;  /* the dtype of what is saved */
    int64_t n_words, words[MAX_WORDS];
    int64_t n_fills;
    Fill fills[MAX_FILLS];
    int64_t n_guards;
    Guard guards[MAX_GUARDS];
    int64_t n_results;
    Result results[MAX_TENSORS];
} Kernel;

/* An argument of a norm's function. */
typedef struct {
    int64_t kind;
    PyObject *constant;  /* CONSTANT */
    int64_t size;        /* INDEX: the argument that has the number of groups, or -1 */
    int64_t table, rows; /* INDEX: the operand whose rows it chooses, or -1, and their dimension */
} Argument;
enum { OPERAND, INDEX, CONSTANT, NUMBER_OF_GROUPS, MOMENTUM_ARGUMENT };

/* Plans for both directions. */
typedef struct {
    int64_t needed;    /* which operands need a gradient, as bits */
    int64_t n_tensors; /* operands, and the gradients of results */
    Layout layouts[MAX_TENSORS];
    Kernel kernel;
} Backward;

typedef struct {
    int64_t n_arguments;
    Argument arguments[MAX_ARGUMENTS];
    int64_t n_operands;
    Layout layouts[MAX_TENSORS];
    int64_t mutated, cloned, unsaved; /* operands, as bits */
    Kernel kernel;
} Forward;
