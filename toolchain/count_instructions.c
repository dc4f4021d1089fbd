/* A plugin of qemu's that counts the instructions a program executes.
 *
 * Owns: the count, and a line for each mark: "LABEL COUNT" in the file given by out=FILE, and the
 * total under label 0 at the end. A program marks by getpriority(MARK, LABEL), which every C
 * library has, which needs no rights, and which fails with EINVAL and no other effect.
 *
 * qemu 7.2 adds to the counter without a lock: count with one thread. The functions of qemu are
 * declared here, as in its qemu-plugin.h of API version 1: no package has that header alone.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))
#define MARK 0x5556

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_info;
enum { ADD_U64 = 0 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_trans_cb(
    plugin_id id, void (*translated)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(
    struct qemu_plugin_tb *block, int operation, void *counter, uint64_t value);
void qemu_plugin_register_vcpu_syscall_cb(
    plugin_id id,
    void (*called)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                   uint64_t, uint64_t, uint64_t));
void qemu_plugin_register_atexit_cb(plugin_id id, void (*ended)(plugin_id, void *), void *data);

EXPORTED int qemu_plugin_version = 1;

static uint64_t executed;
static FILE *out;

static void note(uint64_t label) {
    fprintf(out, "%" PRIu64 " %" PRIu64 "\n", label, executed);
    fflush(out);
}

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(
        block, ADD_U64, &executed, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned processor, int64_t number, uint64_t first, uint64_t label,
                   uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)processor, (void)number, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (first == MARK) note(label);
}

static void ended(plugin_id id, void *data) {
    (void)id, (void)data;
    note(0);
}

EXPORTED int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int count,
                                 char **given) {
    (void)info;
    for (int i = 0; i < count; i++)
        if (strncmp(given[i], "out=", 4) == 0) out = fopen(given[i] + 4, "w");
    if (!out) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
