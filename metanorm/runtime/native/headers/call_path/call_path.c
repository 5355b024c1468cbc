/* The path from a norm's function in Python to its kernels, without Python in between.
 *
 * A call that fits a plan goes to its kernel. Any other goes to `slow`, a Python function that runs
 * every call, and may add a plan for calls with the same signature. Both compute the same. The code
 * here runs with the interpreter's lock held, kernels without it.
 */
#include "call_path/python.h"

#include <stdlib.h>
#include <string.h>

#include "call_path/torch.h"
#include "call_path/plan.h"
#include "call_path/match.h"
#include "call_path/run.h"
#include "call_path/objects.h"
#include "call_path/arguments.h"

#define EXPORTED __attribute__((visibility("default")))
enum { MAX_PLANS = 256 }; /* of one norm; beyond, the least recently used one is evicted */

static PyObject *learn_backward, *slow_backward, *not_served;
static PyObject *current_level, *to_save, *saved_tensors, *needs_input_grad, *call_record, *clone, *contiguous;

/* The call that `Function.apply` is about to make, for `forward`. */
static _Thread_local Call *pending;

/* One result as it is, several as a tuple of their type. */
static PyObject *as_outputs(PyObject **results, int64_t n, PyObject *type) {
    if (n == 1 && type == NONE) return results[0];
    PyObject *outputs = type == NONE ? packed(results, n) : invoke(type, results, n);
    forget_all(results, n);
    return outputs;
}

/* Runs a call that autograd does not record. */
static int run_without_graph(const PlanObject *plan, Call *call, PyObject **outputs) {
    const Kernel *kernel = &plan->forward.kernel;
    PyObject *results[MAX_TENSORS];
    void *saved = NULL;
    if (call->bytes_saved && !(saved = calloc(1, (size_t)call->bytes_saved))) return NOT_SERVED;
    int outcome = run(kernel, call, saved, results, false);
    free(saved);
    if (outcome == DONE) *outputs = as_outputs(results, kernel->n_results, plan->results);
    return outcome;
}

/* Runs a call that autograd records: `Function.apply` calls `forward`. */
static int run_with_graph(const PlanObject *plan, Call *call, PyObject **outputs) {
    PyObject *operands[MAX_TENSORS];
    for (int64_t i = 0; i < call->n_tensors; i++) operands[i] = call->views[i].object;
    Call *outer = pending; /* a hook may call another norm during a call */
    pending = call;
    PyObject *found = invoke(plan->apply, operands, call->n_tensors);
    pending = outer;
    if (!found) {
        if (!PyErr_ExceptionMatches(not_served)) return FAILED;
        PyErr_Clear();
        return NOT_SERVED;
    }
    *outputs = found;
    if (plan->results != NONE) {
        PyObject *items[MAX_TENSORS];
        int64_t n = plan->forward.kernel.n_results;
        for (int64_t i = 0; i < n; i++) items[i] = n == 1 ? found : PyTuple_GetItem(found, i);
        *outputs = invoke(plan->results, items, n);
        forget(found);
    }
    return DONE;
}

static bool is_differentiable(const Forward *plan) {
    if (!torch.grad_mode_is_enabled()) return false;
    for (int64_t i = 0; i < plan->n_operands; i++)
        if (plan->layouts[i].requires_grad > 0) return true;
    return false;
}

static PlanObject *find_plan(NormObject *norm, PyObject *const *arguments, Py_ssize_t n, Call *call) {
    for (PlanObject **link = &norm->plans; *link; link = &(*link)->next) {
        PlanObject *plan = *link;
        if (!matches(&plan->forward, arguments, n, call)) continue;
        *link = plan->next;
        plan->next = norm->plans;
        return norm->plans = plan;
    }
    return NULL;
}

/* (*arguments, **named): the function of a norm. */
static PyObject *call_norm(PyObject *self, PyObject *const *arguments, Py_ssize_t n, PyObject *names) {
    NormObject *norm = (NormObject *)self;
    Call call;
    PlanObject *plan = NULL;
    if (!names && !is_traced(current_level) && is_allowed()) plan = find_plan(norm, arguments, n, &call);
    if (plan) {
        PyObject *outputs = NULL;
        Py_IncRef((PyObject *)plan);
        int outcome = (is_differentiable(&plan->forward) ? run_with_graph : run_without_graph)(plan, &call, &outputs);
        if (outcome != NOT_SERVED) /* hooks on saved tensors may raise when the kernel has run */
            for (int64_t i = 0; i < call.n_tensors; i++)
                if (plan->forward.mutated >> i & 1) torch.bump_version(handle_of(call.views[i].object));
        Py_DecRef((PyObject *)plan);
        if (outcome != NOT_SERVED) return outputs;
    }
    return invoke_named(norm->slow, arguments, n, names);
}

