/* The functions and offsets of torch that the call path uses, which Python has looked up and checked.
 *
 * `metanorm/runtime/native/call_path/symbols.py` fills this structure. Most functions are those
 * of torch's stable C interface (aoti_torch/c/shim.h). A tensor goes to them as the address of a
 * word that holds its TensorImpl, which is what an `at::Tensor` is.
 */
#include <stdbool.h>

typedef struct {
    /* Offsets of the type and the TensorImpl in a Python tensor, of dispatch keys in a TensorImpl. */
    int64_t type_at, impl_at, keys_at;
    int64_t plain_keys; /* of a plain tensor on the CPU */
    /* Types that are compared by identity. */
    void *tensor, *parameter, *int_, *float_, *tuple, *size;
    /* The stable C interface. */
    int (*get_sizes)(void *, int64_t **), (*get_strides)(void *, int64_t **);
    int (*get_dim)(void *, int64_t *), (*get_dtype)(void *, int32_t *);
    int (*get_data_ptr)(void *, void **), (*get_storage_size)(void *, int64_t *);
    int (*empty_strided)(int64_t dims, const int64_t *sizes, const int64_t *strides, int32_t dtype,
                         int32_t device_type, int32_t device_index, void **tensor);
    int (*delete_tensor)(void *);
    bool (*grad_mode_is_enabled)(void);
    int (*record_start)(const char *name, void *keywords, void *inputs, uint64_t n, void **record);
    int (*record_end)(void *record);
    /* C++ functions whose parameters and results are types of C. */
    PyObject *(*wrap)(const void *tensor);       /* THPVariable_Wrap(const at::TensorBase &) */
    void (*bump_version)(const void *tensor);    /* torch::autograd::impl::bump_version */
    bool (*requires_grad)(const void *impl);     /* c10::TensorImpl::requires_grad */
    int (*get_num_threads)(void);                /* at::get_num_threads */
    void *const *(*transforms)(void);            /* at::functorch::getDynamicLayerStack: a vector */
    int64_t (*count_modes)(void);                /* c10::impl::TorchDispatchModeTLS::stack_len */
    void *const *(*tracing)(void);               /* torch::jit::tracer::getTracingState */
    bool (*profiling)(void);                     /* torch::profiler::impl::profilerEnabled */
    /* Not in Python's limited API: the value of a context variable. */
    int (*get_context)(PyObject *variable, PyObject *otherwise, PyObject **value);
    PyObject *backend;                           /* the variable behind `metanorm.runtime.use` */
    PyObject *automatic, *native;                /* its values that allow this path */
    PyObject *forward_ad;                        /* the names of torch.autograd.forward_ad */
    int64_t *runs;                               /* the number of kernels run, forward and backward */
} Torch;

enum { INT64 = 4 }; /* as torch numbers dtypes */

static Torch torch;

static inline void *type_of(const PyObject *o) { return *(void **)((char *)o + torch.type_at); }

/* The address of the word that is the `at::Tensor` of a Python tensor. */
static inline void *handle_of(const PyObject *o) { return (char *)o + torch.impl_at; }

static inline void *impl_of(const PyObject *o) { return *(void **)handle_of(o); }

static inline int64_t keys_of(const PyObject *o) {
    return *(int64_t *)((char *)impl_of(o) + torch.keys_at);
}

static inline bool is_tensor(const PyObject *o) {
    void *type = type_of(o);
    return type == torch.tensor || type == torch.parameter;
}

/* Whether a transform or a mode has to see the operations of a call: `is_traced` in
 * metanorm/runtime/tensors.py, but also true for modes that do not record programs. */
static bool is_traced(PyObject *current_level) {
    PyObject *level = PyDict_GetItem(torch.forward_ad, current_level);
    if (!level || PyLong_AsLongLong(level) >= 0) return true;
    void *const *layers = torch.transforms();
    return layers[0] != layers[1] || torch.count_modes() || *torch.tracing();
}

/* Whether the backend of this thread or task allows this path. */
static bool is_allowed(void) {
    PyObject *backend = NULL;
    if (torch.get_context(torch.backend, NULL, &backend) < 0) {
        PyErr_Clear();
        return false;
    }
    bool allowed = backend == torch.automatic || backend == torch.native;
    forget(backend);
    return allowed;
}
