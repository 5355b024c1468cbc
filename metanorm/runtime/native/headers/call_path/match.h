/* Matches tensors with a plan, and fills in the words of a call. */

/* A tensor of a call. */
typedef struct {
    PyObject *object;
    const int64_t *sizes, *strides;
    int64_t rank;
} View;

/* One call, before its kernel runs. */
typedef struct {
    View views[MAX_TENSORS]; /* results are the last ones */
    int64_t n_tensors;       /* without the results */
    int64_t counts[MAX_TENSORS]; /* of groups, for each operand that is an index */
    double momenta[MAX_TENSORS];
    int64_t sizes[MAX_TENSORS][MAX_RANK], strides[MAX_TENSORS][MAX_RANK]; /* of results */
    int64_t words[MAX_WORDS];
    int64_t bytes_saved;
} Call;

static int64_t elements_of(const Call *call, const Span *span) {
    int64_t product = 1;
    for (int64_t d = span->first; d < span->last; d++) product *= call->views[span->tensor].sizes[d];
    return product;
}

/* Whether a tensor is dense, with its dimensions in the order of the layout. */
static bool is_dense(const View *view, const Layout *layout) {
    int64_t step = 1;
    for (int64_t i = 0; i < view->rank; i++) {
        int64_t d = layout->order[i], size = view->sizes[d];
        if (size == 0) return false;
        if (layout->ones >= 0 && (size == 1) != (layout->ones >> d & 1)) return false;
        if (size != 1 && view->strides[d] != step) return false;
        step *= size;
    }
    return true;
}

/* Whether a tensor is contiguous, or of a subclass. */
static bool is_packed(PyObject *o) {
    int64_t rank, *sizes, *strides, step = 1;
    if (!is_tensor(o)) return true;
    void *handle = handle_of(o);
    if (torch.get_dim(handle, &rank)) return false;
    if (torch.get_sizes(handle, &sizes) || torch.get_strides(handle, &strides)) return false;
    for (int64_t d = rank - 1; d >= 0; d--) {
        if (sizes[d] != 1 && strides[d] != step) return false;
        step *= sizes[d];
    }
    return true;
}

static bool has_sizes_of(const View *view, const View *other) {
    return view->rank == other->rank && !memcmp(view->sizes, other->sizes, (size_t)view->rank * sizeof(int64_t));
}

static bool is_exactly(const View *view, const Layout *layout) {
    size_t bytes = (size_t)view->rank * sizeof(int64_t);
    return !memcmp(view->sizes, layout->sizes, bytes) && !memcmp(view->strides, layout->strides, bytes);
}

/* Whether a tensor has the rank and the strides of a layout. */
static bool has_layout(const View *view, const Layout *layout) {
    if (view->rank != layout->rank) return false;
    switch (layout->strides_are) {
    case DENSE: return is_dense(view, layout);
    case EXACT: return is_exactly(view, layout);
    default: return true;
    }
}

/* Whether a Python object is a tensor that fits a layout; fills in its view. For a layout that is
 * not present it is None, and its view was filled in before. */
static bool fits(PyObject *o, const Layout *layout, View *view) {
    if (!layout->present) return o == NONE && has_layout(view, layout);
    if (o == NONE || !is_tensor(o) || keys_of(o) != layout->keys) return false;
    void *handle = handle_of(o);
    int32_t dtype;
    int64_t *sizes, *strides;
    if (torch.get_dtype(handle, &dtype) || dtype != layout->dtype) return false;
    if (layout->requires_grad >= 0 && torch.requires_grad(impl_of(o)) != layout->requires_grad) return false;
    if (torch.get_dim(handle, &view->rank)) return false;
    if (torch.get_sizes(handle, &sizes) || torch.get_strides(handle, &strides)) return false;
    view->object = o;
    view->sizes = sizes;
    view->strides = strides;
    return has_layout(view, layout);
}

static bool holds(const Guard *guard, const Call *call) {
    const Span *span = guard->spans;
    switch (guard->kind) {
    case EQUAL: {
        const View *one = &call->views[span[0].tensor], *other = &call->views[span[1].tensor];
        for (int64_t i = 0; i < span[0].last - span[0].first; i++)
            if (one->sizes[span[0].first + i] != other->sizes[span[1].first + i]) return false;
        return true;
    }
    case DIVISIBLE: return elements_of(call, span) % guard->bound == 0;
    case AT_MOST: return elements_of(call, span) <= guard->bound;
    case EXACTLY: return elements_of(call, span) == guard->bound;
    default: {
        Span all = {0, 0, call->views[0].rank};
        int64_t cells = 4, data = elements_of(call, &all);
        for (int64_t i = 0; i < guard->n; i++) cells *= elements_of(call, &span[i]);
        return data <= guard->bound || cells <= data;
    }
    }
}

/* The stride of dimensions merged to one; false if they cannot be merged. */
static bool stride_of(const View *view, const Fill *fill, int64_t *stride) {
    int64_t outer = -1;
    *stride = 0;
    for (int64_t d = fill->first; d < fill->last; d++) {
        if (view->sizes[d] == 1) continue;
        if (outer >= 0 && outer != view->sizes[d] * view->strides[d]) return false;
        outer = *stride = view->strides[d];
    }
    return true;
}

/* A length of a packed result. */
static int64_t length_from(const Call *call, const Span *from) {
    if (from->tensor == NO_TENSOR) return from->first;
    if (from->first == COUNTED) return call->counts[from->tensor];
    return call->views[from->tensor].sizes[from->first];
}

/* The sizes and strides of a result, before it is allocated. */
static void lay_out_result(Call *call, const Result *result, int64_t number) {
    View *view = &call->views[call->n_tensors + number];
    int64_t *sizes = call->sizes[number], *strides = call->strides[number], step = 1;
    view->object = NULL;
    view->rank = result->rank;
    view->sizes = sizes;
    view->strides = strides;
    switch (result->layout) {
    case LIKE:
        view->sizes = call->views[result->like].sizes;
        view->strides = call->views[result->like].strides;
        return;
    case PACKED:
        for (int64_t d = result->rank - 1; d >= 0; d--) {
            sizes[d] = length_from(call, &result->lengths[d]);
            strides[d] = step;
            step *= sizes[d] > 1 ? sizes[d] : 1;
        }
        return;
    default:
        view->sizes = result->sizes;
        view->strides = result->strides;
    }
}

/* Fills in everything that lengths decide; false if a guard fails. */
static bool prepare(Call *call, const Kernel *kernel) {
    for (int64_t i = 0; i < kernel->n_guards; i++)
        if (!holds(&kernel->guards[i], call)) return false;
    for (int64_t i = 0; i < kernel->n_results; i++) lay_out_result(call, &kernel->results[i], i);
    memcpy(call->words, kernel->words, (size_t)kernel->n_words * sizeof(int64_t));
    for (int64_t i = 0; i < kernel->n_fills; i++) {
        const Fill *fill = &kernel->fills[i];
        int64_t *word = &call->words[fill->at];
        Span span = {fill->number, fill->first, fill->last};
        switch (fill->kind) {
        case SIZE: *word = elements_of(call, &span); break;
        case STRIDE:
            if (!stride_of(&call->views[fill->number], fill, word)) return false;
            break;
        case COUNT: *word = call->counts[fill->number]; break;
        case MOMENTUM: memcpy(word, &call->momenta[fill->number], sizeof *word); break;
        default: break; /* addresses come last */
        }
    }
    call->bytes_saved = kernel->bytes_saved ? kernel->bytes_saved(call->words) : 0;
    return true;
}
