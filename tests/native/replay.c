/* Replays recorded calls of a kernel, outside of Python, for the sanitizers of the C compiler.
 *
 * Every tensor lies in a block of memory of its own that is exactly as long as its storage, so that
 * AddressSanitizer sees the first byte that is read or written beyond it. `GOMP_parallel` is
 * here, on POSIX threads, since ThreadSanitizer does not see how the threads of libgomp wait for
 * each other. Compiled together with the kernel; -DENTRY=forward or backward.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int ENTRY(const void *call);

static __thread int thread_number = 0, thread_count = 1;
int omp_get_thread_num(void) { return thread_number; }
int omp_get_num_threads(void) { return thread_count; }

typedef struct {
    void (*body)(void *);
    void *data;
    int number, count;
} part;

static void *work(void *part_) {
    const part *own = part_;
    thread_number = own->number, thread_count = own->count;
    own->body(own->data);
    return NULL;
}

void GOMP_parallel(void (*body)(void *), void *data, unsigned count, unsigned flags) {
    (void)flags;
    const int threads = count ? (int)count : 1;
    pthread_t *thread = malloc((size_t)threads * sizeof *thread);
    part *parts = malloc((size_t)threads * sizeof *parts);
    for (int i = 0; i < threads; i++) {
        parts[i] = (part){body, data, i, threads};
        if (pthread_create(thread + i, NULL, work, parts + i)) abort();
    }
    for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
    free(thread), free(parts);
}

static int64_t number(FILE *file) {
    int64_t found;
    if (fread(&found, sizeof found, 1, file) != 1) abort();
    return found;
}

static char *block(FILE *file, int64_t bytes) {
    char *memory = malloc((size_t)bytes);
    if (bytes && fread(memory, 1, (size_t)bytes, file) != (size_t)bytes) abort();
    return memory;
}

int main(int argc, char **names) {
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(names[i], "rb");
        if (!file) return perror(names[i]), 3;
        const int64_t expected = number(file), size = number(file);
        char *call = block(file, size);
        const int64_t tensors = number(file);
        char **memory = malloc((size_t)tensors * sizeof *memory);
        for (int64_t t = 0; t < tensors; t++) {
            const int64_t at = number(file), begin = number(file), bytes = number(file);
            memory[t] = block(file, bytes);
            const int64_t address = (int64_t)(intptr_t)(memory[t] + begin);
            memcpy(call + at, &address, sizeof address);
        }
        fclose(file);
        const int outcome = ENTRY(call);
        if (outcome != expected) return fprintf(stderr, "%s: returned %d\n", names[i], outcome), 4;
        for (int64_t t = 0; t < tensors; t++) free(memory[t]);
        free(memory), free(call);
    }
    return 0;
}
