/* Runs a kernel: allocates its results, and fills in addresses. */

enum { DONE, NOT_SERVED, FAILED }; /* FAILED: a Python error is set */

static int one_thread; /* in a child of a fork, where the thread pool is gone */
static PyObject *raise_failure;

/* A new uninitialized tensor, and its address; NULL if there is no memory. */
static PyObject *new_tensor(int64_t rank, const int64_t *sizes, const int64_t *strides, int64_t dtype, void **data) {
    void *handle;
    if (torch.empty_strided(rank, sizes, strides, (int32_t)dtype, 0, -1, &handle)) return NULL;
    PyObject *tensor = torch.get_data_ptr(handle, data) ? NULL : torch.wrap(handle);
    torch.delete_tensor(handle);
    return tensor;
}

/* A tensor for what the backward pass reads, with zeros between its numbers: hooks may round saved
 * tensors to another dtype. */
static PyObject *new_saved(const Kernel *kernel, int64_t bytes, void **data) {
    int64_t size = bytes / kernel->bytes_of_real, stride = 1;
    PyObject *saved = new_tensor(1, &size, &stride, kernel->real, data);
    if (saved && bytes) memset(*data, 0, (size_t)bytes);
    return saved;
}

/* The address of a tensor; false if it has no memory, or its memory was freed. */
static bool address_of(PyObject *tensor, int64_t *address) {
    void *handle = handle_of(tensor), *data;
    int64_t bytes;
    if (torch.get_storage_size(handle, &bytes) || !bytes) return false;
    if (torch.get_data_ptr(handle, &data) || !data) return false;
    *address = (int64_t)data;
    return true;
}

static void forget_all(PyObject **objects, int64_t n) {
    while (n--) forget(objects[n]);
}

/* Runs a kernel on the tensors of a call, and returns its results. If the outcome is NOT_SERVED,
 * no tensor was written to. */
static int run(const Kernel *kernel, Call *call, void *saved, PyObject **results, bool backward) {
    int64_t *words = call->words;
    words[0] = one_thread ? 1 : torch.get_num_threads();
    for (int64_t i = 0; i < kernel->n_results; i++) {
        View *view = &call->views[call->n_tensors + i];
        void *data;
        results[i] = new_tensor(view->rank, view->sizes, view->strides, kernel->results[i].dtype, &data);
        if (!results[i]) {
            forget_all(results, i);
            return PyErr_Occurred() ? FAILED : NOT_SERVED;
        }
        view->object = results[i];
    }
    for (int64_t i = 0; i < kernel->n_fills; i++) {
        const Fill *fill = &kernel->fills[i];
        if (fill->kind == SAVED) words[fill->at] = (int64_t)saved;
        if (fill->kind != POINTER || !call->views[fill->number].object) continue;
        if (!address_of(call->views[fill->number].object, &words[fill->at])) {
            forget_all(results, kernel->n_results);
            return NOT_SERVED;
        }
    }
    void *record = NULL;
    if (torch.profiling()) torch.record_start(kernel->name, NULL, NULL, 0, &record);
    ++torch.runs[backward];
    void *state = PyEval_SaveThread();
    int outcome = kernel->function(words);
    PyEval_RestoreThread(state);
    if (record) torch.record_end(record);
    if (!outcome) return DONE;
    forget_all(results, kernel->n_results);
    PyObject *code = PyLong_FromLongLong(outcome), *arguments = code ? packed(&code, 1) : NULL;
    if (arguments) forget(PyObject_Call(raise_failure, arguments, NULL));
    forget(arguments);
    forget(code);
    return FAILED;
}
