/* kernels.h - the kernels of the tests as PTX, for drivers that compile it; the software driver knows them by name.

   Each works with any number of blocks and threads. sum32 wants one thread; spin waits that many nanoseconds. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <string.h>

/* %r3 = this thread's first index, %r4 = number of threads; the body sees its index in %r3 and byte offset in %rd9. */
#define KERNEL_REGISTERS ".reg .pred %p; .reg .b32 %r<12>; .reg .f32 %f<6>; .reg .b64 %rd<10>;\n"
#define KERNEL_POINTER(register, parameter) \
    "ld.param.u64 " register ", [" parameter "]; cvta.to.global.u64 " register ", " register ";\n"
#define KERNEL_LOOP(body) \
    "mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x; mov.u32 %r5, %tid.x; mad.lo.u32 %r3, %r3, %r4, %r5;\n" \
    "mov.u32 %r5, %nctaid.x; mul.lo.u32 %r4, %r4, %r5;\n" \
    "LOOP: setp.ge.u32 %p, %r3, %r2; @%p bra END;\n" \
    "mul.wide.u32 %rd9, %r3, 4;\n" body "add.u32 %r3, %r3, %r4; bra LOOP;\n" \
    "END: ret; }\n"

static const char *const kernel_texts[] = {
    ".version 6.4\n.target sm_75\n.address_size 64\n",
    /* dst[i] = value */
    ".visible .entry fill32(.param .u64 dst, .param .u32 value, .param .u32 n)\n{ " KERNEL_REGISTERS
    KERNEL_POINTER("%rd1", "dst") "ld.param.u32 %r1, [value]; ld.param.u32 %r2, [n];\n"
    KERNEL_LOOP("add.u64 %rd4, %rd1, %rd9; st.global.u32 [%rd4], %r1;\n"),
    /* dst[i] = src[i] */
    ".visible .entry copy32(.param .u64 dst, .param .u64 src, .param .u32 n)\n{ " KERNEL_REGISTERS
    KERNEL_POINTER("%rd1", "dst") KERNEL_POINTER("%rd2", "src") "ld.param.u32 %r2, [n];\n"
    KERNEL_LOOP("add.u64 %rd4, %rd2, %rd9; ld.global.u32 %r6, [%rd4];\n"
                "add.u64 %rd4, %rd1, %rd9; st.global.u32 [%rd4], %r6;\n"),
    /* dst[i] += value */
    ".visible .entry add32(.param .u64 dst, .param .u32 value, .param .u32 n)\n{ " KERNEL_REGISTERS
    KERNEL_POINTER("%rd1", "dst") "ld.param.u32 %r1, [value]; ld.param.u32 %r2, [n];\n"
    KERNEL_LOOP("add.u64 %rd4, %rd1, %rd9; ld.global.u32 %r6, [%rd4];\n"
                "add.u32 %r6, %r6, %r1; st.global.u32 [%rd4], %r6;\n"),
    /* y[i] = a * x[i] + y[i], in float, rounded twice so that every machine gets the same bits */
    ".visible .entry axpy(.param .u64 y, .param .u64 x, .param .f32 a, .param .u32 n)\n{ " KERNEL_REGISTERS
    KERNEL_POINTER("%rd1", "y") KERNEL_POINTER("%rd2", "x") "ld.param.f32 %f1, [a]; ld.param.u32 %r2, [n];\n"
    KERNEL_LOOP("add.u64 %rd4, %rd2, %rd9; ld.global.f32 %f2, [%rd4]; mul.rn.f32 %f2, %f2, %f1;\n"
                "add.u64 %rd4, %rd1, %rd9; ld.global.f32 %f3, [%rd4]; add.rn.f32 %f3, %f3, %f2;\n"
                "st.global.f32 [%rd4], %f3;\n"),
    /* dst[i] = a[i] * b[i], in float */
    ".visible .entry mul(.param .u64 dst, .param .u64 a, .param .u64 b, .param .u32 n)\n{ " KERNEL_REGISTERS
    KERNEL_POINTER("%rd1", "dst") KERNEL_POINTER("%rd2", "a") KERNEL_POINTER("%rd3", "b") "ld.param.u32 %r2, [n];\n"
    KERNEL_LOOP("add.u64 %rd4, %rd2, %rd9; ld.global.f32 %f1, [%rd4]; add.u64 %rd4, %rd3, %rd9;\n"
                "ld.global.f32 %f2, [%rd4]; mul.rn.f32 %f1, %f1, %f2; add.u64 %rd4, %rd1, %rd9;\n"
                "st.global.f32 [%rd4], %f1;\n"),
    /* errors[0] += how many of src[i] are not value */
    ".visible .entry check32(.param .u64 errors, .param .u64 src, .param .u32 value, .param .u32 n)\n{ "
    KERNEL_REGISTERS KERNEL_POINTER("%rd1", "errors") KERNEL_POINTER("%rd2", "src")
    "ld.param.u32 %r1, [value]; ld.param.u32 %r2, [n];\n"
    KERNEL_LOOP("add.u64 %rd4, %rd2, %rd9; ld.global.u32 %r6, [%rd4]; setp.ne.u32 %p, %r6, %r1;\n"
                "@%p red.global.add.u32 [%rd1], 1;\n"),
    /* out[0] = the sum of in[i]; one block of one thread */
    ".visible .entry sum32(.param .u64 out, .param .u64 in, .param .u32 n)\n{ " KERNEL_REGISTERS
    KERNEL_POINTER("%rd1", "out") KERNEL_POINTER("%rd2", "in") "ld.param.u32 %r2, [n]; mov.u32 %r6, 0;\n"
    "mov.u32 %r3, 0;\nLOOP: setp.ge.u32 %p, %r3, %r2; @%p bra END; mul.wide.u32 %rd9, %r3, 4;\n"
    "add.u64 %rd4, %rd2, %rd9; ld.global.u32 %r7, [%rd4]; add.u32 %r6, %r6, %r7; add.u32 %r3, %r3, 1; bra LOOP;\n"
    "END: st.global.u32 [%rd1], %r6; ret; }\n",
    ".visible .entry spin(.param .u64 ns)\n{ " KERNEL_REGISTERS
    "ld.param.u64 %rd1, [ns]; mov.u64 %rd2, %globaltimer;\n"
    "LOOP: mov.u64 %rd3, %globaltimer; sub.u64 %rd3, %rd3, %rd2; setp.lt.u64 %p, %rd3, %rd1; @%p bra LOOP; ret; }\n"};

/* The whole module; not for several threads at once. */
__attribute__((unused)) static const char *kernels_ptx(void)
{
    static char text[8192];
    size_t i, length = 0;
    for (i = 0; i < sizeof kernel_texts / sizeof kernel_texts[0]; i++) {
        const size_t piece = strlen(kernel_texts[i]);
        memcpy(text + length, kernel_texts[i], piece + 1);
        length += piece;
    }
    return text;
}

#endif /* KERNELS_H */
