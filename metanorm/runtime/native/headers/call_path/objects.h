/* Plans and norms as Python objects, so that the garbage collector frees them. */

typedef struct PlanObject {
    int64_t header[2]; /* of every Python object */
    Forward forward;
    PyObject *context; /* what Python keeps of the plan */
    PyObject *results; /* the type of several outputs, or None */
    PyObject *apply;   /* of the Function behind which autograd has this plan */
    struct Link {
        Backward backward;
        struct Link *next;
    } *backward;
    struct PlanObject *next;
} PlanObject;

typedef struct {
    int64_t header[2];
    PlanObject *plans; /* the most recently used one is first */
    PyObject *slow;
} NormObject;

static PyObject *plan_type, *norm_type;

#define VISIT(member)                                     \
    if (member) {                                         \
        int answer = visit((PyObject *)(member), state);   \
        if (answer) return answer;                        \
    }

static int visit_plan(PyObject *self, visitproc *visit, void *state) {
    PlanObject *plan = (PlanObject *)self;
    VISIT(type_of(self))
    VISIT(plan->context)
    VISIT(plan->results)
    VISIT(plan->apply)
    for (int64_t i = 0; i < plan->forward.n_arguments; i++) VISIT(plan->forward.arguments[i].constant)
    return 0;
}

static void drop(PyObject **member) {
    PyObject *object = *member;
    *member = NULL;
    forget(object);
}

static int clear_plan(PyObject *self) {
    PlanObject *plan = (PlanObject *)self;
    drop(&plan->context);
    drop(&plan->results);
    drop(&plan->apply);
    for (int64_t i = 0; i < plan->forward.n_arguments; i++) drop(&plan->forward.arguments[i].constant);
    return 0;
}

static void free_object(PyObject *self) {
    PyObject *type = type_of(self);
    PyObject_GC_Del(self);
    forget(type);
}

static void free_plan(PyObject *self) {
    PyObject_GC_UnTrack(self);
    clear_plan(self);
    for (struct Link *link = ((PlanObject *)self)->backward, *next; link; link = next) {
        next = link->next;
        free(link);
    }
    free_object(self);
}

static int visit_norm(PyObject *self, visitproc *visit, void *state) {
    NormObject *norm = (NormObject *)self;
    VISIT(type_of(self))
    VISIT(norm->slow)
    for (PlanObject *plan = norm->plans; plan; plan = plan->next) VISIT(plan)
    return 0;
}

/* Forgets the plans of a list. */
static void drop_plans(PlanObject **list) {
    while (*list) {
        PlanObject *plan = *list;
        *list = plan->next;
        plan->next = NULL;
        forget((PyObject *)plan);
    }
}

static int clear_norm(PyObject *self) {
    drop_plans(&((NormObject *)self)->plans);
    drop(&((NormObject *)self)->slow);
    return 0;
}

static void free_norm(PyObject *self) {
    PyObject_GC_UnTrack(self);
    clear_norm(self);
    free_object(self);
}

static int make_types(void) {
    PyType_Slot of_plan[] = {
        {Py_tp_traverse, visit_plan}, {Py_tp_clear, clear_plan}, {Py_tp_dealloc, free_plan}, {0, NULL}};
    PyType_Slot of_norm[] = {
        {Py_tp_traverse, visit_norm}, {Py_tp_clear, clear_norm}, {Py_tp_dealloc, free_norm}, {0, NULL}};
    PyType_Spec plan = {"metanorm.Plan", sizeof(PlanObject), 0, Py_TPFLAGS_HAVE_GC, of_plan};
    PyType_Spec norm = {"metanorm.Plans", sizeof(NormObject), 0, Py_TPFLAGS_HAVE_GC, of_norm};
    plan_type = PyType_FromSpec(&plan);
    norm_type = PyType_FromSpec(&norm);
    return plan_type && norm_type;
}
