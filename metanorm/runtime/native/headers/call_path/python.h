/* What the call path needs of Python's limited API, which is the same from 3.10 on.
 *
 * Declared here, so that a C compiler alone can build it: the headers of Python are not installed
 * everywhere, and a library that includes them would serve one version.
 */
#include <stddef.h>
#include <stdint.h>

typedef struct _object PyObject;
typedef ptrdiff_t Py_ssize_t;
typedef struct {
    const char *name;
    void *function;
    int flags;
    const char *doc;
} PyMethodDef;

#define METH_FASTCALL 0x0080
#define METH_KEYWORDS 0x0002

extern char _Py_NoneStruct[], _Py_TrueStruct[];
#define NONE ((PyObject *)_Py_NoneStruct)
#define TRUE ((PyObject *)_Py_TrueStruct)

extern PyObject *PyExc_RuntimeError;

void Py_IncRef(PyObject *);
void Py_DecRef(PyObject *);
PyObject *PyCFunction_NewEx(PyMethodDef *, PyObject *self, PyObject *module);
PyObject *PyObject_GetAttr(PyObject *, PyObject *name);
int PyObject_SetAttr(PyObject *, PyObject *name, PyObject *value);
PyObject *PyObject_Call(PyObject *, PyObject *arguments, PyObject *keywords);
PyObject *PyObject_CallNoArgs(PyObject *);
int PyObject_RichCompareBool(PyObject *, PyObject *, int operation);
#define Py_EQ 2
PyObject *PyTuple_New(Py_ssize_t);
PyObject *PyTuple_GetItem(PyObject *, Py_ssize_t);
int PyTuple_SetItem(PyObject *, Py_ssize_t, PyObject *);
Py_ssize_t PyTuple_Size(PyObject *);
PyObject *PyDict_GetItem(PyObject *, PyObject *key);
PyObject *PyDict_New(void);
int PyDict_SetItem(PyObject *, PyObject *key, PyObject *value);
PyObject *PyBytes_FromStringAndSize(const char *, Py_ssize_t);
char *PyBytes_AsString(PyObject *);
PyObject *PyLong_FromLongLong(long long);
PyObject *PyUnicode_InternFromString(const char *);
double PyFloat_AsDouble(PyObject *);
long long PyLong_AsLongLong(PyObject *);
PyObject *PyErr_Occurred(void);
void PyErr_Clear(void);
void PyErr_SetString(PyObject *, const char *);
int PyErr_ExceptionMatches(PyObject *);
void *PyEval_SaveThread(void);
void PyEval_RestoreThread(void *);

/* Types with members that the garbage collector sees. */
typedef int visitproc(PyObject *, void *);
typedef struct {
    int slot;
    void *function;
} PyType_Slot;
typedef struct {
    const char *name;
    int size, item_size;
    unsigned int flags;
    PyType_Slot *slots;
} PyType_Spec;
#define Py_TPFLAGS_HAVE_GC (1u << 14)
#define Py_tp_clear 51
#define Py_tp_dealloc 52
#define Py_tp_traverse 71
PyObject *PyType_FromSpec(PyType_Spec *);
PyObject *PyType_GenericAlloc(PyObject *type, Py_ssize_t);
void PyObject_GC_UnTrack(void *);
void PyObject_GC_Del(void *);

static inline PyObject *new_reference(PyObject *o) {
    Py_IncRef(o);
    return o;
}

static inline void forget(PyObject *o) {
    if (o) Py_DecRef(o);
}

/* The arguments of a call as a tuple of their own. */
static PyObject *packed(PyObject *const *items, Py_ssize_t n) {
    PyObject *tuple = PyTuple_New(n);
    if (!tuple) return NULL;
    for (Py_ssize_t i = 0; i < n; i++) PyTuple_SetItem(tuple, i, new_reference(items[i]));
    return tuple;
}

static PyObject *invoke(PyObject *function, PyObject *const *items, Py_ssize_t n) {
    PyObject *arguments = packed(items, n);
    PyObject *result = arguments ? PyObject_Call(function, arguments, NULL) : NULL;
    forget(arguments);
    return result;
}

/* The same with one argument before the others. */
static PyObject *invoke_with(PyObject *function, PyObject *first, PyObject *const *items, Py_ssize_t n) {
    PyObject *arguments = PyTuple_New(n + 1), *result = NULL;
    if (!arguments) return NULL;
    PyTuple_SetItem(arguments, 0, new_reference(first));
    for (Py_ssize_t i = 0; i < n; i++) PyTuple_SetItem(arguments, i + 1, new_reference(items[i]));
    result = PyObject_Call(function, arguments, NULL);
    forget(arguments);
    return result;
}

/* The same with arguments by name: their values are behind the `n` others. */
static PyObject *invoke_named(PyObject *function, PyObject *const *items, Py_ssize_t n, PyObject *names) {
    if (!names) return invoke(function, items, n);
    PyObject *arguments = packed(items, n), *named = PyDict_New(), *result = NULL;
    for (Py_ssize_t i = 0; named && i < PyTuple_Size(names); i++)
        if (PyDict_SetItem(named, PyTuple_GetItem(names, i), items[n + i])) goto end;
    if (arguments && named) result = PyObject_Call(function, arguments, named);
end:
    forget(arguments);
    forget(named);
    return result;
}