/* The record of a call for a backward pass in Python: the bytes saved, the number of groups of each
 * operand, then the rank, sizes and strides of each. */
static PyObject *record_of(const Call *call) {
    int64_t words[1 + MAX_TENSORS * (2 + 2 * MAX_RANK)], n = 0;
    words[n++] = call->bytes_saved;
    for (int64_t i = 0; i < call->n_tensors; i++) words[n++] = call->counts[i];
    for (int64_t i = 0; i < call->n_tensors; i++) {
        const View *view = &call->views[i];
        words[n++] = view->rank;
        for (int64_t d = 0; d < view->rank; d++) words[n++] = view->sizes[d];
        for (int64_t d = 0; d < view->rank; d++) words[n++] = view->strides[d];
    }
    return PyBytes_FromStringAndSize((const char *)words, n * (Py_ssize_t)sizeof(int64_t));
}

/* The result of a method of a tensor, `clone` or `contiguous`; NULL, maybe without an error, if the
 * tensor has no memory. */
static PyObject *copy_by(PyObject *name, PyObject *tensor) {
    int64_t address;
    if (!address_of(tensor, &address)) return NULL;
    PyObject *method = PyObject_GetAttr(tensor, name);
    PyObject *copy = method ? PyObject_CallNoArgs(method) : NULL;
    forget(method);
    return copy;
}

/* The tensors that the backward pass reads: operands, and memory that the kernel fills. */
static PyObject *saved_operands(const Forward *plan, const Call *call, PyObject *saved_memory) {
    PyObject *saved = PyTuple_New(call->n_tensors + 1);
    if (!saved) return NULL;
    for (int64_t i = 0; i < call->n_tensors; i++) {
        PyObject *operand = call->views[i].object;
        if (plan->unsaved >> i & 1) operand = NONE;
        /* This call, or the next one, changes it in place. */
        bool cloned = operand != NONE && plan->cloned >> i & 1;
        operand = cloned ? copy_by(clone, operand) : new_reference(operand);
        if (!operand) {
            forget(saved);
            return NULL;
        }
        PyTuple_SetItem(saved, i, operand);
    }
    PyTuple_SetItem(saved, call->n_tensors, new_reference(saved_memory));
    return saved;
}

/* forward(ctx, *operands) of a Function: the operands are those of the pending call. */
static PyObject *forward(PyObject *self, PyObject *const *arguments, Py_ssize_t n) {
    PlanObject *plan = (PlanObject *)self;
    const Kernel *kernel = &plan->forward.kernel;
    Call *call = pending;
    pending = NULL;
    if (!call || n != call->n_tensors + 1) {
        PyErr_SetString(PyExc_RuntimeError, "the Function behind a norm is not to be called by itself");
        return NULL;
    }
    PyObject *results[MAX_TENSORS], *saved_memory = NONE, *saved = NULL, *record = NULL, *outputs = NULL;
    void *data = NULL;
    int outcome = NOT_SERVED;
    /* The small allocation first: it would split the block that the last large result has freed. */
    if (call->bytes_saved && !(saved_memory = new_saved(kernel, call->bytes_saved, &data))) goto end;
    if (!(saved = saved_operands(&plan->forward, call, saved_memory))) goto end;
    record = record_of(call);
    outcome = FAILED;
    if (!record || PyObject_SetAttr(arguments[0], to_save, saved)
        || PyObject_SetAttr(arguments[0], call_record, record))
        goto end;
    outcome = run(kernel, call, data, results, false);
    if (outcome == DONE) outputs = as_outputs(results, kernel->n_results, NONE);
end:
    if (outcome == NOT_SERVED && !PyErr_Occurred()) PyErr_SetString(not_served, "this call");
    if (saved_memory != NONE) forget(saved_memory);
    forget(saved);
    forget(record);
    return outputs;
}

/* The gradients of all operands, None for those that a kernel has not computed. */
static PyObject *as_gradients(const Kernel *kernel, PyObject **results, int64_t n_operands) {
    PyObject *gradients = PyTuple_New(n_operands);
    for (int64_t i = 0; gradients && i < n_operands; i++) {
        PyObject *gradient = NONE;
        for (int64_t k = 0; k < kernel->n_results; k++)
            if (kernel->results[k].operand == i) gradient = results[k];
        PyTuple_SetItem(gradients, i, new_reference(gradient));
    }
    forget_all(results, kernel->n_results);
    return gradients;
}

