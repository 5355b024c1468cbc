/* Matches the arguments of a norm's function with a plan. */

#define MAX_CELLS ((int64_t)1 << 56) /* elements of all groups: no length overflows in a kernel */

/* Whether an argument has the type and the value of a constant; 0.0 and -0.0 differ. */
static bool is_constant(PyObject *given, PyObject *constant) {
    if (given == constant) return true;
    void *type = type_of(given);
    if (type != type_of(constant)) return false;
    if (type == torch.float_) {
        double one = PyFloat_AsDouble(given), other = PyFloat_AsDouble(constant);
        return !memcmp(&one, &other, sizeof one);
    }
    if (type == torch.tuple || type == torch.size) {
        Py_ssize_t n = PyTuple_Size(given);
        if (n != PyTuple_Size(constant)) return false;
        for (Py_ssize_t i = 0; i < n; i++)
            if (!is_constant(PyTuple_GetItem(given, i), PyTuple_GetItem(constant, i))) return false;
        return true;
    }
    int equal = PyObject_RichCompareBool(given, constant, Py_EQ);
    if (equal < 0) PyErr_Clear();
    return equal == 1;
}

/* Whether an object is a scalar tensor of int64; reads its number. */
static bool is_count(PyObject *o, int64_t *count) {
    int64_t rank, address;
    int32_t dtype;
    if (!is_tensor(o) || keys_of(o) != torch.plain_keys) return false;
    if (torch.get_dim(handle_of(o), &rank) || rank) return false;
    if (torch.get_dtype(handle_of(o), &dtype) || dtype != INT64 || !address_of(o, &address)) return false;
    *count = *(const int64_t *)address;
    return *count >= 0;
}

/* Whether a Python integer fits 64 bits; reads it. */
static bool is_small(PyObject *given, int64_t *number) {
    *number = PyLong_AsLongLong(given);
    if (!PyErr_Occurred()) return true;
    PyErr_Clear();
    return false;
}

/* The weight of a new value. A tensor counts the batches before; all batches then weigh the same. */
static bool is_momentum(PyObject *given, double *momentum) {
    int64_t count;
    if (type_of(given) == torch.float_) *momentum = PyFloat_AsDouble(given);
    else if (type_of(given) == torch.int_ && is_small(given, &count)) *momentum = (double)count;
    else if (is_count(given, &count)) *momentum = 1 / (double)((uint64_t)count + 1);
    else return false;
    return true;
}

/* Counts the groups of an index; false if a label is out of range, or there are too many groups.
 * Labels are read in every call: not only torch may write to memory. */
static bool count_groups(Call *call, int64_t operand, const Argument *index, PyObject *size) {
    const View *view = &call->views[operand];
    Span labels = {operand, 0, view->rank}, data = {0, 0, call->views[0].rank};
    Fill whole = {.last = view->rank};
    int64_t n = elements_of(call, &labels), low = INT64_MAX, high = -1, address, stride;
    if (!n || !address_of(view->object, &address) || !stride_of(view, &whole, &stride)) return false;
    for (int64_t i = 0; i < n; i++) {
        int64_t label = ((const int64_t *)address)[i * stride];
        low = label < low ? label : low;
        high = label > high ? label : high;
    }
    if (low < 0 || high >= MAX_CELLS) return false;
    int64_t count = high + 1, row = elements_of(call, &data) / n;
    if (size != NONE) {
        if (type_of(size) != torch.int_) return false;
        if (!is_small(size, &count)) return false;
    }
    if (index->table >= 0) count = call->views[index->table].sizes[index->rows];
    call->counts[operand] = count;
    return high < count && count <= MAX_CELLS / (row > 1 ? row : 1);
}

/* Whether the arguments of a call fit a plan; prepares the call. */
static bool matches(const Forward *plan, PyObject *const *arguments, Py_ssize_t n, Call *call) {
    int64_t indices[MAX_TENSORS], n_operands = 0, n_indices = 0, n_momenta = 0;
    const Argument *given[MAX_TENSORS];
    if (n != plan->n_arguments) return false;
    for (Py_ssize_t i = 0; i < n; i++) {
        const Argument *argument = &plan->arguments[i];
        switch (argument->kind) {
        case INDEX:
            indices[n_indices] = n_operands;
            given[n_indices++] = argument;
            /* fall through */
        case OPERAND:
            if (!fits(arguments[i], &plan->layouts[n_operands], &call->views[n_operands])) return false;
            n_operands++;
            break;
        case MOMENTUM_ARGUMENT:
            if (!is_momentum(arguments[i], &call->momenta[n_momenta++])) return false;
            break;
        case CONSTANT:
            if (!is_constant(arguments[i], argument->constant)) return false;
            break;
        default: break; /* a number of groups, which is read with its index */
        }
    }
    call->n_tensors = n_operands;
    for (int64_t i = 0; i < n_operands; i++) call->counts[i] = 0;
    for (int64_t i = 0; i < n_indices; i++) {
        PyObject *size = given[i]->size < 0 ? NONE : arguments[given[i]->size];
        if (!count_groups(call, indices[i], given[i], size)) return false;
    }
    return prepare(call, &plan->kernel);
}

/* Whether this is the tensor that the forward pass saved, with its shape, dtype and strides. */
static bool fits_saved(const Kernel *kernel, PyObject *saved_memory, int64_t bytes, void **data) {
    if (!bytes) return saved_memory == NONE;
    if (saved_memory == NONE || !is_tensor(saved_memory) || keys_of(saved_memory) != torch.plain_keys) return false;
    int32_t dtype;
    int64_t rank, *sizes, *strides, address;
    void *handle = handle_of(saved_memory);
    if (torch.get_dim(handle, &rank) || rank != 1) return false;
    if (torch.get_dtype(handle, &dtype) || dtype != kernel->real) return false;
    if (torch.get_sizes(handle, &sizes) || torch.get_strides(handle, &strides)) return false;
    if (sizes[0] * kernel->bytes_of_real != bytes || (sizes[0] > 1 && strides[0] != 1)) return false;
    if (!address_of(saved_memory, &address)) return false;
    *data = (void *)address;
    return true;
}