/* A backward call: the saved tensors of a forward call, and the gradients of its outputs. */
typedef struct {
    PyObject *tensors[MAX_TENSORS]; /* operands, then gradients */
    int64_t n, n_operands, needed;
    const int64_t *record;
    PyObject *saved_memory;
} BackwardCall;

/* Whether the tensors of a backward call fit a plan; prepares the call. The record of the forward
 * call has the layout of operands that were not saved, and the sizes that saved ones still need to
 * have: hooks may have changed them. */
static bool matches_backward(const Backward *plan, const BackwardCall *backward, Call *call) {
    if (plan->needed != backward->needed || plan->n_tensors != backward->n) return false;
    const int64_t *counts = backward->record + 1, *lengths = counts + backward->n_operands;
    for (int64_t i = 0; i < backward->n_operands; i++) {
        int64_t rank = lengths[0];
        const View recorded = {NULL, lengths + 1, lengths + 1 + rank, rank};
        call->views[i] = recorded;
        call->counts[i] = counts[i];
        if (!fits(backward->tensors[i], &plan->layouts[i], &call->views[i])) return false;
        if (!has_sizes_of(&call->views[i], &recorded)) return false;
        lengths += 1 + 2 * rank;
    }
    for (int64_t i = backward->n_operands; i < backward->n; i++)
        if (!fits(backward->tensors[i], &plan->layouts[i], &call->views[i])) return false;
    call->n_tensors = backward->n;
    return prepare(call, &plan->kernel);
}

/* Runs the backward kernel of a plan that fits the tensors in their layout. */
static int run_backward_plans(const PlanObject *plan, const BackwardCall *backward, PyObject **gradients) {
    for (const struct Link *link = plan->backward; link; link = link->next) {
        const Kernel *kernel = &link->backward.kernel;
        PyObject *results[MAX_TENSORS];
        Call call;
        void *data = NULL;
        if (!matches_backward(&link->backward, backward, &call)) continue;
        if (!fits_saved(&plan->forward.kernel, backward->saved_memory, backward->record[0], &data)) return NOT_SERVED;
        int outcome = run(kernel, &call, data, results, true);
        if (outcome == DONE) *gradients = as_gradients(kernel, results, backward->n_operands);
        return outcome;
    }
    return NOT_SERVED;
}

/* The same; if no plan fits, with contiguous copies of gradients. */
static int run_backward(const PlanObject *plan, BackwardCall *backward, PyObject **gradients) {
    int outcome = run_backward_plans(plan, backward, gradients);
    if (outcome != NOT_SERVED) return outcome;
    BackwardCall packed = *backward;
    PyObject *copies[MAX_TENSORS];
    int64_t n_copies = 0;
    for (int64_t i = backward->n_operands; i < backward->n; i++) {
        if (is_packed(backward->tensors[i])) continue;
        PyObject *copy = copy_by(contiguous, backward->tensors[i]);
        if (!copy) {
            forget_all(copies, n_copies);
            return PyErr_Occurred() ? FAILED : NOT_SERVED;
        }
        packed.tensors[i] = copies[n_copies++] = copy;
    }
    if (n_copies) outcome = run_backward_plans(plan, &packed, gradients);
    forget_all(copies, n_copies);
    return outcome;
}

/* backward(ctx, *gradients) of a Function. If no plan fits a call, Python may add one, or else runs
 * the call. */
static PyObject *backward(PyObject *self, PyObject *const *arguments, Py_ssize_t n) {
    PlanObject *plan = (PlanObject *)self;
    BackwardCall call = {.n_operands = plan->forward.n_operands, .n = plan->forward.n_operands + n - 1};
    /* Unpacked once: hooks that offload or recompute what is saved refuse a second time. */
    PyObject *saved = PyObject_GetAttr(arguments[0], saved_tensors), *found = NULL, *added = NULL;
    PyObject *needs = saved ? PyObject_GetAttr(arguments[0], needs_input_grad) : NULL;
    PyObject *record = needs ? PyObject_GetAttr(arguments[0], call_record) : NULL;
    if (!record) goto end;
    PyObject *given[4 + MAX_TENSORS] = {plan->context, saved, needs, record};
    for (int64_t i = 1; i < n; i++) given[3 + i] = arguments[i];
    int outcome = NOT_SERVED;
    if (PyTuple_Size(saved) == call.n_operands + 1 && !torch.grad_mode_is_enabled() && !is_traced(current_level)) {
        for (int64_t i = 0; i < call.n_operands; i++) {
            call.tensors[i] = PyTuple_GetItem(saved, i);
            if (PyTuple_GetItem(needs, i) == TRUE) call.needed |= (int64_t)1 << i;
        }
        for (int64_t i = call.n_operands; i < call.n; i++) call.tensors[i] = arguments[i - call.n_operands + 1];
        call.record = (const int64_t *)PyBytes_AsString(record);
        call.saved_memory = PyTuple_GetItem(saved, call.n_operands);
        outcome = run_backward(plan, &call, &found);
        if (outcome == NOT_SERVED && !(added = invoke_with(learn_backward, self, given, 3 + n))) goto end;
        if (added == TRUE) outcome = run_backward(plan, &call, &found);
    }
    if (outcome == NOT_SERVED) found = invoke(slow_backward, given, 3 + n);
end:
    forget(added);
    forget(saved);
    forget(needs);
    forget(record);
    return found;
}

static PyMethodDef of_norm = {"norm", call_norm, METH_FASTCALL | METH_KEYWORDS, NULL};
static PyMethodDef of_forward = {"forward", forward, METH_FASTCALL, NULL};
static PyMethodDef of_backward = {"backward", backward, METH_FASTCALL, NULL};

/* The sizes of encoded structures, which Python compares with its own. */
EXPORTED const int64_t metanorm_sizes[] = {sizeof(Torch), sizeof(Forward), sizeof(Backward)};

EXPORTED int metanorm_begin(const Torch *found, PyObject *learn, PyObject *slow, PyObject *failure,
                            PyObject *refusal) {
    torch = *found;
    learn_backward = new_reference(learn);
    slow_backward = new_reference(slow);
    raise_failure = new_reference(failure);
    not_served = new_reference(refusal);
    current_level = PyUnicode_InternFromString("_current_level");
    to_save = PyUnicode_InternFromString("to_save");
    saved_tensors = PyUnicode_InternFromString("saved_tensors");
    needs_input_grad = PyUnicode_InternFromString("needs_input_grad");
    call_record = PyUnicode_InternFromString("call_record");
    clone = PyUnicode_InternFromString("clone");
    contiguous = PyUnicode_InternFromString("contiguous");
    return make_types();
}

/* A child of a fork has one thread. */
EXPORTED void metanorm_forked(void) { one_thread = 1; }

EXPORTED PyObject *metanorm_norm(PyObject *slow) {
    NormObject *norm = (NormObject *)PyType_GenericAlloc(norm_type, 0);
    if (norm) norm->slow = new_reference(slow);
    return (PyObject *)norm;
}

/* The functions of a norm and of a plan, as Python objects. */
EXPORTED PyObject *metanorm_function(PyObject *norm) { return PyCFunction_NewEx(&of_norm, norm, NULL); }
EXPORTED PyObject *metanorm_forward(PyObject *plan) { return PyCFunction_NewEx(&of_forward, plan, NULL); }
EXPORTED PyObject *metanorm_backward(PyObject *plan) { return PyCFunction_NewEx(&of_backward, plan, NULL); }

EXPORTED PyObject *metanorm_plan(const Forward *forward_plan, PyObject *context, PyObject *results) {
    PlanObject *plan = (PlanObject *)PyType_GenericAlloc(plan_type, 0);
    if (!plan) return NULL;
    plan->forward = *forward_plan;
    for (int64_t i = 0; i < plan->forward.n_arguments; i++)
        if (plan->forward.arguments[i].constant) Py_IncRef(plan->forward.arguments[i].constant);
    plan->context = new_reference(context);
    plan->results = new_reference(results);
    return (PyObject *)plan;
}

/* Adds a plan in front of those of a norm; `apply` is that of its Function of autograd. Returns the
 * context of the plan that was evicted for it, or None. */
EXPORTED PyObject *metanorm_add(PyObject *self, PyObject *added, PyObject *apply) {
    NormObject *norm = (NormObject *)self;
    PlanObject *plan = (PlanObject *)new_reference(added), **end = &norm->plans;
    plan->apply = new_reference(apply);
    plan->next = norm->plans;
    norm->plans = plan;
    for (int i = 0; i < MAX_PLANS && *end; i++) end = &(*end)->next;
    PyObject *evicted = new_reference(*end ? (*end)->context : NONE);
    drop_plans(end);
    return evicted;
}

/* Adds a plan for the backward pass. None is ever evicted: another thread may be using it. */
EXPORTED int metanorm_add_backward(PyObject *plan, const Backward *backward_plan) {
    struct Link **end = &((PlanObject *)plan)->backward;
    for (int i = 0; *end; i++, end = &(*end)->next)
        if (i == MAX_PLANS) return 0;
    struct Link *link = calloc(1, sizeof *link);
    if (!link) return 0;
    link->backward = *backward_plan;
    *end = link;
    return 1;
}
